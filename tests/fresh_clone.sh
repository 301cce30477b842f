#!/usr/bin/env bash
# By hand: the README's two commands in a fresh clone, in an empty folder with an empty home, timed,
# and two boots of one pod. Needs a package index, and 10 GB of disk for the second command.
#
#   tests/fresh_clone.sh [ARGUMENTS FOR pytest]
#
# UV_CACHE_DIR is passed on: with a warm cache the times are of everything but the downloads.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
here=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
mkdir "$place/home" "$place/empty"
git clone --quiet "$here" "$place/empty/bespoke"
cd "$place/empty/bespoke"

# Nothing of this shell's but where programs and certificates are. The submodule comes from the one
# that is checked out here, if any: the fetch is the same, the other address is not always reachable.
clean=(env -i "HOME=$place/home" "PATH=$PATH" "LANG=${LANG:-C.UTF-8}"
  "GIT_CONFIG_COUNT=2" "GIT_CONFIG_KEY_0=protocol.file.allow" "GIT_CONFIG_VALUE_0=always"
  "GIT_CONFIG_KEY_1=url.$here/vendor/sd-scripts.insteadOf"
  "GIT_CONFIG_VALUE_1=$(git config --file .gitmodules submodule.vendor/sd-scripts.url)")
for name in SSL_CERT_FILE SSL_CERT_DIR UV_CACHE_DIR; do
  [ -z "${!name:-}" ] || clean+=("$name=${!name}")
done

timed() {
  printf '\n== %s\n' "$*"
  local begun=$SECONDS
  "${clean[@]}" "$@" >"$place/printed" 2>&1 || {
    tail -40 "$place/printed"
    echo "FAILED after $((SECONDS - begun)) s"
    exit 1
  }
  tail -5 "$place/printed"
  echo "$((SECONDS - begun)) s"
}

timed ./start_training.sh --rehearse
timed ./start_training.sh --rehearse
# A pod's start command never ends: told to once the work is done, it ends with 130.
boot() {
  local begun=$SECONDS code=0
  : >"$place/printed"
  "${clean[@]}" RUNPOD_POD_ID=pod BESPOKE_WORKSPACE="$place/volume" \
    BESPOKE_POD_WHEN_DONE=keep ./start_training.sh --rehearse >"$place/printed" 2>&1 &
  until grep -q "the pod stays up" "$place/printed"; do
    kill -0 $! || { cat "$place/printed"; echo "FAILED: the start command ended"; exit 1; }
    sleep 0.5
  done
  kill -TERM $!
  wait $! || code=$?
  grep -E "attempt|exit code|complete checkpoints" "$place/printed"
  echo "$((SECONDS - begun)) s, ended with $code"
}
printf '\n== a pod boots from nothing, and again\n'
rm -rf .venv .uv
boot
boot

timed ./run_tests.sh "$@"
printf '\nleft in the home: %s\n' "$(find "$place/home" -mindepth 1 -maxdepth 2 -printf '%P ')"
# The submodule here may be a part of the whole; its own changes are its own.
git status --short --ignore-submodules=dirty | grep . && { echo "FAILED: the clone is not clean"; exit 1; }
echo "all as it should be"
