"""Checkpoints and pictures tested by hand: `bespoke test` and `bespoke score`."""

from __future__ import annotations

import functools
import glob
import hashlib
import json
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.prompt import IntPrompt

from bespoke.console import say
from bespoke.dataset import images
from bespoke.errors import ConfigError
from bespoke.evaluation import epoch_result, metrics, sampling, scoring
from bespoke.experiment import config, prompts
from bespoke.experiment.toml_files import read_toml
from bespoke.files import REPOSITORY, workspace
from bespoke.trainer import base_model, checkpoints, hardware, sd_scripts

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.sampling import Sample


def test(chosen: argparse.Namespace, keep: Callable[[EpochResult], None]) -> None:
    """Pictures, metrics and a table; scores and a commit where they are wanted.

    `keep` is given what may be recorded: scored tests of the usual prompts as they are.
    """
    usual = prompts.load(REPOSITORY / prompts.PROMPTS_FILE)
    wanted = prompts.load(chosen.prompts) if chosen.prompts else usual
    wanted = prompts.resized(wanted, size=chosen.size, steps=chosen.steps)
    for result in _tests(chosen, sampling.samples_of(wanted), is_usual=wanted == usual):
        if chosen.score and not chosen.auto_score:
            result = _scored_by_person(result)
        print("\n".join(_table(result)))
        if wanted == usual and (chosen.auto_score or result.scored_by == "person"):
            keep(result)
        if chosen.auto_commit:
            commit(Path(result.folder), result.summary())


def _table(result: EpochResult) -> Iterator[str]:
    yield f"{Path(result.checkpoint).name}: {result.run}, epoch {result.epoch or 'unknown'}"
    for picture in result.pictures:
        yield f"  {picture.prompt:20} {picture.seed:>5}  {epoch_result.in_words(picture.ground)}"
    yield from (f"  {remark}" for remark in result.remarks)
    yield f"scored by {result.scored_by}: {result.summary()}"
    yield f"pictures: {result.folder}"


def _tests(
    chosen: argparse.Namespace, samples: Sequence[Sample], *, is_usual: bool
) -> Iterator[EpochResult]:
    """Each checkpoint's test: by its run's pictures or an earlier test's, or by new ones."""
    place = workspace(chosen.workspace)
    paths = [_find(name.expanduser(), place / "output") for name in chosen.weights]
    # Other prompts, sizes or steps are another test; the same file twice is one checkpoint.
    wish = hashlib.sha256(repr(samples).encode()).hexdigest()[:6]
    for lora in {lora.sha256: lora for lora in map(checkpoints.identify, paths)}.values():
        folder = sampling.folder_for(place / "output" / "tests", lora)
        if not is_usual or chosen.out or chosen.auto_commit or not folder.exists():
            tests = chosen.out or Path.cwd() / "epoch_tests"
            folder = sampling.folder_for(tests, lora, f"-{wish}")
        pictures = sampling.copies(folder, samples)
        if len(pictures) < len(samples):
            model = _base_model(place / "models", chosen.base_model)
            work = place / "logs" / "epoch_tests" / folder.name
            pictures = sampling.draw(lora, samples, model, work)
        yield sampling.evaluate(lora.name, lora, samples, pictures, folder)


def _find(name: Path, output: Path) -> Path:
    """A checkpoint by its path, by its file's name in `output`, or a run's newest by its name."""
    newest = sorted(output.glob(f"{glob.escape(name.name)}-??????.safetensors"), reverse=True)
    for path in (name, output / name, output / f"{name}.safetensors", *newest):
        if path.is_file():
            return path.absolute()
    raise ConfigError(f"{name}: no such file, here or in {output}")


@functools.cache
def _base_model(models: Path, wanted: str | None) -> tuple[str, ...]:
    """gen_img's options for the base model, which is fetched where it is missing."""
    sd_scripts.require_packages()
    usual = read_toml(REPOSITORY / config.TRAINING_FILE, config.TRAINING_FILE)["model"]
    base = base_model.locate(wanted or usual["pretrained_model_name_or_path"], models=models)
    base_model.provide(base, models=models, announce=say)
    tokenizer = str(base_model.tokenizer_folder(models))
    half = ("--fp16",) if hardware.gpus() else ()
    return ("--ckpt", base.path, "--tokenizer_cache_dir", tokenizer, *half)


def _scored_by_person(result: EpochResult) -> EpochResult:
    """The test with the scores that a person types; as it was where nobody can be asked."""
    print(f"look at the pictures in {result.folder}; then 0 to 10, or Enter")
    known, given = [str(number) for number in range(11)], asdict(result.scores)
    try:
        for name, score in given.items():
            given[name] = IntPrompt.ask(name, default=score, choices=known, show_choices=False)
    except EOFError:
        say("not scored: no terminal to ask at; --auto-score takes the suggestion")
        return result
    return epoch_result.write(epoch_result.rescored(result, scoring.Scores(**given), "person"))


def commit(folder: Path, summary: str) -> None:
    """Commit what lies in `folder` and nothing else, never pushed; what git refuses is said."""
    for words in (["add"], ["commit", "--quiet", "-m", f"Test {folder.name}: {summary}"]):
        command = ["git", *words, "--", "."]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            say(f"{folder}: not committed: {done.stdout}{done.stderr}")
            return


def score(chosen: argparse.Namespace) -> None:
    """A few lines a picture, or one JSON list; a DatasetError names one that cannot be read."""
    rows = []
    for file in chosen.pictures:
        measured = metrics.measure(images.pixels(file), chosen.prompt)
        own = scoring.suggest([measured])
        words = {"mean": own.mean, "verdict": own.verdict, "remarks": scoring.remarks(measured)}
        rows.append({"file": str(file), **measured, "scores": asdict(own), **words})
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    for each in rows:
        print(each["file"])
        for kind, part in {"background": each["background"], **each["features"]}.items():
            print(f"    {kind}: {epoch_result.in_words(part)}")
        scores = ", ".join(f"{key.replace('_', ' ')} {n}" for key, n in each["scores"].items())
        print("    " + "; ".join((scores, f"mean {each['mean']}", *each["remarks"])))
