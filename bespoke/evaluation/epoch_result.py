"""One epoch's pictures and what was measured of them: the unit that is kept, judged and shown."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from bespoke.dataset import images as images
from bespoke.errors import ConfigError
from bespoke.evaluation import sampling
from bespoke.evaluation.scoring import Scores
from bespoke.files import sha256, write_whole
from bespoke.trainer.journal import now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bespoke.evaluation.sampling import SampleSpec
    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.checkpoints import Lora

RESULT_FILE = "result.json"
CELLS = 24
# A test whose scores nobody gave: neither the metrics nor a person.
NOBODY = "nobody"
UNSCORED = Scores(visual_quality=None, style_match=None, prompt_adherence=None)


_Number = Annotated[float, Field(ge=0, le=1e6)]


class _Measurement(BaseModel):
    """What is read of one metric."""

    verdict: str = ""
    value: _Number | None = None
    reason: str = ""
    colour: str | None = None
    name: str | None = None
    delta_e: _Number | None = None
    asked: dict[str, list[str]] = {}


_MEASUREMENTS = TypeAdapter(dict[str, _Measurement])


def _measurements(measured: Mapping[str, Any]) -> Mapping[str, Any]:
    """Hold what a file says was measured to what is read of it."""
    read = {name: measured.get(name, {}) for name in ("background", "cells", "palette", "edges")}
    _MEASUREMENTS.validate_python(read)
    _MEASUREMENTS.validate_python(measured.get("features", {}))
    return measured


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """One picture of one checkpoint.

    `prompt` is the prompt's name in test_prompts.toml, `text` what was asked; `file` is relative to
    the result's folder; `sha256` is the picture's own; `measured` is what `metrics.measure` gave;
    `made` holds the negative prompt, steps, scale, size and sampler.
    """

    prompt: str
    text: str
    seed: int
    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: str
    measured: Annotated[Mapping[str, Any], AfterValidator(_measurements)]
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def background(self) -> str:
        """match, mismatch or unmeasured."""
        verdict = self.measured.get("background", {}).get("verdict")
        return verdict if verdict in ("match", "mismatch") else "unmeasured"

    @property
    def black(self) -> bool:
        """Whether there is nothing in it but black, which is what NaN ends as."""
        return "black" in self.measured.get("background", {}).get("reason", "")


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Everything known of one checkpoint.

    `run` is the run's name, `epoch` counts from 1 and is None for a checkpoint that carries none;
    `folder` holds the pictures; `suggested` are the metrics' scores, `scores` those that stand,
    by "metrics", by "person", or as yet by "nobody"; `tested` is when, in UTC (ISO 8601). `earlier`
    keeps the scores given before, oldest first: a later scoring replaces nothing.
    """

    run: str
    epoch: int | None
    checkpoint: str
    checkpoint_sha256: str
    checkpoint_size: int
    folder: str
    metrics_version: int
    pictures: tuple[PictureResult, ...]
    suggested: Scores
    scores: Scores
    scored_by: str
    tested: str
    earlier: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> str | None:
        return self.scores.verdict

    @property
    def test(self) -> tuple[str, str]:
        """What tells this test from every other, whatever it is scored later."""
        return self.checkpoint_sha256, self.tested

    def backgrounds(self) -> dict[str, int]:
        """How many pictures' backgrounds are match, mismatch and unmeasured."""
        counts = {"match": 0, "mismatch": 0, "unmeasured": 0}
        for picture in self.pictures:
            counts[picture.background] += 1
        return counts

    @property
    def background_right(self) -> bool:
        """Whether at least half of the pictures have the background that was asked."""
        return 2 * self.backgrounds()["match"] >= len(self.pictures)

    def background_words(self) -> str:
        """In how many pictures the background is right."""
        counts, black = self.backgrounds(), sum(picture.black for picture in self.pictures)
        words = f"background right in {counts['match']} of {len(self.pictures)} pictures"
        if black:
            return f"{words} ({black} black, as where the model gives NaN)"
        return f"{words} ({counts['unmeasured']} not measured)" if counts["unmeasured"] else words

    def summary(self) -> str:
        """The background, then the scores; a verdict only where the background is right.

        A mean alone would call acceptable what shows nothing of what was asked.
        """
        words, scores = self.background_words(), self.scores
        if scores.mean is None:
            return words
        verdict = f", {self.verdict}" if self.background_right else ""
        return (
            f"{words}; mean {scores.mean} of 10{verdict} (quality {scores.visual_quality}, "
            f"style {scores.style_match}, prompt {scores.prompt_adherence})"
        )

    def as_json(self) -> str:
        document = {**asdict(self), "verdict": self.verdict, "mean": self.scores.mean}
        return json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"


# --- Read back ------------------------------------------------------------------------------------


_RESULT = TypeAdapter(EpochResult)


def read(folder: Path) -> EpochResult:
    """The result that `folder` holds.

    Raises:
        ConfigError: where it holds none that can be read.
    """
    path = folder / RESULT_FILE
    try:
        return replace(_RESULT.validate_json(path.read_bytes()), folder=str(folder.absolute()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{path}: damaged: {where}: {first['msg']}") from error


def read_saved(folder: Path, lora: Lora, tell: Callable[[str], None]) -> EpochResult | None:
    """The result that `folder` holds of a checkpoint, None without one.

    One that is damaged, or of another checkpoint, is renamed, so that it is made anew.

    Raises:
        OSError: where it cannot be renamed.
    """
    if not (folder / RESULT_FILE).exists():
        return None
    try:
        result = read(folder)
        if (result.checkpoint_sha256, result.epoch) == (lora.sha256, lora.epoch):
            return result
        problem = f"{folder / RESULT_FILE}: damaged: it is of another checkpoint"
    except ConfigError as error:
        problem = str(error)
    aside = folder / f"result.damaged-{now():%Y-%m-%dT%H-%M-%S.%fZ}.json"
    (folder / RESULT_FILE).rename(aside)
    tell(f"{problem}; kept as {aside.name}, and tested again")
    return None


# --- Made -----------------------------------------------------------------------------------------


def folder_for(parent: Path, lora: Lora) -> Path:
    """Where one checkpoint's test is kept: by its content, so that no other's mixes in."""
    return parent / f"{lora.path.stem}-{lora.sha256[:8]}"


def evaluate(
    *,
    run: str,
    lora: Lora,
    pictures: Mapping[SampleSpec, Path],
    prompts: Sequence[Prompt],
    folder: Path,
    take_suggestion: bool = True,
) -> EpochResult:
    """Keep, measure and score a checkpoint's pictures; write `result.json` to `folder`.

    Each is copied as `{prompt}_{seed}.png`, and as `{prompt}_{seed}_24.png` with a pixel a cell.
    The metrics' own scores stand, or none where not `take_suggestion`, until `score` gives others.

    Raises:
        ConfigError: where a picture is missing, or the folder holds a result already.
        DatasetError: where a picture cannot be read.
    """
    from bespoke.evaluation import metrics, scoring

    if (folder / RESULT_FILE).exists():
        raise ConfigError(f"{folder / RESULT_FILE}: is there already; it is not overwritten")
    if missing := sampling.missing_pictures(sampling.sample_specs(prompts), pictures):
        raise ConfigError(f"{lora.path.name}: {missing}")
    by_name = {prompt.name: prompt for prompt in prompts}
    folder.mkdir(parents=True, exist_ok=True)
    results = tuple(
        _picture(by_name[spec.prompt], spec.seed, path, folder) for spec, path in pictures.items()
    )
    suggested = scoring.suggest([picture.measured for picture in results])
    result = EpochResult(
        run=run,
        epoch=lora.epoch,
        checkpoint=str(lora.path),
        checkpoint_sha256=lora.sha256,
        checkpoint_size=lora.size,
        folder=str(folder.absolute()),
        metrics_version=metrics.VERSION,
        pictures=results,
        suggested=suggested,
        scores=suggested if take_suggestion else UNSCORED,
        scored_by="metrics" if take_suggestion else NOBODY,
        tested=now().isoformat(timespec="milliseconds"),
    )
    return _write(result, folder)


def score(folder: Path, scores: Scores, by: str) -> EpochResult:
    """Let other scores stand for the test in `folder`; those that stood are kept as `earlier`."""
    result = read(folder)
    if (result.scores, result.scored_by) == (scores, by):
        return result
    return _write(rescored(result, scores, by), folder)


def rescored(result: EpochResult, scores: Scores, by: str) -> EpochResult:
    """The same test with other scores, those that stood among `earlier`."""
    before = [] if result.scored_by == NOBODY else [_scoring(result)]
    return replace(result, scores=scores, scored_by=by, earlier=(*result.earlier, *before))


def measure_again(folder: Path) -> EpochResult:
    """Measure and score the pictures in `folder` again, with the metrics as they are now.

    What was measured and scored before is kept as `earlier`. A person's scores go on to stand.

    Raises:
        ConfigError: where a picture is not, to the byte, the one that was tested.
        DatasetError: where it cannot be read.
    """
    from bespoke.evaluation import metrics, scoring

    result = read(folder)
    pictures = []
    for picture in result.pictures:
        path = folder / picture.file
        measured = metrics.measure(images.pixels(path), metrics.read_prompt(picture.text))
        if sha256(path) != picture.sha256:
            raise ConfigError(f"{path}: is not the picture that was tested")
        pictures.append(replace(picture, measured=measured))
    suggested = scoring.suggest([picture.measured for picture in pictures])
    renewed = replace(
        result,
        pictures=tuple(pictures),
        metrics_version=metrics.VERSION,
        suggested=suggested,
        scores=suggested if result.scored_by == "metrics" else result.scores,
        earlier=(*result.earlier, _scoring(result)),
    )
    return _write(renewed, folder)


def _picture(prompt: Prompt, seed: int, path: Path, folder: Path) -> PictureResult:
    from PIL import Image

    from bespoke.evaluation import metrics

    pixels = images.pixels(path)
    name = f"{prompt.name}_{seed}"
    small = io.BytesIO()
    # Nearest takes the pixel at each cell's centre.
    Image.fromarray(pixels).resize((CELLS, CELLS), Image.Resampling.NEAREST).save(small, "PNG")
    write_whole(folder / f"{name}_{CELLS}.png", small.getvalue())
    write_whole(folder / f"{name}.png", path.read_bytes())
    return PictureResult(
        prompt=prompt.name,
        text=prompt.text,
        seed=seed,
        file=f"{name}.png",
        sha256=sha256(folder / f"{name}.png"),
        measured=metrics.measure(pixels, metrics.read_prompt(prompt.text)),
        made=how_made(prompt),
    )


def how_made(prompt: Prompt) -> dict[str, Any]:
    """How a prompt's pictures are made, besides its text and seed."""
    keys = ("negative", "steps", "scale", "size")
    return {**{key: getattr(prompt, key) for key in keys}, "sampler": sampling.SAMPLER}


def _scoring(result: EpochResult) -> dict[str, Any]:
    """What is kept of a scoring that another one follows."""
    return {
        "scores": asdict(result.scores),
        "suggested": asdict(result.suggested),
        "scored_by": result.scored_by,
        "verdict": result.verdict,
        "metrics_version": result.metrics_version,
        "backgrounds": result.backgrounds(),
        "until": now().isoformat(timespec="seconds"),
    }


def _write(result: EpochResult, folder: Path) -> EpochResult:
    write_whole(folder / RESULT_FILE, result.as_json())
    return result
