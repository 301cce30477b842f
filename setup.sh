# shellcheck shell=bash
# What start_training.sh and run_tests.sh share; sourced in the project's folder. Needs git, a
# Python from 3.10 to 3.12 and a package index, nothing else.
#
# Each function that installs holds a lock on this file, since a boot script and a person may start
# at the same time; it runs in a subshell, and the lock ends with it.

UV_VERSION=0.13.9
# Torch is large and pods are slow: half a minute without a byte is no failure yet.
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"

note() { printf 'bespoke: %s\n' "$*"; }

# Wait for whoever else is setting up. The caller opens file 9.
lock() {
  flock --nonblock 9 && return
  note "waiting for another set-up of this folder to end"
  flock 9
}

# uv from the machine where it has one, else from the package index into .uv, apart from anything
# of the person's own.
find_uv() {
  rm -rf .uv.part
  if command -v uv >/dev/null 2>&1; then
    UV=uv
    return
  fi
  UV=.uv/bin/uv
  [ -x "$UV" ] && return
  note "installing uv $UV_VERSION"
  # Debian's python3 may come without pip or venv: either is enough.
  if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
      --target .uv.part "uv==$UV_VERSION"
  elif python3 -m venv .uv.part 2>/dev/null; then
    .uv.part/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
  else
    note "python3 has neither pip nor venv. Install one: apt-get install python3-venv"
    exit 2
  fi
  rm -rf .uv
  mv .uv.part .uv
}

# install NAME: put the locked set locks/NAME.txt into .venv, once for each content of that file.
install() (
  lock
  stamp=".venv/.installed-$1-$(cksum <"locks/$1.txt" | tr ' ' -)"
  [ -e "$stamp" ] && exit
  find_uv
  if [ ! -x .venv/bin/python ]; then
    note "making the virtual environment .venv"
    "$UV" venv --quiet --python '>=3.10,<3.13' .venv || {
      note "no Python from 3.10 to 3.12 found: torch 2.10 and xformers need one. Install it first"
      exit 2
    }
  fi
  note "installing the $1's packages (locks/$1.txt)"
  "$UV" pip install --quiet --python .venv/bin/python --require-hashes -r "locks/$1.txt" || {
    note "the $1's packages could not be installed: see above. Is the package index reachable?"
    exit 2
  }
  # The `bespoke` command, in any folder once .venv is activated.
  for packages in .venv/lib/python3.*/site-packages; do
    printf '%s\n' "$PWD" >"$packages/bespoke.pth"
  done
  printf '#!/bin/sh\nexec "%s/.venv/bin/python" -m bespoke "$@"\n' "$PWD" >.venv/bin/bespoke
  chmod +x .venv/bin/bespoke
  touch "$stamp"
) 9<setup.sh

# Check out the pinned sd-scripts, or say what to do where it cannot be had.
fetch_trainer() (
  lock
  [ -f vendor/sd-scripts/train_network.py ] && exit
  note "fetching the trainer (git submodule vendor/sd-scripts)"
  git submodule update --init vendor/sd-scripts >&2 || true
  [ -f vendor/sd-scripts/train_network.py ] && exit
  note "vendor/sd-scripts: the trainer could not be fetched. Is this a git clone, and can the address"
  note "in .gitmodules be reached? ./start_training.sh --rehearse needs neither"
  exit 1
) 9<setup.sh
