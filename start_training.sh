#!/usr/bin/env bash
# Set-up, then bespoke.run: on a fresh machine, on a pod as its boot script, and every time after.
# It has no logic of its own: every argument goes through to bespoke.run, and a second start does
# no set-up again.
set -euo pipefail
# Between two commands, and as soon as the one that runs has ended; Python has its own way out.
stopped() { echo "bespoke: stopped by SIG$1: run the same command again to resume" >&2; exit 130; }
for name in INT TERM HUP; do
  # shellcheck disable=SC2064 # each trap has its own name
  trap "stopped $name" "$name"
done
cd "$(dirname "${BASH_SOURCE[0]}")"

# As a pod's start command it may never end: bespoke.deploy.pod sees to that, and starts this script again.
if [ -n "${RUNPOD_POD_ID:-}" ] && [ -z "${BESPOKE_POD_BOOTED:-}" ]; then
  exec python3 -m bespoke.deploy.pod "$@"
fi
# An unpacked package is checked before anything of it is used.
if [ -f SHA256SUMS ] && ! sha256sum --quiet --strict --check SHA256SUMS >&2; then
  echo "bespoke: the files named above are not as they were packed. Unzip the package again, or" >&2
  echo "bespoke: delete SHA256SUMS where you changed them yourself" >&2
  exit 2
fi
# shellcheck source=setup.sh
source ./setup.sh

# Compiled once here, on every core, and not by each start where Python may keep no bytecode: 9 s of
# the trainer's imports instead of 18.
export UV_COMPILE_BYTECODE=1
install orchestrator
# A rehearsal needs neither the trainer nor its 5 GB of packages.
case " $* " in
  *" --rehearse "* | *" --help "* | *" -h "*) ;;
  *)
    fetch_trainer || exit 2
    install trainer
    ;;
esac

exec .venv/bin/python -m bespoke.run "$@"
