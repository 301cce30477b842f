"""A RunPod pod's start command: one counted attempt a boot, then stop the pod, or wait.

A pod starts its command again as soon as that ends, so this one ends only by a signal.
start_training.sh hands over to it before set-up, and it starts that script again as its child: a
set-up that fails counts like any failure. Hence it imports nothing but Python's own library.
ATTEMPTS failures without a new checkpoint between them are the last; one that was cut off counts,
unless by a signal. What is done already, bespoke.run itself says on every boot.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

from bespoke.console import say
from bespoke.errors import InterruptedRunError, reported
from bespoke.files import REPOSITORY, workspace, write_whole
from bespoke.request import parse
from bespoke.signals import handle_signals, raising
from bespoke.trainer.child_process import Group, answer

if TYPE_CHECKING:
    from collections.abc import Sequence

START = ("bash", str(REPOSITORY / "start_training.sh"))
# What the image itself would have started: SSH and Jupyter. Our start command takes its place.
IMAGE_START = Path("/start.sh")
# A pod's ports are open to anyone, so neither is served without BESPOKE_REPORT_TOKEN. Set-up may
# still go on, so each is started again until it is there. TensorBoard prints its address.
SERVICES = {
    "BESPOKE_REPORT_TOKEN": ".venv/bin/python -m bespoke serve --host 0.0.0.0 --port 8888"
    ' >>"$BESPOKE_WORKSPACE/pod/report.log" 2>&1',
    "BESPOKE_TENSORBOARD": '.venv/bin/tensorboard --logdir "$BESPOKE_WORKSPACE/logs" --host 0.0.0.0'
    ' --port 6006 --path_prefix "/$BESPOKE_REPORT_TOKEN" >/dev/null 2>&1',
}
ATTEMPTS = 3
CONNECTION, ADDRESS = http.client.HTTPSConnection, "api.runpod.io"
TIMEOUT_S = 20.0  # for one way of stopping the pod
ASK_AGAIN_S = 600
# As long as a run needs to end the test of an epoch; a pod that is stopped gives less.
PATIENCE_S = 300.0


def boot(arguments: Sequence[str]) -> NoReturn:
    """Services, attempt, stop; only a signal ends it."""
    stop = False
    try:
        try:
            place = workspace(parse(arguments).workspace)
        except SystemExit:  # the attempt will end with 2
            place = workspace(None)
        # Unless it is said, wherever the results outlive the container's disk.
        kept = place.stat().st_dev != Path("/").stat().st_dev
        stop = (os.environ.get("BESPOKE_POD_WHEN_DONE") or ("stop" if kept else "")) == "stop"
        (place / "pod").mkdir(exist_ok=True)
        _serve(place)
        _attempt(arguments, place)
    except Exception as error:  # noqa: BLE001 - ending here would start all over again
        say(f"nothing can be run or counted: {type(error).__name__}: {error}")
    say("stopping the pod" if stop else "the pod stays up, and billed, until you stop it")
    while True:
        if stop:
            _stop_pod(os.environ["RUNPOD_POD_ID"])
        time.sleep(ASK_AGAIN_S)


def _serve(place: Path) -> None:
    """What the image starts, and, without the pod's key, the pages and TensorBoard."""
    if IMAGE_START.exists():
        subprocess.Popen(["/bin/bash", str(IMAGE_START)])
    variables = {**os.environ, "BESPOKE_WORKSPACE": str(place), "RUNPOD_API_KEY": ""}
    for name, command in SERVICES.items():
        if os.environ.get("BESPOKE_REPORT_TOKEN") and os.environ.get(name):
            again = f"while :; do {command}; sleep 15; done"
            subprocess.Popen(["/bin/sh", "-c", again], cwd=REPOSITORY, env=variables)


def _attempt(arguments: Sequence[str], place: Path) -> None:
    """Run unless that is no use; counted before, so that an attempt cut off counts too."""
    name = hashlib.sha256(json.dumps(arguments).encode()).hexdigest()[:16]
    file = place / "pod" / f"{name}.json"
    before: dict[str, Any] = {"failures": 0, "checkpoints": [], "trained": False}
    if file.exists():
        before |= json.loads(file.read_bytes())
    checkpoints = sorted(path.name for path in place.glob("output/*.safetensors"))
    failures = before["failures"] if set(checkpoints) <= set(before["checkpoints"]) else 0
    if failures >= ATTEMPTS:
        say(f"not run again after {failures} failures. To run it again, delete {file}")
        return

    def note(failures: int, *, trained: bool) -> None:
        row = {"failures": failures, "trained": trained, "checkpoints": checkpoints}
        write_whole(file, json.dumps(row) + "\n")

    # A second time, --fresh would put aside what the first one trained.
    words = [word for word in arguments if word != "--fresh" or not before["trained"]]
    say(f"attempt {failures + 1} of {ATTEMPTS}, counted in {file}")
    note(failures + 1, trained=True)
    try:
        code = _run(words)
    except InterruptedRunError:
        note(failures, trained=True)
        raise
    # 2 and 3 come before any training.
    now = {0: 0, 5: 0, 130: failures}.get(code, failures + 1)
    note(now, trained=before["trained"] or code not in (2, 3))
    say(f"the run ended with exit code {code}")


def _run(arguments: Sequence[str]) -> int:
    """The exit code of start_training.sh."""
    environment = {**os.environ, "BESPOKE_POD_BOOTED": "1", "RUNPOD_API_KEY": ""}
    command = [*START, *arguments]
    with Group(command, environment=environment, cwd=Path.cwd(), patience=PATIENCE_S) as group:
        for chunk in group.output():
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        return group.wait()


def _stop_pod(pod: str) -> None:
    """Ask RunPod to stop this pod: its API first, else its command-line tool."""
    key = os.environ.get("RUNPOD_API_KEY", "").strip()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection = CONNECTION(ADDRESS, timeout=TIMEOUT_S)
        connection.request("POST", f"/v2/pods/{quote(pod)}/action", '{"action": "stop"}', headers)
        status = connection.getresponse().status
        said = "accepted" if 200 <= status < 300 else f"refused (HTTP {status})"
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = type(error).__name__  # not its message, which may repeat the key
    say(f"stopping the pod with RunPod's API: {said}")
    if said != "accepted":
        reply = answer(["runpodctl", "pod", "stop", pod], timeout=TIMEOUT_S)
        said = "it is missing, failed or took too long" if reply is None else "accepted"
        say(f"stopping the pod with runpodctl: {said}")


if __name__ == "__main__":
    handle_signals()
    with reported(), raising():
        boot(sys.argv[1:])
