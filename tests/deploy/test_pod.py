"""A pod's start command: what a boot runs, counts and stops; one boot is a whole one."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bespoke.deploy import pod
from bespoke.errors import InterruptedRunError
from tests.rehearsals import start, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CANARY = "canary-4f1d9c-key"


class PodEndedError(BaseException):
    """Stands for what ends a pod: nothing is written any more."""


class Boots:
    """Boots of one pod, whose runs end as they are told; `words` are those of each run."""

    def __init__(self, place: Path, patch: pytest.MonkeyPatch, shown: Any) -> None:
        self.volume, self.shown = place / "volume", shown
        self.words: list[list[str]] = []
        self.end: int | BaseException = 0
        variables = {"RUNPOD_POD_ID": "pod123", "RUNPOD_API_KEY": CANARY}
        variables |= {"BESPOKE_WORKSPACE": str(self.volume), "BESPOKE_POD_WHEN_DONE": "keep"}
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setattr(pod, "_run", self.run)
        patch.setattr(pod, "time", SimpleNamespace(sleep=self.sleep))
        patch.setattr(pod, "IMAGE_START", place / "start.sh")
        patch.setattr(pod, "CONNECTION", http.client.HTTPConnection)
        patch.setattr(pod, "ADDRESS", "127.0.0.1:9")

    def run(self, words: list[str]) -> int:
        self.words.append(list(words))
        if isinstance(self.end, int):
            return self.end
        raise self.end

    def sleep(self, seconds: float) -> None:
        raise PodEndedError

    def __call__(self, end: int | BaseException = 0, *arguments: str) -> str:
        self.end = end
        with pytest.raises((PodEndedError, InterruptedRunError)):
            pod.boot(arguments)
        return str(self.shown.readouterr().out)


@pytest.fixture
def boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Boots:
    return Boots(tmp_path, monkeypatch, capsys)


def test_three_failures_without_a_new_checkpoint_are_the_last(boot: Boots) -> None:
    for end in (5, 0, InterruptedRunError("stopped by SIGTERM"), 2):
        assert "attempt 1 of 3" in boot(end)
    assert "attempt 2 of 3" in boot(137)
    assert "attempt 3 of 3" in boot(4)
    text = boot(0)
    assert "not run again after 3 failures" in text
    assert "the pod stays up" in text
    assert len(boot.words) == 6
    # Other arguments are counted by themselves; what trained once is not begun afresh again.
    for end in (2, 4, 0):
        assert "attempt" in boot(end, "--fresh", "--strict")
    assert boot.words[6:] == [["--fresh", "--strict"], ["--fresh", "--strict"], ["--strict"]]
    # A new checkpoint between two preemptions starts the count again.
    (boot.volume / "output").mkdir(parents=True)
    for number in range(4):
        (boot.volume / "output" / f"{number}.safetensors").touch()
        assert "attempt 1 of 3" in boot(PodEndedError())
    assert "attempt 2 of 3" in boot(PodEndedError())


def test_report_and_tensorboard_are_served_behind_the_token_and_the_image_starts_its_own(
    boot: Boots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, str]] = []

    def popen(words: list[str], cwd: Any = None, env: Any = os.environ) -> None:
        started.append((words[-1], env["RUNPOD_API_KEY"]))

    monkeypatch.setattr(pod.subprocess, "Popen", popen)
    monkeypatch.setenv("BESPOKE_TENSORBOARD", "1")
    (tmp_path / "start.sh").touch()
    boot()
    assert started.pop() == (str(tmp_path / "start.sh"), CANARY)
    monkeypatch.setenv("BESPOKE_REPORT_TOKEN", "token")
    boot()
    _, (report, key), (board, other) = started
    assert "-m bespoke serve --host 0.0.0.0 --port 8888" in report
    assert '--port 6006 --path_prefix "/$BESPOKE_REPORT_TOKEN"' in board
    assert key == other == ""


class Api(BaseHTTPRequestHandler):
    """RunPod's address on this machine."""

    status = 200
    requests: list[tuple[str, str, object]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append((self.path, self.headers["Authorization"], body))
        self.send_response(self.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()


def test_the_pod_is_stopped_by_the_api_else_by_runpodctl_where_results_are_kept(
    boot: Boots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Api.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(pod, "ADDRESS", f"127.0.0.1:{server.server_port}")
        # On the container's own disk, which a stop wipes, only where it is asked for.
        monkeypatch.setenv("BESPOKE_POD_WHEN_DONE", "")
        assert "the pod stays up" in boot()
        with tempfile.TemporaryDirectory(dir="/dev/shm") as place:  # another file system than /
            monkeypatch.setenv("BESPOKE_WORKSPACE", place)
            assert "RunPod's API: accepted" in boot(4)
        monkeypatch.setenv("BESPOKE_POD_WHEN_DONE", "stop")
        Api.status = 302
        assert "API: refused (HTTP 302)\nbespoke: stopping the pod with runpodctl: it" in boot(4)
        server.shutdown()
    stop = ("/v2/pods/pod123/action", f"Bearer {CANARY}", {"action": "stop"})
    assert Api.requests == [stop] * 2
    tool = tmp_path / "runpodctl"
    tool.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("RUNPOD_API_KEY", "two\nlines " + CANARY)
    text = boot(4)
    assert "API: ValueError\nbespoke: stopping the pod with runpodctl: accepted" in text
    assert CANARY not in text
    assert (tmp_path / "asked").read_text() == "pod stop pod123\n"


def test_before_set_up_it_needs_nothing_but_python_itself(repository: Path) -> None:
    bare = [sys.executable, "-S", "-c", "import bespoke.deploy.pod"]
    subprocess.run(bare, cwd=repository, check=True, timeout=30)


def test_a_whole_boot_ends_by_a_signal_alone_and_the_next_goes_on_where_it_was(
    repository: Path, tmp_path: Path, set_up: Callable[[Path], None]
) -> None:
    project, output = tmp_path / "project", tmp_path / "workspace/rehearsal/output"
    ignored = shutil.ignore_patterns("__pycache__", ".*", "vendor", "tests")
    shutil.copytree(repository, project, ignore=ignored)
    set_up(project)
    words = ["bash", str(project / "start_training.sh"), "--rehearse", "--experiment", "smoke"]
    on_a_pod = {"RUNPOD_POD_ID": "pod123", "BESPOKE_POD_WHEN_DONE": "keep"}
    first = start([*words, "--no-test"], BESPOKE_FAKE_TRAINER_FAULT="hang@3", **on_a_pod)
    wait_for(lambda: list(output.glob("*-000001-state/*.pkl")))
    time.sleep(1)
    first.terminate()
    out, errors = first.communicate(timeout=30)
    assert first.returncode == 130, out + errors
    assert errors == "bespoke: stopped by SIGTERM\n"
    (checkpoint,) = output.glob("*-000001.safetensors")
    before = checkpoint.stat().st_mtime_ns
    second = start([*words, "--no-test"], **on_a_pod)
    lines = iter(second.stdout or ())
    while "the pod stays up" not in (line := next(lines)):
        out += line
    time.sleep(1)
    assert second.poll() is None
    second.terminate()
    second.communicate(timeout=30)
    assert second.returncode == 130
    assert out.count("attempt 1 of 3") == 2
    assert "3 complete checkpoints" in out
    assert checkpoint.stat().st_mtime_ns == before
