"""Checkpoints and pictures tested by hand: `bespoke test` and `bespoke score`."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.prompt import IntPrompt

from bespoke.console import say
from bespoke.dataset import images
from bespoke.errors import ConfigError
from bespoke.evaluation import epoch_result, metrics, sampling, scoring
from bespoke.experiment import config, prompts
from bespoke.experiment.toml_files import read_toml
from bespoke.files import REPOSITORY, workspace
from bespoke.trainer import base_model, checkpoints, hardware, launch
from bespoke.trainer.journal import now
from bespoke.trainer.process import outcome

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.sampling import Sample


def test(chosen: argparse.Namespace, keep: Callable[[EpochResult], None]) -> None:
    """Pictures, metrics and a table; scores and a commit where they are wanted.

    `keep` is given what may be recorded: scored tests of the usual prompts as they are.
    """
    if bool(chosen.weights) == bool(chosen.again):
        raise ConfigError("name checkpoints to test, or saved tests with --again FOLDER")
    usual = prompts.load(REPOSITORY / prompts.PROMPTS_FILE)
    wanted = prompts.load(chosen.prompts) if chosen.prompts else usual
    wanted = prompts.resized(wanted, size=chosen.size, steps=chosen.steps)
    again = [sampling.up_to_date(epoch_result.read(folder)) for folder in chosen.again]
    for result in again or _tests(chosen, sampling.samples_of(wanted)):
        print("\n".join(_table(result)))
        if chosen.score and not chosen.auto_score:
            result = _scored_by_person(result)
        if again or (wanted == usual and (chosen.auto_score or result.scored_by == "person")):
            keep(result)
        if chosen.auto_commit:
            say(commit(Path(result.folder), result.summary()))


def _table(result: EpochResult) -> Iterator[str]:
    epoch = "" if result.epoch is None else f", epoch {result.epoch}"
    yield f"{Path(result.checkpoint).name}: {result.run}{epoch}; backgrounds by prompt and seed:"
    for picture in result.pictures:
        yield f"  {picture.prompt:20} {picture.seed:>5}  {_in_words(picture.ground)}"
    yield from result.remarks
    yield f"scored by {result.scored_by}: {result.summary()}"
    yield f"pictures: {result.folder}"


def _in_words(measured: Mapping[str, Any]) -> str:
    """A background or a feature: the verdict, what is seen and what was asked."""
    words = [measured.get("verdict", "unmeasured"), measured.get("reason")]
    if measured.get("colour"):
        words.append(f"{measured.get('name')} ({measured['colour']})")
    if measured.get("delta_e") is not None:
        asked = epoch_result.asked_words(measured)
        words.append(f"asked {asked}, ΔE {measured['delta_e']:.0f}")
    return ", ".join(filter(None, words))


def _tests(chosen: argparse.Namespace, samples: Sequence[Sample]) -> Iterator[EpochResult]:
    """Each checkpoint's test: a saved one is read, another's pictures are drawn."""
    place = workspace(chosen.workspace)
    paths = [_find(name.expanduser(), place / "output") for name in chosen.weights]
    # Other prompts, sizes or steps are another test; the same file twice is one checkpoint.
    wish = hashlib.sha256(repr(samples).encode()).hexdigest()[:6]
    tests = chosen.out or Path.cwd() / "epoch_tests"
    for lora in {lora.sha256: lora for lora in map(checkpoints.identify, paths)}.values():
        folder = sampling.folder_for(tests, lora, f"-{wish}")
        if result := sampling.saved(folder):
            say(f"{lora.path.name}: is tested already, in {folder}")
            yield result
            continue
        log = place / "logs" / "epoch_tests" / f"{folder.name}-{now():%Y-%m-%dT%H-%M-%S}"
        model = _base_model(place / "models", chosen.base_model)
        pictures = sampling.draw(lora, samples, model, log)
        yield sampling.evaluate(lora.name, lora, samples, pictures, folder)


def _find(name: Path, output: Path) -> Path:
    """A checkpoint by its path, by its file's name in `output`, or a run's newest by its name."""
    if name.is_file() or len(name.parts) > 1:
        return name.absolute()
    numbered = output.glob(f"{glob.escape(name.name)}-??????.safetensors")
    known = (output / name, output / f"{name}.safetensors", *sorted(numbered, reverse=True))
    path = next((each for each in known if each.is_file()), None)
    if path is None:
        raise ConfigError(f"{name}: no such file, here or in {output}")
    say(f"testing {path}")
    return path


@functools.cache
def _base_model(models: Path, wanted: str | None) -> tuple[str, ...]:
    """gen_img's options for the base model, which is fetched where it is missing."""
    launch.require_packages()
    usual = read_toml(REPOSITORY / config.TRAINING_FILE, config.TRAINING_FILE)["model"]
    named = wanted or str(usual["pretrained_model_name_or_path"])
    base = base_model.provide(base_model.locate(named, models=models), models=models, announce=say)
    if not hardware.gpus():
        say("no NVIDIA GPU here: it works, slowly; --size and --steps make it quicker, for a look")
    half = ("--fp16",) if hardware.gpus() else ()
    tokenizer = str(base_model.tokenizer_folder(models))
    return ("--ckpt", base.path, "--tokenizer_cache_dir", tokenizer, *half)


def _scored_by_person(result: EpochResult) -> EpochResult:
    """The test with the scores that a person types; as it was where nobody can be asked."""
    print(f"look at the pictures in {result.folder}; then 0 to 10, or Enter")
    given, known = {}, [str(number) for number in range(11)]
    try:
        for name, default in asdict(result.scores).items():
            title = name.replace("_", " ")
            given[name] = IntPrompt.ask(title, default=default, choices=known, show_choices=False)
    except EOFError:
        say("not scored: no terminal to ask at; --auto-score takes the suggestion")
        return result
    return epoch_result.write(epoch_result.rescored(result, scoring.Scores(**given), "person"))


def commit(folder: Path, summary: str) -> str:
    """Commit what lies in `folder` and nothing else, never pushed; what git refuses is no error."""
    for words in (["add"], ["commit", "--quiet", "-m", f"Test {folder.name}: {summary}"]):
        code, text = outcome(["git", *words, "--", "."], cwd=folder, environment=os.environ)
        if code != 0:
            return f"not committed: {text}"
    return f"committed {folder}"


def score(chosen: argparse.Namespace) -> None:
    """`bespoke score`: a few lines a picture, or one JSON list with an object for each."""
    rows = score_pictures(chosen.pictures, chosen.prompt)
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    for each in rows:
        print(each["file"])
        for kind, part in {"background": each["background"], **each["features"]}.items():
            print(f"    {kind}: {_in_words(part)}")
        for name in ("scores", "mean", "remarks"):
            print(f"    {name}: {each[name]}")


def score_pictures(files: Sequence[Path], prompt: str) -> list[dict[str, Any]]:
    """A picture's `file`, what `metrics.measure` gives, `scores`, `mean` and `verdict`.

    A DatasetError where one cannot be read.
    """
    rows, asked = [], metrics.read_prompt(prompt)
    for file in files:
        measured = metrics.measure(images.pixels(file), asked)
        own = scoring.suggest([measured])
        verdict = {"scores": asdict(own), "mean": own.mean, "verdict": own.verdict}
        rows.append({"file": str(file), **measured, **verdict})
    return rows
