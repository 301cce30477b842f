"""A pod's start command, in an environment like a pod's: real processes, a real HTTP server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tests.rehearsals import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "canary-4f1d9c-key"
REHEARSAL = ("--rehearse", "--experiment", "smoke", "--no-test")
BY_API = "stopping the pod with RunPod's API: "
BY_TOOL = "stopping the pod with runpodctl: "
STAYS = "the pod stays up"
ENDED = "the run ended with exit code"
# Stands for `python -m bespoke.run` once set-up is done: says how it was called, and ends as told.
TOLD_TO_END = """#!/bin/sh
echo "$@" >>"$CALLS"
[ -n "$RUNPOD_API_KEY" ] && echo "the key is here"
exit "$CODE"
"""
# A checkpoint in each attempt, as a preemption leaves it.
CUT_OFF = """#!/bin/sh
echo "$@" >>"$CALLS"
mkdir -p "$BESPOKE_WORKSPACE/output"
touch "$BESPOKE_WORKSPACE/output/name-00000$(wc -l <"$CALLS" | tr -d ' ').safetensors"
echo training
exec sleep 60
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


class Pod:
    """Boots of one pod: its project, its volume, and what the newest boot printed."""

    def __init__(self, place: Path) -> None:
        self.project, self.volume = place / "project", place / "volume"
        self.printed, self.calls_file = place / "printed", place / "calls"
        self.variables = {
            "RUNPOD_POD_ID": "pod123",
            "RUNPOD_API_KEY": CANARY,
            "CODE": "0",
            "BESPOKE_WORKSPACE": str(self.volume),
            "BESPOKE_POD_WHEN_DONE": "keep",
            "BESPOKE_STOP_PATIENCE_S": "0.5",
            "CALLS": str(self.calls_file),
        }

    def patch(self, before: str, after: str) -> None:
        """Change a constant in the project's own copy of pod.py."""
        file = self.project / "bespoke" / "deploy" / "pod.py"
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after), encoding="utf-8")

    def runs(self, script: str) -> None:
        """Let this script stand for .venv's Python."""
        executable(self.project / ".venv/bin/python", script)

    @contextlib.contextmanager
    def boot(self, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        words = ["bash", str(self.project / "start_training.sh"), *arguments]
        how = {"env": {**os.environ, **self.variables, **variables}, "start_new_session": True}
        with self.printed.open("wb") as stream:
            child = subprocess.Popen(words, stdout=stream, stderr=stream, **how)
        try:
            yield child
        finally:
            child.terminate()
            child.wait(timeout=30)
            # Its services end with the pod.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)

    @property
    def text(self) -> str:
        return self.printed.read_text(encoding="utf-8")

    def says(self, words: str) -> str:
        wait_for(lambda: words in self.text)
        return self.text

    def boot_until(self, words: str, *arguments: str, **variables: str) -> str:
        """What a boot printed by the time that it said `words`; it is told to end after that."""
        with self.boot(*arguments, **variables):
            return self.says(words)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


@pytest.fixture
def pod(repository: Path, tmp_path: Path, set_up: Callable[[Path], None]) -> Pod:
    """The project as it is on a pod, set up; its run ends at once with the exit code in CODE."""
    pod = Pod(tmp_path)
    for name in ("bespoke", "experiments", "locks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, pod.project / name, ignore=ignored)
    for name in ("training_config.toml", "dataset_config.toml", "start_training.sh", "setup.sh"):
        shutil.copy(repository / name, pod.project / name)
    set_up(pod.project)
    (pod.project / "vendor/sd-scripts").mkdir(parents=True)
    (pod.project / "vendor/sd-scripts/train_network.py").touch()
    pod.patch('Path("/start.sh")', f'Path("{tmp_path}/start.sh")')
    pod.patch("http.client.HTTPSConnection", "http.client.HTTPConnection")
    pod.patch('"api.runpod.io"', '"127.0.0.1:9"')
    pod.patch("ASK_AGAIN_S = 600", "ASK_AGAIN_S = 2")
    return pod


@pytest.fixture
def told(pod: Pod) -> Pod:
    pod.runs(TOLD_TO_END)
    return pod


def test_a_pod_runs_once_a_boot_and_its_start_command_does_not_end(pod: Pod) -> None:
    with pod.boot(*REHEARSAL) as child:
        assert f"{ENDED} 0" in pod.says(STAYS)
        assert "3 complete checkpoints" in pod.text
        time.sleep(1.5)
        assert child.poll() is None
        child.terminate()
        assert child.wait(timeout=10) == 130
    pod.runs(TOLD_TO_END)
    for _ in range(2):
        assert "attempt 1 of 3" in pod.boot_until(f"{ENDED} 5", CODE="5")


def test_a_pod_needs_nothing_but_python_itself_before_set_up(repository: Path) -> None:
    bare = [sys.executable, "-S", "-c", "import bespoke.deploy.pod"]
    subprocess.run(bare, cwd=repository, check=True, timeout=30)


def test_report_and_tensorboard_are_served_behind_the_token_and_the_image_starts_its_own(
    pod: Pod, tmp_path: Path
) -> None:
    executable(tmp_path / "start.sh", "#!/bin/sh\necho the image is up\n")
    note = f'echo "$0 $* key:$RUNPOD_API_KEY" >>{tmp_path}/served; exec sleep 60'
    pod.runs(f'#!/bin/sh\ncase "$*" in *serve*) {note};; esac\nexit 0\n')
    executable(pod.project / ".venv/bin/tensorboard", f"#!/bin/sh\n{note}\n")
    served = tmp_path / "served"
    assert "the image is up" in pod.boot_until(STAYS, BESPOKE_TENSORBOARD="1")
    assert not served.exists()
    with pod.boot(BESPOKE_REPORT_TOKEN="token-canary-51c0", BESPOKE_TENSORBOARD="1"):
        wait_for(lambda: served.exists() and len(served.read_text("utf-8").splitlines()) == 2)
    report, board = sorted(served.read_text("utf-8").splitlines())
    assert report.endswith("python -m bespoke serve --host 0.0.0.0 --port 8888 key:")
    logs = f"--logdir {pod.volume}/logs --host 0.0.0.0 --port 6006"
    assert board.endswith(f"tensorboard {logs} --path_prefix /token-canary-51c0 key:")
    assert "token-canary" not in pod.text


def test_a_run_that_a_signal_cut_off_goes_on_at_the_next_boot_where_it_was(pod: Pod) -> None:
    with pod.boot(*REHEARSAL, BESPOKE_FAKE_TRAINER_FAULT="hang@3") as child:
        pod.says("epoch 1: ")
        wait_for(lambda: list((pod.volume / "rehearsal/output").glob("*-000001-state/*.pkl")))
        child.terminate()
        assert child.wait(timeout=20) == 130
    assert "stopped by SIGTERM" in pod.text
    assert STAYS not in pod.text
    (first,) = (pod.volume / "rehearsal/output").glob("*-000001.safetensors")
    before = first.stat().st_mtime_ns
    assert "attempt 1 of 3" in pod.boot_until("3 complete checkpoints", *REHEARSAL)
    assert first.stat().st_mtime_ns == before


def test_fresh_is_carried_out_once_and_not_before_anything_was_trained(told: Pod) -> None:
    for code in ("2", "4", "0"):
        told.boot_until(ENDED, "--fresh", "--strict", CODE=code)
    words = [line.removeprefix("-m bespoke.run ") for line in told.calls]
    assert words == ["--fresh --strict", "--fresh --strict", "--strict"]


def test_three_failures_in_a_row_are_the_last(pod: Pod) -> None:
    shutil.move(pod.project / "vendor", pod.volume.parent)
    assert "attempt 1 of 3" in pod.boot_until(f"{ENDED} 2")  # in set-up
    shutil.move(pod.volume.parent / "vendor", pod.project)
    pod.runs(TOLD_TO_END)
    for number, code in enumerate(("4", "137"), 2):
        assert f"attempt {number} of 3" in pod.boot_until(f"{ENDED} {code}", CODE=code)
    assert "not run again after 3 failures" in pod.boot_until(STAYS, CODE="4")
    assert len(pod.calls) == 2
    # Other arguments are counted by themselves.
    assert "attempt 1 of 3" in pod.boot_until(STAYS, "--experiment", "smoke", CODE="4")


def test_preemptions_with_a_new_checkpoint_between_them_are_no_failures(pod: Pod) -> None:
    pod.runs(CUT_OFF)
    for _ in range(4):
        with pod.boot() as child:
            pod.says("training")
            child.kill()
            child.wait()
    assert "attempt 1 of 3" in pod.text
    # Nothing new any more: now they count.
    pod.runs(TOLD_TO_END)
    texts = [pod.boot_until(f"{ENDED} 4", CODE="4") for _ in range(3)]
    assert "attempt 3 of 3" in texts[-1]


class Handler(BaseHTTPRequestHandler):
    """RunPod's address on this machine."""

    status: int
    requests: list[tuple[str, str, object]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, self.headers["Authorization"], body))
        self.send_response(self.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        self.wfile.write(CANARY.encode())


@pytest.fixture
def api(told: Pod) -> Iterator[type[Handler]]:
    Handler.status, Handler.requests = 200, []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        told.patch('"127.0.0.1:9"', f'"127.0.0.1:{server.server_port}"')
        told.variables["BESPOKE_POD_WHEN_DONE"] = "stop"
        yield Handler
        server.shutdown()


def test_the_pod_is_stopped_by_the_api_when_the_work_is_done_or_has_failed(
    told: Pod, api: type[Handler]
) -> None:
    with told.boot(CODE="4") as child:
        told.says(f"{BY_API}accepted")
        assert child.poll() is None
    stop = ("/v2/pods/pod123/action", f"Bearer {CANARY}", {"action": "stop"})
    assert api.requests[0] == stop
    # On the container's own disk, which a stop wipes, only where it is asked for.
    told.variables["BESPOKE_POD_WHEN_DONE"] = ""
    told.boot_until(STAYS)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:  # another file system than /
        told.boot_until(f"{BY_API}accepted", BESPOKE_WORKSPACE=place)


def test_what_the_api_does_not_take_goes_to_runpodctl_and_the_key_is_nowhere(
    told: Pod, api: type[Handler], tmp_path: Path
) -> None:
    api.status = 302
    note = f'#!/bin/sh\necho "$*" >>{tmp_path}/ctl\necho "$RUNPOD_API_KEY"\n'
    tool = executable(tmp_path / "bin/runpodctl", note)
    path = f"{tool.parent}:{os.environ['PATH']}"
    text = told.boot_until(f"{BY_TOOL}accepted", PATH=path)
    assert f"{BY_API}refused (HTTP 302)\n" in text
    assert (tmp_path / "ctl").read_text(encoding="utf-8").startswith("pod stop pod123\n")
    assert "the key is here" not in text
    # Nothing stops it: it asks again, and does not end.
    with told.boot(RUNPOD_API_KEY="two\nlines " + CANARY) as child:
        told.says(f"{BY_API}ValueError\nbespoke: {BY_TOOL}it is missing, failed or took too long")
        wait_for(lambda: told.text.count(BY_TOOL) == 2)
        assert child.poll() is None
    for file in [*told.volume.rglob("*"), told.printed, *told.project.rglob("*")]:
        assert not file.is_file() or CANARY.encode() not in file.read_bytes(), file
