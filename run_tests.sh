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

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/shellcheck -x ./*.sh tests/*.sh .ci/run
.venv/bin/hadolint Dockerfile
exec .venv/bin/python -m pytest "$@"
