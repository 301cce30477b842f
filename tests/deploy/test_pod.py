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
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANARY = "canary-4f1d9c-key"
SHORT = ("--set", "training.max_train_epochs=1", "--set", "dataset.num_repeats=1")
REHEARSAL = ("--rehearse", "--no-test", *SHORT)

# Stands for `python -m bespoke.run` once set-up is done: says how it was called, and ends as told.
TOLD_TO_END = """#!/bin/sh
echo "$@" >>"$CALLS"
[ -n "$RUNPOD_API_KEY" ] && echo "the key is here"
exit "$CODE"
"""


@dataclass
class Api:
    """RunPod's address on this machine; `replies` says what each path's answer is."""

    server: ThreadingHTTPServer
    replies: dict[str, tuple[int, str] | None] = field(default_factory=dict)
    asked: list[tuple[str, str, object]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.server_port


REST = "/v2/pods/pod123/action"
BY_API = "stopping the pod with RunPod's API: "
BY_TOOL = "stopping the pod with runpodctl: "


@pytest.fixture
def api() -> Iterator[Api]:
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.asked.append((self.path, self.headers["Authorization"], json.loads(body)))
            reply = found.replies.get(self.path, (200, "{}"))
            if reply is None:
                with contextlib.suppress(OSError):
                    while not released.wait(0.1):
                        self.wfile.write(b"H")
                return
            self.send_response(reply[0])
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(reply[1].encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Api(server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(repository: Path, tmp_path: Path, set_up: Callable[[Path], None]) -> Path:
    """The project as it is on a pod, set up: its .venv leads to this interpreter."""
    folder = tmp_path / "project"
    for name in ("bespoke", "experiments", "locks"):
        shutil.copytree(
            repository / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("training_config.toml", "dataset_config.toml", "start_training.sh", "setup.sh"):
        shutil.copy(repository / name, folder / name)
    patch(folder, 'IMAGE_START = Path("/start.sh")', f'IMAGE_START = Path("{tmp_path}/start.sh")')
    patch(folder, '"api.runpod.io"', '"127.0.0.1:9"')
    patch(
        folder, "CONNECTION, ADDRESS = http.client.HTTPS", "CONNECTION, ADDRESS = http.client.HTTP"
    )
    patch(folder, "TIMEOUT_S = 20.0", "TIMEOUT_S = 2.0")
    patch(folder, "ASK_AGAIN_S = 600", "ASK_AGAIN_S = 2")
    set_up(folder)
    (folder / "vendor/sd-scripts").mkdir(parents=True)
    (folder / "vendor/sd-scripts/train_network.py").touch()
    return folder


def patch(project: Path, before: str, after: str) -> None:
    """Change a constant in the project's own copy of pod.py."""
    file = project / "bespoke" / "pod.py"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@dataclass
class Pod:
    """Boots of one pod: its project, its volume, and what they printed."""

    project: Path
    volume: Path
    variables: dict[str, str]
    printed: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def boot(self, *arguments: str, **variables: str) -> Iterator[Booted]:
        output = self.volume.parent / f"boot-{len(self.printed)}.txt"
        with output.open("wb") as stream:
            child = subprocess.Popen(
                ["bash", "start_training.sh", *arguments],
                cwd=self.project,
                env={**os.environ, **self.variables, **variables},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        try:
            yield Booted(child=child, output=output)
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(timeout=30)
            finally:
                child.kill()
                child.wait()
                self.printed.append(output.read_text(encoding="utf-8"))

    def boot_until(self, words: str, *arguments: str, **variables: str) -> str:
        """What a boot printed by the time that it said `words`; it is told to end after that."""
        with self.boot(*arguments, **variables) as booted:
            return booted.says(words)

    @property
    def record(self) -> dict[str, object]:
        (file,) = (self.volume / "pod").glob("*.json")
        found: dict[str, object] = json.loads(file.read_text(encoding="utf-8"))
        return found


@dataclass
class Booted:
    child: subprocess.Popen[bytes]
    output: Path

    @property
    def text(self) -> str:
        return self.output.read_text(encoding="utf-8")

    def says(self, words: str, seconds: float = 40.0) -> str:
        wait_for(lambda: words in self.text or self.child.poll() is not None, seconds)
        assert words in self.text, self.text
        return self.text


def wait_for(ready: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"nothing came of it in {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def pod(project: Path, tmp_path: Path, drawn: Path) -> Pod:
    volume = tmp_path / "volume"
    # A rehearsal finds its pictures drawn: that is half of its time.
    (volume / "rehearsal" / "drawn").mkdir(parents=True)
    (volume / "rehearsal" / "drawn" / "training_data_203").symlink_to(drawn)
    variables = {
        "RUNPOD_POD_ID": "pod123",
        "RUNPOD_API_KEY": CANARY,
        "BESPOKE_WORKSPACE": str(volume),
        "BESPOKE_POD_WHEN_DONE": "keep",
        "BESPOKE_STOP_PATIENCE_S": "0.5",
        "CALLS": str(tmp_path / "calls"),
        "CODE": "0",
    }
    return Pod(project=project, volume=volume, variables=variables)


@pytest.fixture
def told(pod: Pod) -> Pod:
    """A pod whose run ends at once with the exit code in CODE."""
    executable(pod.project / ".venv/bin/python", TOLD_TO_END)
    return pod


def calls(pod: Pod) -> list[str]:
    file = Path(pod.variables["CALLS"])
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def fake_runpodctl(tmp_path: Path, works: str) -> dict[str, str]:
    """A runpodctl on PATH that notes its arguments, and succeeds where they are `works`."""
    text = f'#!/bin/sh\necho "$*" >>{tmp_path}/ctl\necho "$RUNPOD_API_KEY"\n[ "$*" = "{works}" ]\n'
    executable(tmp_path / "bin/runpodctl", text)
    return {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


STAYS = "the pod stays up"
ENDED = "the run ended with exit code"


def test_a_rehearsal_on_a_pod_is_done_and_the_start_command_does_not_end(pod: Pod) -> None:
    with pod.boot(*REHEARSAL) as booted:
        text = booted.says(STAYS)
        assert "1 complete checkpoints" in text
        assert f"{ENDED} 0" in text
        time.sleep(1.5)
        assert booted.child.poll() is None
        told = time.monotonic()
        booted.child.send_signal(signal.SIGTERM)
        assert booted.child.wait(timeout=10) == 130
        assert time.monotonic() - told < 1.0
    assert pod.record["failures"] == 0


def test_outside_a_pod_the_command_ends_with_the_runs_code(told: Pod) -> None:
    del told.variables["RUNPOD_POD_ID"]
    for start in (["bash", "start_training.sh"], [sys.executable, "-m", "bespoke.deploy.pod"]):
        environment = {**os.environ, **told.variables, "CODE": "4"}
        done = subprocess.run(start, cwd=told.project, env=environment, timeout=30, check=False)
        assert done.returncode == 4
    assert calls(told) == ["-m bespoke.run"] * 2
    assert not (told.volume / "pod").exists()


def test_a_pod_needs_nothing_but_python_itself_before_set_up(repository: Path) -> None:
    bare = [sys.executable, "-S", "-c", "import bespoke.deploy.pod"]
    subprocess.run(bare, cwd=repository, check=True, timeout=30)


def serving(pod: Pod, tmp_path: Path) -> dict[str, str]:
    """A .venv whose python and tensorboard note how they are called, and serve for a minute."""
    note = f'env >{tmp_path}/env.$$; echo "$0 $*" >>{tmp_path}/served; exec sleep 60'
    python = f'#!/bin/sh\ncase "$*" in *serve*) {note};; esac\nexit 0\n'
    executable(pod.project / ".venv/bin/python", python)
    executable(pod.project / ".venv/bin/tensorboard", f"#!/bin/sh\n{note}\n")
    return {"BESPOKE_REPORT_TOKEN": "token-canary-51c0"}


def test_report_and_tensorboard_are_served_behind_the_token_and_end_with_the_pod(
    pod: Pod, tmp_path: Path
) -> None:
    with pod.boot(**serving(pod, tmp_path), BESPOKE_TENSORBOARD="1") as booted:
        booted.says("serving the report and TensorBoard with a token")
        served = tmp_path / "served"
        wait_for(lambda: served.exists() and len(served.read_text("utf-8").splitlines()) == 2)
        left = [int(file.suffix[1:]) for file in tmp_path.glob("env.*")]
        variables = [file.read_text("utf-8") for file in tmp_path.glob("env.*")]
    lines = sorted(served.read_text("utf-8").splitlines())
    assert lines[0].endswith("python -m bespoke serve --host 0.0.0.0 --port 8888")
    logs = f"--logdir {pod.volume}/logs --host 0.0.0.0 --port 6006"
    assert lines[1].endswith(f"tensorboard {logs} --path_prefix /token-canary-51c0")
    assert CANARY not in "".join(variables)
    assert all(f"BESPOKE_WORKSPACE={pod.volume}\n" in text for text in variables)
    assert "token-canary" not in pod.printed[0]
    wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in left))


def test_without_a_token_nothing_is_served(pod: Pod, tmp_path: Path) -> None:
    serving(pod, tmp_path)
    text = pod.boot_until(STAYS, BESPOKE_TENSORBOARD="1")
    assert "serving" not in text
    assert not (tmp_path / "served").exists()


def test_what_is_finished_is_not_trained_again_when_the_pod_restarts(pod: Pod) -> None:
    pod.boot_until(STAYS, *REHEARSAL)
    (made,) = (pod.volume / "rehearsal/output").glob("*.safetensors")
    before = made.stat().st_mtime_ns
    for _ in range(4):
        text = pod.boot_until(STAYS, *REHEARSAL)
        assert "not run again after exit code 0" in text
    assert made.stat().st_mtime_ns == before
    assert trainers(pod) == trainers(pod)[:1]


def test_after_a_success_bespoke_run_itself_is_asked_on_every_boot(told: Pod) -> None:
    for _ in range(4):
        assert "attempt 1 of 3" in told.boot_until(f"{ENDED} 0")
    assert len(calls(told)) == 4


def test_a_run_cut_off_goes_on_at_the_next_boot_where_it_was(pod: Pod) -> None:
    two = ("--rehearse", "--no-test", "--fresh", "--set", "training.max_train_epochs=2")
    with pod.boot(*two, BESPOKE_FAKE_TRAINER_FAULT="stall") as booted:
        booted.says("epoch 1: ")
        wait_for(lambda: list((pod.volume / "rehearsal/output").glob("*-000001-state/*.json")))
        time.sleep(1)
        booted.child.send_signal(signal.SIGTERM)
        assert booted.child.wait(timeout=20) == 130
    (first,) = (pod.volume / "rehearsal/output").glob("*-000001.safetensors")
    before = first.stat().st_mtime_ns
    text = pod.boot_until(STAYS, *two)
    assert "2 complete checkpoints" in text
    assert first.stat().st_mtime_ns == before


def test_fresh_is_carried_out_once_and_not_before_anything_was_trained(told: Pod) -> None:
    patch(told.project, "ATTEMPTS = 3", "ATTEMPTS = 9")
    for code in ("2", "4", "2", "0"):
        told.boot_until(ENDED, "--fresh", "--strict", CODE=code)
    told.boot_until(ENDED, "--fre", CODE="130")
    told.boot_until(ENDED, "--fre", CODE="0")
    assert [line.removeprefix("-m bespoke.run") for line in calls(told)] == [
        " --fresh --strict",
        " --fresh --strict",
        " --strict",
        " --strict",
        " --fre",
        "",
    ]


@pytest.mark.parametrize("code", ["2", "4", "137"])
def test_three_failures_in_a_row_are_the_last_until_the_record_is_deleted(
    told: Pod, code: str
) -> None:
    for number in (1, 2, 3):
        assert f"attempt {number} of 3" in told.boot_until(f"{ENDED} {code}", CODE=code)
    for _ in range(2):
        assert "not run again after 3 failures" in told.boot_until(STAYS, CODE=code)
    assert len(calls(told)) == 3
    (file,) = (told.volume / "pod").glob("*.json")
    file.unlink()
    assert "attempt 1 of 3" in told.boot_until(STAYS, CODE="0")


# As a preemption looks from the volume: the attempt began, and nothing says how it ended.
CUT_OFF = """#!/bin/sh
echo "$@" >>"$CALLS"
mkdir -p "$BESPOKE_WORKSPACE/output"
touch "$BESPOKE_WORKSPACE/output/name-00000$(wc -l <"$CALLS" | tr -d ' ').safetensors"
echo training
exec sleep 60
"""


def test_preemptions_with_a_new_checkpoint_between_them_are_no_failures(pod: Pod) -> None:
    executable(pod.project / ".venv/bin/python", CUT_OFF)
    for _ in range(5):
        with pod.boot() as booted:
            booted.says("training")
            runner = child_of(booted.child.pid)
            booted.child.kill()
            booted.child.wait()
            os.killpg(runner, signal.SIGKILL)
    assert len(calls(pod)) == 5
    assert "attempt 1 of 3" in pod.printed[-1]
    # Nothing new any more: now they count.
    executable(pod.project / ".venv/bin/python", TOLD_TO_END)
    pod.boot_until(f"{ENDED} 4", CODE="4")
    pod.boot_until(f"{ENDED} 4", CODE="4")
    assert "attempt 3 of 3" in pod.boot_until(f"{ENDED} 4", CODE="4")
    assert "not run again after 3 failures" in pod.boot_until(STAYS)


def test_other_arguments_are_counted_by_themselves(told: Pod) -> None:
    for _ in range(2):
        told.boot_until(STAYS, CODE="4")
    assert "attempt 1 of 3" in told.boot_until(STAYS, "--experiment", "smoke", CODE="4")


def test_the_gates_stop_is_a_result_that_no_boot_undoes(told: Pod) -> None:
    told.boot_until(f"{ENDED} 5", CODE="5")
    assert "not run again after exit code 5" in told.boot_until(STAYS)
    assert len(calls(told)) == 1


def test_a_success_ends_the_count(told: Pod) -> None:
    for code in ("4", "4", "0", "4", "4"):
        told.boot_until(f"{ENDED} {code}", CODE=code)
    assert told.record["failures"] == 2


def test_a_boot_killed_without_a_word_counts_as_a_failure(pod: Pod) -> None:
    with pod.boot(*REHEARSAL, BESPOKE_FAKE_TRAINER_FAULT="hang@30") as booted:
        booted.says("the trainer starts")
        runner = child_of(booted.child.pid)
        booted.child.kill()
        booted.child.wait()
        # On a pod the kernel ends all that process 1 leaves.
        os.killpg(runner, signal.SIGTERM)
        wait_for(lambda: not group_of(runner))
    assert pod.record["failures"] == 1
    assert "attempt 2 of 3" in pod.boot_until(STAYS, *REHEARSAL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_reaches_the_trainers_whole_group_and_is_no_failure(
    pod: Pod, number: signal.Signals
) -> None:
    with pod.boot(*REHEARSAL, BESPOKE_FAKE_TRAINER_FAULT="hang@30") as booted:
        booted.says("the trainer starts")
        wait_for(lambda: trainers(pod))
        time.sleep(0.5)
        (trainer,) = trainers(pod)
        assert group_of(trainer)
        booted.child.send_signal(number)
        assert booted.child.wait(timeout=20) == 130
        assert group_of(trainer) == []
    text = pod.printed[0]
    assert f"bespoke: stopped by {number.name}" in text
    assert STAYS not in text
    assert pod.record["failures"] == 0
    assert "attempt 1 of 3" in pod.boot_until(STAYS, *REHEARSAL)


def test_a_signal_during_set_up_ends_it(pod: Pod) -> None:
    executable(pod.project / ".venv/bin/python", "#!/bin/sh\necho setting up\nsleep 60\n")
    with pod.boot() as booted:
        booted.says("setting up")
        runner = child_of(booted.child.pid)
        booted.child.send_signal(signal.SIGTERM)
        assert booted.child.wait(timeout=10) == 130
        wait_for(lambda: group_of(runner) == [])


def test_a_set_up_that_fails_is_counted_and_does_not_end_the_command(pod: Pod) -> None:
    shutil.rmtree(pod.project / "vendor")
    with pod.boot("--experiment", "smoke") as booted:
        assert f"{ENDED} 2" in booted.says(STAYS)
        assert booted.child.poll() is None
    assert pod.record["failures"] == 1


def test_where_nothing_can_be_counted_nothing_is_run(told: Pod) -> None:
    (told.volume / "pod").write_text("in the way", encoding="utf-8")
    with told.boot() as booted:
        assert "nothing can be run or counted: FileExistsError" in booted.says(STAYS)
        assert booted.child.poll() is None
    assert calls(told) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '{"other": 1}', "\x00"])
def test_a_damaged_record_counts_from_the_start(told: Pod, text: str) -> None:
    told.boot_until(ENDED, CODE="4")
    (file,) = (told.volume / "pod").iterdir()
    file.write_text(text, encoding="utf-8")
    assert "attempt 1 of 3" in told.boot_until(STAYS)


def test_the_images_own_start_script_is_up_before_set_up_and_prints_to_the_same_place(
    told: Pod, tmp_path: Path
) -> None:
    text = "#!/bin/sh\necho services up\ntouch ready\nsleep 60\n"
    executable(tmp_path / "start.sh", text)
    with told.boot() as booted:
        booted.says("services up")
        assert f"{ENDED} 0" in booted.says(STAYS)
        ready = child_of(booted.child.pid)
        os.killpg(ready, signal.SIGTERM)
        time.sleep(1.5)
        # It fell to us, as all do that fall to process 1, and no zombie of it is left.
        assert not Path(f"/proc/{ready}").exists()


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 7\n", "#!/no/such/shell\n", "\x7fELF", None])
def test_a_start_script_that_fails_stops_no_training(
    told: Pod, tmp_path: Path, text: str | None
) -> None:
    script = tmp_path / "start.sh"
    if text is None:
        script.touch(mode=0o644)
    else:
        executable(script, text)
    assert f"{ENDED} 0" in told.boot_until(STAYS)


def stopping(pod: Pod, api: Api) -> dict[str, str]:
    """The variables of a pod that is to be stopped; RunPod's address is `api`."""
    patch(pod.project, '"127.0.0.1:9"', f'"127.0.0.1:{api.port}"')
    return {"BESPOKE_POD_WHEN_DONE": "stop"}


def test_the_pod_is_stopped_by_the_api_when_the_work_is_done(told: Pod, api: Api) -> None:
    with told.boot(**stopping(told, api)) as booted:
        booted.says(f"{BY_API}accepted")
        assert booted.child.poll() is None
    assert api.asked[0] == (REST, f"Bearer {CANARY}", {"action": "stop"})


def test_the_pod_is_stopped_after_the_last_failure_too(told: Pod, api: Api) -> None:
    variables = stopping(told, api)
    for number in range(4):
        assert (STAYS in told.boot_until("accepted", CODE="4", **variables)) is False
        assert len(api.asked) > number


def test_unless_told_a_pod_is_stopped_only_where_its_results_are_kept(
    told: Pod, api: Api, tmp_path: Path
) -> None:
    stopping(told, api)
    # On the container's own disk, which a stop wipes.
    told.boot_until(STAYS, BESPOKE_POD_WHEN_DONE="")
    assert api.asked == []
    volume = Path("/dev/shm")  # another file system than /
    if not volume.is_dir() or volume.stat().st_dev == Path("/").stat().st_dev:
        pytest.skip("no second file system")
    with tempfile.TemporaryDirectory(dir=volume) as place:
        told.boot_until(f"{BY_API}accepted", BESPOKE_POD_WHEN_DONE="", BESPOKE_WORKSPACE=place)


def test_the_pod_is_not_stopped_while_it_is_told_to_end(told: Pod, api: Api) -> None:
    executable(told.project / ".venv/bin/python", "#!/bin/sh\necho setting up\nsleep 60\n")
    told.boot_until("setting up", **stopping(told, api))
    assert api.asked == []


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((500, CANARY), "refused (HTTP 500)"),
        ((302, ""), "refused (HTTP 302)"),
        ((200, '{"errors": [{"message": "no"}]}'), "refused (HTTP 200)"),
        (None, "TimeoutError"),  # a byte now and then, and no end
    ],
)
def test_what_the_api_does_not_take_goes_to_runpodctl(
    told: Pod, api: Api, tmp_path: Path, reply: tuple[int, str] | None, said: str
) -> None:
    api.replies[REST] = reply
    variables = {**stopping(told, api), **fake_runpodctl(tmp_path, "pod stop pod123")}
    text = told.boot_until(f"{BY_TOOL}accepted", **variables)
    assert f"{BY_API}{said}\n" in text
    assert CANARY not in text
    assert (tmp_path / "ctl").read_text(encoding="utf-8") == "pod stop pod123\n"


def test_a_pod_that_nothing_stops_asks_again_and_does_not_end(told: Pod, tmp_path: Path) -> None:
    patch(told.project, "TIMEOUT_S = 2.0", "TIMEOUT_S = 0.1")
    hangs = executable(tmp_path / "bin/runpodctl", "#!/bin/sh\nexec sleep 60\n")
    variables = {"BESPOKE_POD_WHEN_DONE": "stop", "PATH": f"{hangs.parent}:{os.environ['PATH']}"}
    with told.boot(**variables) as booted:
        booted.says(f"{BY_TOOL}it is missing, failed or took too long")
        assert f"{BY_API}Connection refused" in booted.text
        wait_for(lambda: booted.text.count(BY_TOOL) == 2)
        assert booted.child.poll() is None


@pytest.mark.parametrize("key", ["", "two\nlines " + CANARY, "č" + CANARY])
def test_a_key_that_cannot_be_sent_is_not_printed(told: Pod, api: Api, key: str) -> None:
    told.variables["RUNPOD_API_KEY"] = key
    text = told.boot_until(BY_TOOL, **stopping(told, api))
    assert "Traceback" not in text
    assert CANARY not in text
    assert api.asked == []


def test_the_key_is_nowhere_and_never_reaches_the_trainer(
    pod: Pod, api: Api, tmp_path: Path
) -> None:
    api.replies = {REST: (500, CANARY)}
    variables = {**stopping(pod, api), **fake_runpodctl(tmp_path, "never")}
    pod.boot_until(f"{BY_API}refused (HTTP 500)", *REHEARSAL, **variables)
    executable(pod.project / ".venv/bin/python", TOLD_TO_END)
    assert "the key is here" not in pod.boot_until(f"{BY_API}refused (HTTP 500)", **variables)
    assert len(list(pod.volume.rglob("*"))) > 10
    for path in [*pod.volume.rglob("*"), *tmp_path.glob("boot-*.txt"), *pod.project.rglob("*")]:
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path


def processes() -> Iterator[tuple[int, list[str]]]:
    """Each living process's id, and its state, parent and group, as the kernel lists them."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
            if fields[0] != "Z":
                yield int(stat.parent.name), fields


def group_of(leader: int) -> list[int]:
    return [pid for pid, fields in processes() if int(fields[2]) == leader]


def child_of(parent: int) -> int:
    (child,) = (pid for pid, fields in processes() if int(fields[1]) == parent)
    return child


def trainers(pod: Pod) -> list[int]:
    """The process groups that bespoke.run wrote down as its trainer's."""
    rows = [
        json.loads(line)
        for file in (pod.volume / "rehearsal/logs").rglob("events.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [int(row["pid"]) for row in rows if row["event"] == "launched"]
