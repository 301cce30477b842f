#!/usr/bin/env bash
# By hand: the README's two commands in a fresh clone, in an empty folder with an empty home, timed.
# Needs a package index, and 10 GB of disk for the second command.
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
timed ./run_tests.sh "$@"
printf '\nleft in the home: %s\n' "$(find "$place/home" -mindepth 1 -maxdepth 2 -printf '%P ')"
git status --short | grep . && { echo "FAILED: the clone is not clean"; exit 1; }
echo "all as it should be"
