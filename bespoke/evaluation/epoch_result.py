"""One epoch's pictures and what was measured of them: the unit that is kept, judged and shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from PIL import Image
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from bespoke.dataset import images
from bespoke.errors import ConfigError, TrainerError
from bespoke.evaluation import metrics, sampling, scoring
from bespoke.evaluation.view import CELLS
from bespoke.files import sha256, write_whole
from bespoke.trainer.journal import now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bespoke.evaluation.sampling import SampleSpec
    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.checkpoints import Lora

RESULT_FILE = "result.json"

_Number = Annotated[float, Field(ge=0, le=1e6)]


class _Measurement(BaseModel):
    verdict: str = ""
    value: _Number | None = None
    reason: str = ""
    colour: str | None = None
    name: str | None = None
    delta_e: _Number | None = None
    beyond: _Number | None = None
    sharp: _Number | None = None
    asked: dict[str, list[str]] = {}


class _Measured(BaseModel):
    background: _Measurement = _Measurement()
    features: dict[str, _Measurement] = {}
    grid: _Measurement = _Measurement()
    likeness: dict[str, _Measurement] = {}


def _readable(measured: Mapping[str, Any]) -> Mapping[str, Any]:
    _Measured.model_validate(measured)
    return measured


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """One picture of one checkpoint: `prompt` is a name in test_prompts.toml, `text` what it asks,
    `file` a name in the result's folder, `measured` by `metrics.measure`, `made` how it was drawn.
    """

    prompt: str
    text: str
    seed: int
    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: str
    measured: Annotated[Mapping[str, Any], AfterValidator(_readable)]
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def background(self) -> str:
        """match, mismatch or unmeasured."""
        verdict = self.measured.get("background", {}).get("verdict")
        return verdict if verdict in ("match", "mismatch") else "unmeasured"


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Everything known of one checkpoint.

    `epoch` counts from 1, None where the file carries none; `suggested` are the metrics' scores,
    `scores` those that stand, by "metrics" or by "person", `earlier` those before, oldest first;
    `tested` is a time in UTC (ISO 8601).
    """

    run: str
    epoch: int | None
    checkpoint: str
    checkpoint_sha256: str
    checkpoint_size: int
    folder: str
    metrics_version: int
    pictures: tuple[PictureResult, ...]
    suggested: scoring.Scores
    scores: scoring.Scores
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
        counts = Counter(picture.background for picture in self.pictures)
        return {word: counts[word] for word in ("match", "mismatch", "unmeasured")}

    @property
    def background_right(self) -> bool:
        """Whether at least half of the pictures have the background that was asked."""
        return 2 * self.backgrounds()["match"] >= len(self.pictures)

    def background_words(self) -> str:
        """In how many pictures the background is right."""
        counts = self.backgrounds()
        words = f"background right in {counts['match']} of {len(self.pictures)} pictures"
        reasons = [each.measured.get("background", {}).get("reason") for each in self.pictures]
        if black := reasons.count(metrics.BLACK):
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


def asked_words(measured: Mapping[str, Any]) -> str:
    """The colour that was asked of a background or a feature, as the prompt has it."""
    asked = measured.get("asked", {})
    return " ".join((*asked.get("words", ()), *asked.get("hex", ())))


_RESULT = TypeAdapter(EpochResult)


def folder_for(parent: Path, lora: Lora, suffix: str = "") -> Path:
    """Where one checkpoint's test is kept: by its content, so that no other's mixes in."""
    return parent / f"{lora.path.stem}-{lora.sha256[:8]}{suffix}"


def write(result: EpochResult) -> EpochResult:
    """Write `result.json` to the result's folder, and read it back as a later start does."""
    folder = Path(result.folder)
    document = {**asdict(result), "verdict": result.verdict, "mean": result.scores.mean}
    text = json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"
    write_whole(folder / RESULT_FILE, text)
    return read(folder)


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


def read_saved(folder: Path, tell: Callable[[str], None]) -> EpochResult | None:
    """The result that `folder` holds, None without one; a damaged one is renamed, to be made anew.

    Raises:
        OSError: where it cannot be renamed.
    """
    if not (folder / RESULT_FILE).exists():
        return None
    try:
        return read(folder)
    except ConfigError as error:
        aside = folder / f"result.damaged-{now():%Y-%m-%dT%H-%M-%S.%fZ}.json"
        (folder / RESULT_FILE).rename(aside)
        tell(f"{error}; kept as {aside.name}, and tested again")
        return None


def evaluate(
    *,
    run: str,
    lora: Lora,
    pictures: Mapping[SampleSpec, Path],
    prompts: Sequence[Prompt],
    folder: Path,
) -> EpochResult:
    """Keep, measure and score a checkpoint's pictures; write `result.json` to `folder`.

    Each is copied as `{prompt}_{seed}.png`, and as `{prompt}_{seed}_24.png` with a pixel a cell.

    Raises:
        TrainerError: where a picture is missing.
        DatasetError: where a picture cannot be read.
    """
    if missing := sampling.missing_pictures(sampling.sample_specs(prompts), pictures):
        raise TrainerError(f"{lora.path.name}: {missing}")
    by_name = {prompt.name: prompt for prompt in prompts}
    folder.mkdir(parents=True, exist_ok=True)
    results = tuple(
        _picture(by_name[spec.prompt], spec.seed, path, folder) for spec, path in pictures.items()
    )
    suggested = scoring.suggest([picture.measured for picture in results])
    return write(
        EpochResult(
            run=run,
            epoch=lora.epoch,
            checkpoint=str(lora.path),
            checkpoint_sha256=lora.sha256,
            checkpoint_size=lora.size,
            folder=str(folder.absolute()),
            metrics_version=metrics.VERSION,
            pictures=results,
            suggested=suggested,
            scores=suggested,
            scored_by="metrics",
            tested=now().isoformat(timespec="milliseconds"),
        )
    )


def _picture(prompt: Prompt, seed: int, path: Path, folder: Path) -> PictureResult:
    name = f"{prompt.name}_{seed}"
    write_whole(folder / f"{name}.png", path.read_bytes())
    measured = _measured(folder / f"{name}.png", prompt.text)
    with Image.open(path) as image:
        # Nearest takes the pixel at each cell's centre.
        small = image.resize((CELLS, CELLS), Image.Resampling.NEAREST)
    small.save(folder / f"{name}_{CELLS}.png")
    made = {key: getattr(prompt, key) for key in ("negative", "steps", "scale", "size")}
    return PictureResult(
        prompt=prompt.name,
        text=prompt.text,
        seed=seed,
        file=f"{name}.png",
        sha256=sha256(folder / f"{name}.png"),
        measured=measured,
        made={**made, "sampler": sampling.SAMPLER},
    )


def rescored(result: EpochResult, scores: scoring.Scores, by: str) -> EpochResult:
    """The same test with other scores, those that stood among `earlier`."""
    earlier = (*result.earlier, _scoring(result))
    return replace(result, scores=scores, scored_by=by, earlier=earlier)


def _scoring(result: EpochResult) -> dict[str, Any]:
    keys = ("scores", "suggested", "scored_by", "metrics_version")
    scoring = {key: value for key, value in asdict(result).items() if key in keys}
    return {**scoring, "verdict": result.verdict, "backgrounds": result.backgrounds()}


def measure_again(folder: Path) -> EpochResult:
    """Measure the pictures in `folder` with the metrics as they are now; a person's scores stay.

    Raises:
        ConfigError: where a picture is not, to the byte, the one that was tested.
        DatasetError: where it cannot be read.
    """
    result = read(folder)
    for picture in result.pictures:
        if sha256(folder / picture.file) != picture.sha256:
            raise ConfigError(f"{folder / picture.file}: is not the picture that was tested")
    pictures = tuple(
        replace(picture, measured=_measured(folder / picture.file, picture.text))
        for picture in result.pictures
    )
    suggested = scoring.suggest([picture.measured for picture in pictures])
    scores = result.scores if result.scored_by == "person" else suggested
    again = replace(result, pictures=pictures, metrics_version=metrics.VERSION, suggested=suggested)
    return write(replace(again, scores=scores, earlier=(*result.earlier, _scoring(result))))


def _measured(picture: Path, text: str) -> dict[str, Any]:
    return metrics.measure(images.pixels(picture), metrics.read_prompt(text))
