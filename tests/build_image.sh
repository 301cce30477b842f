#!/usr/bin/env bash
# By hand: really builds the Dockerfile where there is no Docker engine, and rehearses in the result.
# buildah builds with chroot isolation on a base made by debootstrap; as root, on Debian, with a
# package index. Without the trainer's set, which TRAINER_SET=yes adds (8 GB, and
# three times that of disk for buildah's copies).
#
#   tests/build_image.sh [FOLDER]      FOLDER keeps the base and the images; else all is removed
#   REUSE=1 tests/build_image.sh FOLDER      tries the image that FOLDER has, without building
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

skip() { printf 'skipped: %s\n' "$*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "buildah's chroot isolation is tried as root alone"
for program in buildah debootstrap; do
  command -v "$program" >/dev/null || skip "$program is not installed"
done

if [ "$#" -gt 0 ]; then
  mkdir -p "$1"
  place=$(cd "$1" && pwd)
else
  place=$(mktemp -d)
  trap 'rm -rf "$place"' EXIT
fi
image() { buildah --root "$place/images" --runroot "$place/run" --storage-driver vfs "$@"; }
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*"; exit 1; }

if ! image inspect --type image localhost/base >/dev/null 2>&1; then
  step "a base: Debian's own Python, as small as it gets"
  [ -x "$place/base/usr/bin/python3" ] || debootstrap --variant=minbase \
    --include=python3,python3-venv,ca-certificates bookworm "$place/base" >"$place/debootstrap.log"
  base=$(image from scratch)
  cp -a "$place/base/." "$(image mount "$base")/"
  # This machine's certificates: its package index may be behind one that Debian does not know.
  if [ -n "${SSL_CERT_FILE:-}" ]; then
    cp "$SSL_CERT_FILE" "$(image mount "$base")/etc/ssl/certs/ca-certificates.crt"
  fi
  image config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt "$base"
  image commit --quiet "$base" localhost/base >/dev/null
  image rm "$base" >/dev/null
fi

build() {
  # Docker's format, since OCI's has no SHELL.
  image bud --isolation chroot --format docker --build-arg BASE=localhost/base \
    --build-arg TRAINER_SET="${TRAINER_SET:-no}" \
    --build-arg BESPOKE_COMMIT="$(git rev-parse HEAD)" "$@"
}

if [ -z "${REUSE:-}" ]; then
  step "an empty submodule is named"
  context=$(mktemp -d -p "$place")
  git ls-files -z -- . ':!vendor' | xargs -0 cp --parents -t "$context"
  mkdir -p "$context/vendor/sd-scripts"
  if build --layers --tag localhost/none "$context" >"$place/empty.log" 2>&1; then
    fail "an image without a trainer was built"
  fi
  grep -m 1 "^vendor/sd-scripts is empty: " "$place/empty.log" || fail "it is not named"

  step "the image, with canaries beside what belongs in it"
  cp -a vendor/sd-scripts/. "$context/vendor/sd-scripts/"
  mkdir -p "$context"/{training_data,workspace/output,.venv}
  for file in .env training_data/a.png workspace/output/a.safetensors .venv/key bespoke/.env \
    secret.toml; do
    echo canary-7d1e >"$context/$file"
  done
  mkdir -p "$context/.git" && echo canary-7d1e >"$context/.git/config"
  SECONDS=0
  build --layers --build-arg TRAINER_COMMIT="$(git -C vendor/sd-scripts rev-parse HEAD)" \
    --tag localhost/bespoke "$context" >"$place/build.log" 2>&1 || {
    tail -20 "$place/build.log"
    fail "the build"
  }
  echo "built in $SECONDS s"
  image images --format '{{.Name}} {{.Size}}' localhost/bespoke
fi
image inspect --type image --format '{{.Docker.Config.Labels}}' localhost/bespoke
echo

made=$(image from localhost/bespoke)
root=$(image mount "$made")
if grep -rl canary-7d1e "$root/opt/bespoke" "$root/workspace"; then fail "a canary is in it"; fi
if find "$root" -xdev \( -name uv -o -name gcc -o -name git \) -type f -perm -1 | grep .; then
  fail "a build tool is left"
fi
entry=(tini -g -- bash /opt/bespoke/start_training.sh)
[ "$(image inspect --type image --format '{{.Docker.Config.Entrypoint}}' localhost/bespoke)" \
  = "[${entry[*]}]" ] || fail "another entry point than is tried here"

# No network: what is not there now cannot be had.
inside() { image run --isolation chroot "$@"; }

step "both commits, without git"
inside "$made" -- .venv/bin/python -m bespoke --version

step "no GPU: said at once, and the exit code is not 0"
SECONDS=0
code=0
# Not by the entry point, which would fetch the trainer's set where the image was built without it.
inside "$made" -- env -u HOME .venv/bin/python -m bespoke.run 2>&1 | tee "$place/no-gpu.txt" || code=$?
echo "exit code $code after $SECONDS s"
grep -q "no GPU here" "$place/no-gpu.txt" || fail "it is not said"
[ "$code" -ne 0 ] || fail "a run without pictures or GPU ended well"

for user in 0:0 12345:23456; do
  step "a rehearsal as $user, HOME unset, the project's files read-only to it"
  SECONDS=0
  inside --user "$user" "$made" -- env -u HOME "${entry[@]}" --rehearse \
    --workspace "/workspace/$user" | tail -4
  echo "$SECONDS s"
  [ "$(find "$root/workspace/$user/rehearsal/output" -maxdepth 1 -name '*.safetensors' | wc -l)" = 10 ] \
    || fail "not ten checkpoints"
done
find "$root" -xdev -newer "$place/build.log" -type f -not -path '*/workspace/*' \
  -not -path '*/proc/*' -not -path '*/tmp/*' | grep . && fail "written outside workspace and /tmp"
image rm "$made" >/dev/null

echo
echo "all as it should be"
