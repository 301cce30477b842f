"""quick_test_epoch.py and auto_test_epoch.py: any checkpoint tested, away from its run."""

from __future__ import annotations

import itertools
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import (
    base_model,
    checkpoints,
    config,
    evaluate,
    git,
    hardware,
    prompts,
    sample,
    store,
    trainer,
)
from bespoke.config import TRAINING_FILE
from bespoke.display import say
from bespoke.errors import ConfigError
from bespoke.files import REPOSITORY, workspace
from bespoke.journal import now
from bespoke.scoring import Scores
from bespoke.toml_files import read_toml

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from bespoke.checkpoints import Lora
    from bespoke.evaluate import EpochResult
    from bespoke.prompts import Prompt

SCORED = ("visual_quality", "style_match", "prompt_adherence")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for; `size` and `steps` stand in the place of the prompts' own."""

    weights: tuple[Path, ...]
    prompts: Path | None = None
    base_model: str | None = None
    workspace: Path | None = None
    out: Path | None = None
    size: int | None = None
    steps: int | None = None
    auto_score: bool = False
    auto_commit: bool = False


def quick(request: Request) -> None:
    """Pictures, metrics and what they suggest, in a short table.

    Raises:
        ConfigError, TrainerError: where a checkpoint cannot be tested.
    """
    for result in _tested(request):
        print("\n".join(table(result)))


def auto(request: Request) -> None:
    """Pictures, metrics, scores, record and, if asked, a commit of each test's folder.

    Raises:
        ConfigError, TrainerError: where a checkpoint cannot be tested.
    """
    for tested in _tested(request):
        print("\n".join(table(tested)))
        result = _scored(tested, taking=request.auto_score)
        print(f"scores: {_told(result.scores)}, by {result.scored_by}")
        _record(result, workspace(request.workspace))
        if request.auto_commit:
            folder = Path(result.folder)
            say(git.commit(folder, f"Test {folder.name}: {_told(result.scores)}"))


def again(chosen: argparse.Namespace) -> None:
    """`bespoke rescore FOLDER…`: saved tests measured and scored as the metrics are now.

    Raises:
        ConfigError: where a folder holds no test, or other pictures than it did.
    """
    for folder in chosen.folders:
        before = evaluate.read(folder)
        result = evaluate.rescore(folder)
        print("\n".join(table(result)))
        print(f"before: {_told(before.scores)}, by metrics {before.metrics_version}")
        print(f"now: {_told(result.scores)}, by {result.scored_by}")
        _record(result, workspace(chosen.workspace))


def _record(result: EpochResult, place: Path) -> None:
    """Keep a test in the record, with the run that its checkpoint is of where one is known."""
    if result.epoch is None:
        say(f"{Path(result.checkpoint).name}: carries no epoch, so its folder alone holds the test")
        return
    with store.opened(place, url=os.environ.get("BESPOKE_DATABASE_URL")) as record:
        runs = [run for run in record.runs() if not run.baseline]
        names = [run.name for run in runs if result.run in (run.name, _output_name(run))]
        name = names[-1] if names else result.run
        if not names:
            made = [each for each in config.known(REPOSITORY) if each.output_name == result.run]
            experiment = made[0].name if made else ""
            record.begin(store.RunRecord(name=name, experiment=experiment))
            record.end(name, status="completed", ending="trained elsewhere; its epochs are tested")
        record.epoch(name, result, [])
    say(f"recorded as epoch {result.epoch} of {name}")


def _output_name(run: store.RunRecord) -> object:
    return run.settings.get("training.output_name", {}).get("value")


def table(result: EpochResult) -> Iterator[str]:
    """A test in a few lines: one for each picture, the backgrounds, the suggestion, the place."""
    epoch = "" if result.epoch is None else f", epoch {result.epoch}"
    yield f"{Path(result.checkpoint).name}: {result.run}{epoch}"
    width = max(len(picture.prompt) for picture in result.pictures)
    for picture in result.pictures:
        seen = picture.measured.get("background", {})
        words = " ".join(str(seen[key]) for key in ("colour", "name") if seen.get(key))
        far = "" if seen.get("delta_e") is None else f"  ΔE {seen['delta_e']:.0f}"
        row = f"  {picture.prompt:{width}}  seed {picture.seed:<6}"
        yield f"{row} background {picture.background:<10} {words}{far}".rstrip()
    counts = result.backgrounds()
    yield f"backgrounds: {counts['match']} of {len(result.pictures)} as asked"
    yield f"suggested: {_told(result.suggested)}"
    yield f"pictures: {result.folder}"


def _told(scores: Scores) -> str:
    rows = ", ".join(f"{key.replace('_', ' ')} {_number(getattr(scores, key))}" for key in SCORED)
    return f"{scores.verdict or 'no verdict'} ({rows}; mean {_number(scores.mean)})"


def _number(value: float | None) -> str:
    return "-" if value is None else str(value)


# --- Testing --------------------------------------------------------------------------------------


def _tested(request: Request) -> list[EpochResult]:
    loras = _identified(request.weights)
    asked = prompts.resized(
        prompts.load(request.prompts or REPOSITORY / prompts.PROMPTS_FILE),
        size=request.size,
        steps=request.steps,
    )
    here = Path.cwd()
    parent = request.out or (git.top(here) or here) / "epoch_tests"
    places = [_place(parent.expanduser().absolute(), lora, asked) for lora in loras]
    todo = [lora for lora, (_, known) in zip(loras, places, strict=True) if known is None]
    pictures = _pictures(todo, asked, request) if todo else {}
    results = []
    for lora, (folder, known) in zip(loras, places, strict=True):
        if known is not None:
            say(f"{lora.path.name}: is tested already, in {folder}")
            results.append(known)
            continue
        result = evaluate.evaluate(
            run=lora.name,
            lora=lora,
            pictures=pictures[lora],
            prompts=asked,
            folder=folder,
            take_suggestion=False,
        )
        results.append(result)
    return results


def _identified(paths: Sequence[Path]) -> list[Lora]:
    """Each checkpoint once; whatever is wrong with any is said before a picture is made."""
    found: dict[str, Lora] = {}
    problems = []
    for path in paths:
        try:
            lora = checkpoints.identify(path.expanduser().absolute())
        except ConfigError as error:
            problems.append(str(error))
            continue
        if lora.sha256 in found:
            say(f"{path.name}: is the same as {found[lora.sha256].path.name}, and tested once")
            continue
        found[lora.sha256] = lora
        for note in lora.notes:
            say(note)
    if problems:
        raise ConfigError("\n".join(problems))
    return list(found.values())


def _place(parent: Path, lora: Lora, asked: Sequence[Prompt]) -> tuple[Path, EpochResult | None]:
    """Where the test goes, with its result where this very test was made before.

    A test of other prompts, sizes or steps, or one that broke off, keeps its folder.
    """
    folder = base = evaluate.folder_for(parent, lora)
    wanted = {
        (prompt.name, prompt.text, seed, frozenset(evaluate.made(prompt).items()))
        for prompt in asked
        for seed in prompt.seeds
    }
    number = 1
    while folder.exists():
        if (folder / evaluate.RESULT_FILE).exists():
            known = evaluate.read(folder)
            there = {
                (each.prompt, each.text, each.seed, frozenset(each.made.items()))
                for each in known.pictures
            }
            if known.checkpoint_sha256 == lora.sha256 and there == wanted:
                return folder, known
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    return folder, None


def _pictures(
    loras: Sequence[Lora], asked: Sequence[Prompt], request: Request
) -> dict[Lora, dict[sample.Shot, Path]]:
    script = trainer.require_submodule(REPOSITORY) / "gen_img.py"
    trainer.require_packages()
    place = workspace(request.workspace)
    models = place / "models"
    wanted = request.base_model or str(
        read_toml(REPOSITORY / TRAINING_FILE, TRAINING_FILE)["model"][
            "pretrained_model_name_or_path"
        ]
    )
    base = base_model.provide(base_model.locate(wanted, models=models), models=models, announce=say)
    half = bool(hardware.gpus())
    if not half:
        say("no NVIDIA GPU here: it works, slowly; --size and --steps make it quicker, for a look")
    found: dict[Lora, dict[sample.Shot, Path]] = {}
    # The encoder's layer is one for a whole process.
    for skip, group in itertools.groupby(sorted(loras, key=_skip), key=_skip):
        together = list(group)
        studio = sample.Studio(
            script=script,
            base_model=base.path,
            tokenizer=base_model.tokenizer_folder(models),
            offline=not base.hub,
            half=half,
            folder=place / "logs" / "epoch_tests" / f"{now():%Y-%m-%dT%H-%M-%S.%fZ}",
        )
        count = len(together) * len(sample.shots_of(asked))
        say(f"{count} pictures of {len(together)} checkpoints; gen_img's log is in {studio.folder}")
        made = sample.make(
            [lora.path for lora in together], asked, studio, clip_skip=skip or None, tell=say
        )
        found |= dict(zip(together, made, strict=True))
    return found


def _skip(lora: Lora) -> int:
    return lora.clip_skip or 0


# --- Scoring --------------------------------------------------------------------------------------


def _scored(result: EpochResult, *, taking: bool) -> EpochResult:
    """The scores that a person gives or takes over; none where nobody can be asked."""
    folder = Path(result.folder)
    if taking:
        if result.scored_by == "person":
            say("a person has scored it already: those scores stand")
            return result
        return evaluate.scored(folder, result.suggested, "metrics")
    if not sys.stdin.isatty():
        say("not scored: no terminal to ask at; --auto-score takes the suggestion")
        return result
    print(f"look at {folder / result.pictures[0].file} and those beside it")
    default = result.scores if result.scored_by == "person" else result.suggested
    try:
        given = Scores(**{key: _asked(key, getattr(default, key)) for key in SCORED})
    except EOFError:
        say("not scored: the input ended")
        return result
    return evaluate.scored(folder, given, "person")


def _asked(key: str, default: int | None) -> int | None:
    """A score from 0 to 10; an empty answer is the default, or no score where there is none."""
    while True:
        text = input(f"{key.replace('_', ' ')}, 0 to 10 [{_number(default)}]: ").strip()
        if not text:
            return default
        if text.isdecimal() and int(text) <= 10:
            return int(text)
        print(f"{text!r}: a whole number from 0 to 10 is needed")
