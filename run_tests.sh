#!/usr/bin/env bash
# Set-up, then every test that this machine can run. What cannot run is skipped with its reason,
# and the closing lines say how many and why. Arguments go through to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck source=setup.sh
source ./setup.sh

install orchestrator
install tests
if fetch_trainer; then install trainer; fi

# What some tests need of the system: a browser, a connection pooler, unzip. Where they cannot be
# installed those tests skip, with their reason.
wanted=()
command -v chromium >/dev/null || wanted+=(chromium fonts-dejavu-core)
command -v pgbouncer >/dev/null || [ -x /usr/sbin/pgbouncer ] || wanted+=(pgbouncer)
command -v unzip >/dev/null || wanted+=(unzip)
if [ "${#wanted[@]}" -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  note "installing for the tests: ${wanted[*]}"
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install "${wanted[@]}"; } \
    >/dev/null 2>&1 || note "they could not all be installed"
fi

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/lint-imports
.venv/bin/shellcheck -x ./*.sh tests/*.sh .ci/run
.venv/bin/hadolint Dockerfile
# Two at a time: most tests wait for processes. The model that the trainer's tests start from, 2 GB
# and 40 s, is made once for all.
export BESPOKE_TEST_RANDOM_MODEL="${BESPOKE_TEST_RANDOM_MODEL:-$PWD/.pytest_cache/random-sd15}"
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=12 "$@"
