"""Feed the command line mutated files and arguments: no exit code 1, no traceback, no hang.

    python benchmarks/fuzz.py [--count 10000] [--seed 0] [--only experiment,captions] [--case 123]

Valid files are mutated key by key: other types, huge, empty, nested, NaN, control characters, long;
some as bytes. Most cases call `cli.main` in a worker, with a watchdog; one in fifty is a process of
its own. A hang is 5 s of processor time, or 20 s by the clock. Each case depends on its number and
the seed alone, so that `--case` repeats one. Works in a copy of the project with drawn pictures and
a rehearsed run.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import io
import json
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT_S = 5.0
COPIED = ("bespoke", "experiments", "training_config.toml", "dataset_config.toml")
PROMPTS = "test_prompts.toml"
# What a mutated value becomes; callables take the random numbers.
EVIL: tuple[Any, ...] = (
    *(True, False, 0, -1, 1, 2, 64, 1000, 2**31, 2**32, 2**63, 10**30, 10**4000, -(10**30)),
    *(0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", " ", "\0", "\x1b[31m", "\x7f", "a\nb", "\u202e", "\u00a0", "\ufeff", "\ud7ff", '"', "'"),
    *(
        "\\",
        "\\x41",
        "a,b",
        "[",
        "#ff0000",
        "x" * 300,
        "x" * 5000,
        "é" * 200,
        "../../etc",
        "~none/x",
    ),
    *(
        "/dev/zero",
        "/dev/stdin",
        "random",
        "1e5",
        "nan",
        "true",
        "{}",
        "%s%n",
        "${HOME}",
        "keep_tokens_3",
    ),
    *([], [[]], {}, {"a": {"b": 1}}, [0] * 2000, ["x" * 100] * 50, {"": ""}, {"x y": [1]}),
)


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


# --- Mutations ------------------------------------------------------------------------------------


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside a document."""
    rows = value.items() if isinstance(value, dict) else enumerate(value)
    ways = []
    for key, inner in rows:
        ways.append((*at, key))
        if isinstance(inner, (dict, list)):
            ways += places(inner, (*at, key))
    return ways


def mutate(document: Any, draw: random.Random) -> Any:
    """One to three of its keys get another value or name, or go."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        ways = places(document)
        if not ways:
            return document
        *way, key = draw.choice(ways)
        holder = document
        for step in way:
            holder = holder[step]
        how = draw.randrange(10)
        if how < 6:
            holder[key] = (
                draw.choice((*EVIL, nested(50))) if how else number_near(holder[key], draw)
            )
        elif how < 8:
            del holder[key]
        elif isinstance(holder, dict):
            name = draw.choice(("", "x", "a.b", "\0", "x" * 500, f"{key}s", str(key)[:-1], "name"))
            holder[name] = holder[key] if how == 8 else holder.pop(key)
    return document


def number_near(value: Any, draw: random.Random) -> Any:
    if isinstance(value, (int, float)):
        return value * draw.choice((-1, 2, 10, 1000, 1e6, 0.001))
    return draw.choice(EVIL)


def mutate_bytes(raw: bytes, draw: random.Random) -> bytes:
    """Cut, repeated, with bytes put in or flipped; now and then deep or long."""
    at, end = sorted(draw.randrange(len(raw) + 1) for _ in range(2))
    match draw.randrange(7):
        case 0:
            return raw[:at]
        case 1:
            return raw[:at] + raw[end:]
        case 2:
            return raw[:end] + raw[at:end] * draw.choice((1, 2, 50)) + raw[end:]
        case 3:
            return raw[:at] + draw.randbytes(draw.choice((1, 4, 100))) + raw[at:]
        case 4:
            return raw[:at] + draw.choice((b"[", b"{", b'"', b"[" * 100_000)) + raw[at:]
        case 5:
            return b"\xef\xbb\xbf" + raw
        case _:
            flipped = bytearray(raw)
            for _ in range(draw.choice((1, 10))):
                flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
            return bytes(flipped)


def caption(draw: random.Random, valid: str) -> bytes:
    """0 to 64 KiB: runs of one letter, pieces again and again, bytes, or a valid one changed."""
    length = draw.choice((0, 1, 10, 1000, 65_536))
    match draw.randrange(5):
        case 0:
            return (draw.choice("a,()#0 _-\n\r\té{}|:;") * length).encode()[:65_536]
        case 1:
            pieces = ("hair", " ", ",", "(", "#ff0000", "#", "0", "background", "with", "pal", "\n")
            return "".join(draw.choice(pieces) for _ in range(length // 4)).encode()
        case 2:
            return draw.randbytes(length)
        case 3:
            piece = valid[: draw.randrange(1, 40)]
            return (piece * (length // len(piece) + 1)).encode()[:65_536]
        case _:
            return mutate_bytes(valid.encode(), draw)


# --- Cases: each writes what it mutates and returns the command line ------------------------------


class Case:
    """One numbered case in a project of its own, with what it drew."""

    def __init__(self, project: Path, number: int, seed: int) -> None:
        self.project, self.number = project, number
        self.draw = random.Random(f"{seed}:{number}")
        self.data, self.workspace = project / "drawn", project / "workspace"
        self.kind = ""

    def words(self, only: tuple[str, ...]) -> list[str]:
        self.kind = self.draw.choice(only)
        return KINDS[self.kind](self)

    def check(self, experiment: str) -> list[str]:
        data = ["--data", str(self.data), "--workspace", str(self.workspace)]
        if self.draw.random() < 0.3:
            return ["run", "--rehearse", "--dry-run", "--experiment", experiment, *data]
        return ["check", "--experiment", experiment, *data]

    def toml(self, file: Path) -> None:
        """Mutate a TOML file, by its keys or as bytes."""
        from bespoke.experiment.toml_files import parsed, toml_lines

        raw = file.read_bytes()
        if self.draw.random() < 0.15:
            file.write_bytes(mutate_bytes(raw, self.draw))
            return
        try:
            lines = toml_lines(mutate(parsed(raw.decode()), self.draw))
        except RecursionError:  # nested deeper than the writer goes: written without it
            lines = [f"deep = {'[' * 5000}{']' * 5000}"]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")

    def json(self, file: Path) -> None:
        raw = file.read_bytes()
        if self.draw.random() < 0.3:
            file.write_bytes(mutate_bytes(raw, self.draw))
        else:
            file.write_text(json.dumps(mutate(json.loads(raw), self.draw)), encoding="utf-8")


def experiment_case(case: Case) -> list[str]:
    names = sorted(path.stem for path in (case.project / "experiments").glob("*.toml"))
    name = case.draw.choice(names)
    case.toml(case.project / "experiments" / f"{name}.toml")
    return ["experiments"] if case.draw.random() < 0.05 else case.check(name)


def base_case(case: Case) -> list[str]:
    case.toml(case.project / case.draw.choice(("training_config.toml", "dataset_config.toml")))
    return case.check(case.draw.choice(("smoke", "keep_tokens_3", "conv_dim_8")))


def prompts_case(case: Case) -> list[str]:
    case.toml(case.project / PROMPTS)
    return case.check("smoke")


def captions_case(case: Case) -> list[str]:
    for file in case.draw.sample(sorted(case.data.glob("*.txt")), 2):
        file.write_bytes(caption(case.draw, file.read_text(encoding="utf-8")))
    if case.draw.random() < 0.5:
        out = str(case.project / "repaired")
        data = ["--data", str(case.data), "--workspace", str(case.workspace), "--out", out]
        return ["captions", "repair", "--experiment", "smoke", *data]
    return case.check("smoke")


def arguments_case(case: Case) -> list[str]:
    """A command line with some of its words changed, or options of another verb beside them."""
    draw, place = case.draw, ["--workspace", str(case.workspace)]
    words = list(draw.choice((
        ["check", "--experiment", "smoke", "--data", str(case.data), "--set", "training.seed=1"],
        ["run", "--dry-run", "--rehearse", "--seeds", "42,43", "--experiment", "smoke", *place],
        ["run", "--dry-run", "--rehearse", "--price-per-hour", "2", "--plan", "auto", *place],
        ["run", "--dry-run", "--rehearse", "--set", "dataset.keep_tokens=2", *place],
        ["experiments"],
        ["compare", "SD15_SMOKE", "SD15_FINAL_CORRECTED_CAPTIONS", "--json", *place],
        ["next", "REHEARSAL_SD15_SMOKE", *place],
        ["report", "REHEARSAL_SD15_SMOKE", "--json", *place],
        ["record", "list", "--json", *place],
        ["captions", "repair", "--out", str(case.project / "out"), "--data", str(case.data)],
        ["score", str(next(case.data.glob("*.png"))), "--prompt", "green background (#00ff00)"],
        ["serve", "--host", "a..b", "--port", "0"],
    )))  # fmt: skip
    for _ in range(draw.choice((1, 1, 2, 3))):
        at = draw.randrange(1, len(words)) if len(words) > 1 else 0
        evil = str(draw.choice([each for each in EVIL if each != 10**4000]))[:6000]
        match draw.randrange(5):
            case 0 if words[at] not in ("serve", "--dry-run", "--host", "a..b"):
                words[at] = evil.replace("\0", "")
            case 1:
                words += [draw.choice(("--set", "--data", "--experiment", "--json")), evil]
            case 2:
                words += ["--set", f"training.seed={evil}"]
            case 3:
                words += ["--set", f"{evil}={evil}"]
            case _:
                words.insert(at, draw.choice(("--strict", "--rehearse", "--fresh", "-x", "--")))
    # A worker cannot be asked for a server or a training that goes on.
    if words[0] == "run" and "--" in words:
        words.remove("--")
    return [word.replace("\0", "") for word in words]


def state_case(case: Case) -> list[str]:
    """What a run has left, damaged: run.json, the record, a test's result, a checkpoint."""
    place = case.workspace / "rehearsal"
    files = sorted((*place.glob("output/*.json"), *place.glob("output/tests/*/result.json")))
    files += sorted(place.glob("output/*.safetensors"))
    file = case.draw.choice(files)
    if file.suffix == ".json":
        case.json(file)
    else:
        raw = file.read_bytes()
        length = struct.unpack("<Q", raw[:8])[0]
        if case.draw.random() < 0.3:
            file.write_bytes(mutate_bytes(raw, case.draw))
        else:
            header = json.dumps(mutate(json.loads(raw[8 : 8 + length]), case.draw)).encode()
            file.write_bytes(struct.pack("<Q", len(header)) + header + raw[8 + length :])
    at, run = ["--workspace", str(place)], "REHEARSAL_SD15_SMOKE"
    folder = case.draw.choice(sorted(place.glob("output/tests/*")))
    return case.draw.choice((
        ["record", "rebuild", *at], ["record", "list", *at], ["report", *at], ["next", run, *at],
        ["report", run, "--json", *at], ["compare", run, "SD15_FINAL_CORRECTED_CAPTIONS", *at],
        ["test", "--again", str(folder), *at],
        ["run", "--rehearse", "--experiment", "smoke", "--workspace", str(case.workspace)],
    ))  # fmt: skip


KINDS: dict[str, Callable[[Case], list[str]]] = {
    "experiment": experiment_case,
    "base": base_case,
    "prompts": prompts_case,
    "captions": captions_case,
    "arguments": arguments_case,
    "state": state_case,
}


# --- A worker: many cases in one process ----------------------------------------------------------


def called(words: list[str], seconds: float) -> tuple[int, str]:
    """The exit code of `cli.main`, and all that it printed; past the limit the process ends."""
    from bespoke import cli

    faulthandler.dump_traceback_later(seconds, exit=True)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = cli.main(words)
        except SystemExit as error:
            code = error.code
        except BaseException:  # noqa: BLE001 - whatever leaves the command line is a fault
            out.write(traceback.format_exc())
            code = 1
    faulthandler.cancel_dump_traceback_later()
    text = out.buffer.getvalue().decode("utf-8", "replace")
    return (code if isinstance(code, int) else 1), text


def started(words: list[str], project: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bespoke", *words],
        cwd=project, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")


def restore(pristine: Path, project: Path) -> None:
    """The project as it was, but for the code, which no case changes."""
    for left in project.iterdir():
        if left.name != "bespoke":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    for source in pristine.iterdir():
        if source.name != "bespoke":
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, project / source.name)


def work(options: argparse.Namespace) -> None:
    """Cases until the count is reached, a JSON line each on the standard output."""
    results = os.fdopen(os.dup(1), "w", buffering=1)
    project = options.work / "project"
    os.chdir(options.work)
    for number in range(options.first, options.count):
        restore(options.work / "pristine", project)
        case = Case(project, number, options.seed)
        words = case.words(options.only)
        results.write(json.dumps({"number": number, "kind": case.kind, "words": words}) + "\n")
        begun = sum(os.times()[:4])
        if number % 50 == 0 or (case.kind == "state" and words[0] == "run"):
            code, text = started(words, project)
        else:
            code, text = called(words, LIMIT_S * 4)
        seconds = sum(os.times()[:4]) - begun  # a busy machine is no hang
        results.write(json.dumps({"code": code, "seconds": seconds, "text": text[-4000:]}) + "\n")


# --- The whole ------------------------------------------------------------------------------------


def prepare(place: Path) -> None:
    """A copy of the project, with four drawn pictures and a rehearsed run of three epochs."""
    pristine = place / "pristine"
    pristine.mkdir()
    shutil.copytree(REPOSITORY / "bespoke", place / "project" / "bespoke")
    for name in (*COPIED, PROMPTS):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, pristine / name)
    command = [sys.executable, "-m", "bespoke", "run", "--rehearse", "--experiment", "smoke"]
    command += ["--workspace", str(pristine / "workspace")]
    subprocess.run(command, cwd=pristine, check=True, capture_output=True)
    drawn = next((pristine / "workspace" / "rehearsal" / "drawn").glob("*_4"))
    shutil.copytree(drawn, pristine / "drawn")


def signature(text: str) -> str:
    """What two failures of one cause have in common: the error and the last place in bespoke."""
    frames = re.findall(r'File "[^"]*bespoke/(\w+\.py)", line (\d+)', text)
    errors = re.findall(
        r"^(?:bespoke: unexpected )?(\w+(?:Error|Exception))\b.*", text, re.MULTILINE
    )
    where = ":".join(frames[-1]) if frames else "?"
    return f"{errors[-1] if errors else 'exit 1'} at {where}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of cases, with commas")
    parser.add_argument("--case", type=int, help="this one alone, with all that it prints")
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case is not None:
        options.first, options.count = options.case, options.case + 1
    if options.work is not None:
        options.only = tuple(options.only.split(","))
        work(options)
        return 0
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        return run(options, Path(name))


def say(case: int | None, number: int, outcome: str, codes: Counter[int]) -> None:
    """All of one case that was asked for; else every 500 cases how it goes."""
    if case is not None:
        print(outcome)
    elif number % 500 == 0:
        print(f"{number}: exit codes {dict(sorted(codes.items()))}", flush=True)


def run(options: argparse.Namespace, place: Path) -> int:
    """Workers one after another, each from the case after the one that ended the last."""
    codes: Counter[int] = Counter()
    faults: dict[str, list[str]] = {}
    slowest, number = (0.0, ""), options.first
    while number < options.count:
        command = [sys.executable, str(Path(__file__).resolve()), "--work", str(place)]
        command += ["--first", str(number), "--count", str(options.count)]
        command += ["--seed", str(options.seed), "--only", options.only]
        environment = {**os.environ, "PYTHONPATH": str(place / "project"), "COLUMNS": "100"}
        with (
            (place / "stderr").open("w+b") as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL,
                env=environment, text=True, encoding="utf-8",
            ) as worker,
        ):  # fmt: skip
            asked: dict[str, Any] = {}
            for line in worker.stdout or ():
                told = json.loads(line)
                if "number" in told:
                    asked, number = told, told["number"] + 1
                    continue
                shown = f"case {asked['number']} ({asked['kind']}): {asked['words']}"[:300]
                codes[told["code"]] += 1
                slowest = max(slowest, (told["seconds"], shown))
                if told["code"] in (1, -6, -11) or "Traceback (most" in told["text"]:
                    faults.setdefault(signature(told["text"]), []).append(shown)
                elif told["seconds"] > LIMIT_S and asked["kind"] != "state":
                    faults.setdefault("slow", []).append(f"{told['seconds']:.1f} s: {shown}")
                say(options.case, number, f"{shown}\n{told['text']}\n{told['code']}", codes)
                asked = {}
        if asked:
            text = (place / "stderr").read_text(errors="replace")
            shown = f"case {asked['number']} ({asked['kind']}): {asked['words']}"[:300]
            faults.setdefault(f"ended the process: {signature(text)}", []).append(shown)
        if worker.returncode and not asked:
            sys.exit((place / "stderr").read_text(errors="replace"))
    print(f"exit codes: {dict(sorted(codes.items()))}; slowest {slowest[0]:.1f} s, {slowest[1]}")
    for cause, shown in sorted(faults.items()):
        print(f"{len(shown)} x {cause}\n    " + "\n    ".join(shown[:3]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
