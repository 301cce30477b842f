"""Checkpoints and pictures tested by hand: `bespoke test` and `bespoke score`.

What is recorded of them is the record's to say.
"""

from __future__ import annotations

import glob
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from bespoke.console import say
from bespoke.dataset import images
from bespoke.errors import ConfigError
from bespoke.evaluation import epoch_result, metrics, sampling
from bespoke.evaluation.scoring import Scores, suggest
from bespoke.experiment import prompts
from bespoke.experiment.config import TRAINING_FILE
from bespoke.experiment.toml_files import read_toml
from bespoke.files import REPOSITORY, workspace
from bespoke.trainer import base_model, checkpoints, hardware, launch
from bespoke.trainer.child_process import outcome
from bespoke.trainer.job import now

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.checkpoints import Lora

_SCORES = TypeAdapter(Scores)


def test(chosen: argparse.Namespace, keep: Callable[[EpochResult], None]) -> None:
    """Pictures, metrics and a table; scores and a commit where they are wanted.

    `keep` is given what may be recorded: scored tests of the usual prompts as they are.

    Raises:
        ConfigError, TrainerError: where a checkpoint or a saved test cannot be tested.
    """
    if bool(chosen.weights) == bool(chosen.again):
        raise ConfigError("name checkpoints to test, or saved tests with --again FOLDER")
    usual = prompts.load(REPOSITORY / prompts.PROMPTS_FILE)
    asked = prompts.load(chosen.prompts) if chosen.prompts else usual
    wanted = prompts.resized(asked, size=chosen.size, steps=chosen.steps)
    saved = [epoch_result.measure_again(folder) for folder in chosen.again]
    for result in saved or _test(chosen, wanted):
        print("\n".join(table(result)))
        if chosen.score and not chosen.auto_score:
            result = _scored_by_person(result)
        if chosen.again or chosen.auto_score or (chosen.score and result.scored_by == "person"):
            print(f"scored by {result.scored_by}: {result.summary()}")
            if chosen.again or wanted == usual:
                keep(result)
            else:
                say("not recorded: other prompts, size or steps than a run's own test")
        if chosen.auto_commit:
            folder = Path(result.folder)
            say(commit(folder, f"Test {folder.name}: {result.summary()}"))


def table(result: EpochResult) -> Iterator[str]:
    """A test in a few lines: each picture, the verdict before, the suggestion, the place."""
    epoch = "" if result.epoch is None else f", epoch {result.epoch}"
    yield f"{Path(result.checkpoint).name}: {result.run}{epoch}; backgrounds by prompt and seed:"
    width = max((len(picture.prompt) for picture in result.pictures), default=0)
    for picture in result.pictures:
        words = _in_words(picture.measured.get("background", {}))
        yield f"  {picture.prompt:{width}} {picture.seed:>5}  {words}"
    for before in result.earlier[-1:]:
        yield f"before: {before['verdict']}, by metrics {before['metrics_version']}"
    yield f"suggested: {replace(result, scores=result.suggested).summary()}"
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


# --- Pictures of checkpoints ----------------------------------------------------------------------


def _test(chosen: argparse.Namespace, wanted: Sequence[Prompt]) -> list[EpochResult]:
    """Each checkpoint's test: a saved one is read, the others' pictures are drawn."""
    place = workspace(chosen.workspace)
    paths = [_find(name.expanduser(), place / "output") for name in chosen.weights]
    # The same file twice is one checkpoint.
    loras = {lora.sha256: lora for lora in map(checkpoints.identify, paths)}.values()
    # Other prompts, sizes or steps are another test.
    folder = chosen.out or Path.cwd() / "epoch_tests"
    wish = hashlib.sha256(repr(wanted).encode()).hexdigest()[:6]
    folders = {lora: epoch_result.folder_for(folder, lora, f"-{wish}") for lora in loras}
    results = {lora: epoch_result.read_saved(folders[lora], say) for lora in loras}
    for lora in loras:
        if results[lora]:
            say(f"{lora.path.name}: is tested already, in {folders[lora]}")
    missing = [lora for lora in loras if results[lora] is None]
    pictures = _draw(missing, wanted, place, chosen.base_model) if missing else {}
    for lora in missing:
        results[lora] = epoch_result.evaluate(
            run=lora.name, lora=lora, pictures=pictures[lora], prompts=wanted, folder=folders[lora]
        )
    return [result for result in results.values() if result]


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


def _draw(
    loras: Sequence[Lora], wanted: Sequence[Prompt], place: Path, model: str | None
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
    for clip_skip in {lora.clip_skip: None for lora in loras}:
        together = [lora for lora in loras if lora.clip_skip == clip_skip]
        tool = sampling.GenImg(
            script=script,
            base_model=base.path,
            tokenizer=base_model.tokenizer_folder(models),
            half=half,
            folder=place / "logs" / "epoch_tests" / f"{now():%Y-%m-%dT%H-%M-%S.%fZ}",
            clip_skip=clip_skip,
        )
        count = len(together) * len(sampling.sample_specs(wanted))
        say(f"drawing {count} pictures; log: {tool.folder}")
        drawn = sampling.draw([lora.path for lora in together], wanted, tool, say)
        pictures |= dict(zip(together, drawn, strict=True))
    return pictures


def _scored_by_person(result: EpochResult) -> EpochResult:
    """The test with the scores that a person types; as it was where nobody can be asked."""
    default = result.scores if result.scored_by == "person" else result.suggested
    shown = " ".join("-" if each is None else str(each) for each in asdict(default).values())
    print(f"look at the pictures in {result.folder}")
    while True:
        try:
            words = input(f"quality, style and prompt, 0 to 10 each [{shown}]: ").split()
            scores = _SCORES.validate_python(dict(zip(asdict(default), words, strict=True)))
        except EOFError:
            say("not scored: no terminal to ask at; --auto-score takes the suggestion")
            return result
        except ValueError:
            if words:
                print("three whole numbers from 0 to 10 are needed, or Enter")
                continue
            scores = default
        return epoch_result.write(epoch_result.rescored(result, scores, "person"))


# --- Any picture ----------------------------------------------------------------------------------


def score(chosen: argparse.Namespace) -> None:
    """`bespoke score`: a few lines a picture, or one JSON list with an object for each.

    Raises:
        DatasetError: where a picture cannot be read; nothing is printed then.
    """
    rows = score_pictures(chosen.pictures, chosen.prompt)
    if chosen.json:
        print(json.dumps(rows, indent=2))
        return
    for each in rows:
        print("\n    ".join((each["file"], *_lines(each))))


def _lines(measured: Mapping[str, Any]) -> Iterator[str]:
    for kind, part in {"background": measured["background"], **measured["features"]}.items():
        yield f"{kind}: {_in_words(part)}"
    scores = (f"{key.replace('_', ' ')} {value}" for key, value in measured["scores"].items())
    yield f"scores: {', '.join(scores)}; mean {measured['mean']}".replace("None", "not measured")


def score_pictures(files: Sequence[Path], prompt: str) -> list[dict[str, Any]]:
    """One object a picture: `file`, what `metrics.measure` gives, `scores`, `mean` and `verdict`.

    Raises:
        DatasetError: where a picture cannot be read.
    """
    wanted = metrics.read_prompt(prompt)
    rows = []
    for file in files:
        measured = metrics.measure(images.pixels(file), wanted)
        scores = suggest([measured])
        verdict = {"scores": asdict(scores), "mean": scores.mean, "verdict": scores.verdict}
        rows.append({"file": str(file), **measured, **verdict})
    return rows


def commit(folder: Path, message: str) -> str:
    """Commit what lies in `folder` and nothing else, never pushed; what git refuses is no error."""
    for arguments in (["add"], ["commit", "--quiet", "-m", message]):
        code, text = outcome(["git", *arguments, "--", "."], cwd=folder)
        if code != 0:
            return f"not committed: {text}"
    return f"committed: {message}"
