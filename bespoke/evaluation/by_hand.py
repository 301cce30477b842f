"""Checkpoints and pictures tested by hand: `bespoke test` and `bespoke score`.

What is recorded of them is the record's to say.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.errors import ConfigError, DatasetError
from bespoke.evaluation import epoch_result, sampling
from bespoke.evaluation.scoring import Scores, suggest
from bespoke.experiment import prompts
from bespoke.experiment.config import TRAINING_FILE
from bespoke.experiment.toml_files import read_toml
from bespoke.files import REPOSITORY, workspace
from bespoke.trainer import base_model, checkpoints, hardware, launch
from bespoke.trainer.journal import now
from bespoke.trainer.process import StartError, outcome

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.checkpoints import Lora

SCORED = ("visual_quality", "style_match", "prompt_adherence")


def test(chosen: argparse.Namespace, keep: Callable[[EpochResult], None]) -> None:
    """Pictures, metrics and a table; scores and a commit where asked for.

    `keep` is given what may be recorded: saved tests that were measured again, and scored tests of
    all the usual prompts as they are.

    Raises:
        ConfigError, TrainerError: where a checkpoint or a saved test cannot be tested.
    """
    if bool(chosen.weights) == bool(chosen.again):
        raise ConfigError("name checkpoints to test, or saved tests with --again FOLDER")
    usual = prompts.load(REPOSITORY / prompts.PROMPTS_FILE)
    asked = prompts.load(chosen.prompts) if chosen.prompts else usual
    asked = prompts.resized(asked, size=chosen.size, steps=chosen.steps)
    if chosen.again:
        results = [epoch_result.measure_again(folder) for folder in chosen.again]
    else:
        results = _test(chosen, asked)
    for result in results:
        print("\n".join(table(result)))
        if chosen.again:
            before = result.earlier[-1]
            print(f"before: {before['verdict']}, by metrics {before['metrics_version']}")
        scoring = chosen.score or chosen.auto_score
        if scoring:
            result = _score(result, take_suggestion=chosen.auto_score)
        if result.scored_by != epoch_result.NOBODY and (scoring or chosen.again):
            print(f"scored by {result.scored_by}: {result.summary()}")
            if chosen.again or asked == usual:
                keep(result)
            else:
                say("not recorded: other prompts, size or steps than a run's own test")
        if chosen.auto_commit:
            folder = Path(result.folder)
            say(commit(folder, f"Test {folder.name}: {result.summary()}"))


def table(result: EpochResult) -> Iterator[str]:
    """A test in a few lines: one for each picture, the backgrounds, the suggestion, the place."""
    epoch = "" if result.epoch is None else f", epoch {result.epoch}"
    yield f"{Path(result.checkpoint).name}: {result.run}{epoch}; backgrounds by prompt and seed:"
    width = max((len(picture.prompt) for picture in result.pictures), default=0)
    for picture in result.pictures:
        words = _in_words(picture.measured.get("background", {}))
        yield f"  {picture.prompt:{width}} {picture.seed:>5}  {words}"
    yield f"suggested: {replace(result, scores=result.suggested).summary()}"
    yield f"pictures: {result.folder}"


def _in_words(measured: Mapping[str, Any]) -> str:
    """A background or a feature: the verdict, what is seen and what was asked."""
    words = [measured.get("verdict", "unmeasured")]
    if measured.get("reason"):
        words.append(measured["reason"])
    if measured.get("colour"):
        words.append(f"{measured.get('name')} ({measured['colour']})")
    if measured.get("delta_e") is not None:
        asked = measured.get("asked", {})
        named = " ".join((*asked.get("words", ()), *asked.get("hex", ())))
        words.append(f"asked {named}, ΔE {measured['delta_e']:.0f}")
    return ", ".join(words)


# --- Pictures of checkpoints ----------------------------------------------------------------------


def _test(chosen: argparse.Namespace, asked: Sequence[Prompt]) -> list[EpochResult]:
    """Each checkpoint's test: what was made before is read, the others' pictures are drawn."""
    place = workspace(chosen.workspace)
    loras = _identify(chosen.weights, place / "output")
    parent = (chosen.out or (_repository(Path.cwd()) or Path.cwd()) / "epoch_tests").expanduser()
    folders = {lora: _folder(parent.absolute(), lora, asked) for lora in loras}
    saved = {lora: epoch_result.read_saved(folder, lora, say) for lora, folder in folders.items()}
    results = {lora: result for lora, result in saved.items() if result is not None}
    for lora in results:
        say(f"{lora.path.name}: is tested already, in {folders[lora]}")
    missing = [lora for lora in loras if lora not in results]
    pictures = _draw(missing, asked, place, chosen.base_model) if missing else {}
    for lora in missing:
        results[lora] = epoch_result.evaluate(
            run=lora.name,
            lora=lora,
            pictures=pictures[lora],
            prompts=asked,
            folder=folders[lora],
            take_suggestion=False,
        )
    return [results[lora] for lora in loras]


def _identify(names: Sequence[Path], output: Path) -> list[Lora]:
    """Each checkpoint once; whatever is wrong with any is said before a picture is made."""
    loras: dict[str, Lora] = {}
    problems = []
    for name in names:
        try:
            lora = checkpoints.identify(_find(name.expanduser(), output).absolute())
        except ConfigError as error:
            problems.append(str(error))
            continue
        loras.setdefault(lora.sha256, lora)
    if problems:
        raise ConfigError("\n".join(problems))
    return list(loras.values())


def _find(name: Path, output: Path) -> Path:
    """A checkpoint by its path, by its file's name in `output`, or a run's newest by its name."""
    if name.is_file() or len(name.parts) > 1:
        return name
    numbered = output.glob(f"{glob.escape(name.name)}-??????.safetensors")
    wanted = (output / name, output / f"{name}.safetensors", *sorted(numbered, reverse=True))
    path = next((each for each in wanted if each.is_file()), None)
    if path is None:
        raise ConfigError(f"{name}: no such file, here or in {output}")
    say(f"testing {path}")
    return path


def _folder(parent: Path, lora: Lora, asked: Sequence[Prompt]) -> Path:
    """Where this test is kept: by the checkpoint's content, and by what is asked of it."""
    folder = epoch_result.folder_for(parent, lora)
    wanted = repr(
        [(each.name, each.text, each.seeds, epoch_result.how_made(each)) for each in asked]
    )
    return folder.with_name(f"{folder.name}-{hashlib.sha256(wanted.encode()).hexdigest()[:6]}")


def _draw(
    loras: Sequence[Lora], asked: Sequence[Prompt], place: Path, model: str | None
) -> dict[Lora, dict[sampling.SampleSpec, Path]]:
    """Pictures by gen_img.py, all checkpoints of one clip_skip in one process."""
    script = launch.require_submodule(REPOSITORY) / "gen_img.py"
    launch.require_packages()
    models = place / "models"
    usual = read_toml(REPOSITORY / TRAINING_FILE, TRAINING_FILE)["model"]
    named = model or str(usual["pretrained_model_name_or_path"])
    base = base_model.provide(base_model.locate(named, models=models), models=models, announce=say)
    half = bool(hardware.gpus())
    if not half:
        say("no NVIDIA GPU here: it works, slowly; --size and --steps make it quicker, for a look")
    pictures: dict[Lora, dict[sampling.SampleSpec, Path]] = {}
    for clip_skip in dict.fromkeys(lora.clip_skip for lora in loras):
        together = [lora for lora in loras if lora.clip_skip == clip_skip]
        tool = sampling.GenImg(
            script=script,
            base_model=base.path,
            tokenizer=base_model.tokenizer_folder(models),
            half=half,
            folder=place / "logs" / "epoch_tests" / f"{now():%Y-%m-%dT%H-%M-%S.%fZ}",
            clip_skip=clip_skip,
        )
        count = len(together) * len(sampling.sample_specs(asked))
        say(f"drawing {count} pictures; log: {tool.folder}")
        drawn = sampling.draw([lora.path for lora in together], asked, tool, say)
        pictures |= dict(zip(together, drawn, strict=True))
    return pictures


# --- Scores ---------------------------------------------------------------------------------------


def _score(result: EpochResult, *, take_suggestion: bool) -> EpochResult:
    """The scores that a person gives or takes over; none where nobody can be asked."""
    folder = Path(result.folder)
    if take_suggestion:
        if result.scored_by == "person":
            say("a person has scored it already: those scores stand")
            return result
        return epoch_result.score(folder, result.suggested, "metrics")
    if not sys.stdin.isatty():
        say("not scored: no terminal to ask at; --auto-score takes the suggestion")
        return result
    print(f"look at the pictures in {folder}")
    default = result.scores if result.scored_by == "person" else result.suggested
    try:
        given = Scores(**{key: _ask(key, getattr(default, key)) for key in SCORED})
    except EOFError:
        say("not scored: the input ended")
        return result
    return epoch_result.score(folder, given, "person")


def _ask(key: str, default: int | None) -> int | None:
    """A score from 0 to 10; an empty answer is the default, or no score where there is none."""
    shown = "none" if default is None else default
    while True:
        text = input(f"{key.replace('_', ' ')}, 0 to 10 [{shown}]: ").strip()
        if not text:
            return default
        if text.isdecimal() and len(text) < 3 and int(text) <= 10:
            return int(text)
        print(f"{text!r}: a whole number from 0 to 10 is needed")


# --- Any picture ----------------------------------------------------------------------------------


def score(chosen: argparse.Namespace) -> None:
    """`bespoke score`: a few lines a picture, or one JSON list with an object for each.

    Raises:
        DatasetError: where pictures cannot be read; one line for each, and nothing is printed.
    """
    measured = score_pictures(chosen.pictures, chosen.prompt)
    if chosen.json:
        print(json.dumps(measured, indent=2))
        return
    for each in measured:
        print("\n    ".join((each["file"], *_lines(each))))


def _lines(measured: Mapping[str, Any]) -> Iterator[str]:
    yield f"background: {_in_words(measured['background'])}"
    for kind, feature in measured["features"].items():
        yield f"{kind}: {_in_words(feature)}"
    for name in ("bleeding", "cells", "palette", "edges"):
        words = (measured[name].get(key) for key in ("verdict", "value", "reason"))
        yield f"{name}: {', '.join(str(word) for word in words if word is not None)}"
    scores = (f"{key.replace('_', ' ')} {value}" for key, value in measured["scores"].items())
    yield f"scores: {', '.join(scores)}; mean {measured['mean']}".replace("None", "not measured")


def score_pictures(files: Sequence[Path], prompt: str) -> list[dict[str, Any]]:
    """One object a picture: `file`, what `metrics.measure` gives, `scores`, `mean` and `verdict`.

    Raises:
        DatasetError: where pictures cannot be read; one line for each of them.
    """
    from bespoke.dataset import images
    from bespoke.evaluation import metrics

    wanted = metrics.read_prompt(prompt)
    rows, problems = [], []
    for file in files:
        try:
            measured = metrics.measure(images.pixels(file), wanted)
        except DatasetError as error:
            problems.append(str(error))
            continue
        scores = suggest([measured])
        verdict = {"scores": asdict(scores), "mean": scores.mean, "verdict": scores.verdict}
        rows.append({"file": str(file), **measured, **verdict})
    if problems:
        raise DatasetError("\n".join(problems))
    return rows


# --- Git ------------------------------------------------------------------------------------------


def commit(folder: Path, message: str) -> str:
    """Commit what lies in `folder` and nothing else; nothing is ever pushed.

    Returns what came of it, for a person: what git refuses is no error.
    """
    try:
        if _repository(folder) is None:
            return f"not committed: no git repository holds {folder}"
        if _git(folder, "symbolic-ref", "-q", "HEAD")[0] != 0:
            return "not committed: HEAD is detached; check out a branch"
        if _git(folder, "check-ignore", "-q", ".")[0] == 0:
            return f"not committed: .gitignore leaves {folder.name} out"
        if not _git(folder, "status", "--porcelain", "--", ".")[1]:
            return "committed already: nothing in it has changed"
        code, text = _git(folder, "add", "--", ".")
        if code == 0:
            code, text = _git(folder, "commit", "--quiet", "--only", "-m", message, "--", ".")
        if code != 0:
            _git(folder, "reset", "--quiet", "--", ".")
            return f"not committed: git says: {text.splitlines()[-1] if text else code}"
        short = _git(folder, "rev-parse", "--short", "HEAD")[1]
        left = _git(folder, "ls-files", "--others", "--ignored", "--exclude-standard", "--", ".")[1]
        without = f", without {len(left.splitlines())} files that .gitignore leaves out"
        return f"committed as {short}{without if left else ''}"
    except StartError as error:
        return f"not committed: {error}"


def _repository(folder: Path) -> Path | None:
    """The top folder of the repository that holds `folder`, or None."""
    try:
        code, text = _git(folder, "rev-parse", "--show-toplevel")
    except StartError:
        return None
    return Path(text) if code == 0 and text else None


def _git(folder: Path, *arguments: str) -> tuple[int, str]:
    # Within a git hook these name another repository or index.
    hooked = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    environment = {key: value for key, value in os.environ.items() if key not in hooked}
    return outcome(["git", *arguments], cwd=folder, environment=environment)
