"""One epoch's pictures and what was measured of them: the unit that is kept, judged and shown."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bespoke import sample
from bespoke.errors import ConfigError
from bespoke.files import write_whole
from bespoke.journal import now
from bespoke.scoring import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bespoke.checkpoints import Lora
    from bespoke.prompts import Prompt
    from bespoke.sample import Shot

RESULT_FILE = "result.json"
CELLS = 24
# A picture whose scores nobody gave: neither the metrics' nor a person's.
NOBODY = "nobody"
UNSCORED = Scores(visual_quality=None, style_match=None, prompt_adherence=None)


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
    file: str
    sha256: str
    measured: Mapping[str, Any]
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def background(self) -> str:
        """match, mismatch or unmeasured."""
        return str(self.measured.get("background", {}).get("verdict", "unmeasured"))


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

    def backgrounds(self) -> dict[str, int]:
        """How many pictures' backgrounds are match, mismatch and unmeasured."""
        counts = {"match": 0, "mismatch": 0, "unmeasured": 0}
        for picture in self.pictures:
            counts[picture.background] += 1
        return counts

    def as_json(self) -> str:
        document = {**asdict(self), "verdict": self.verdict, "mean": self.scores.mean}
        return json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"


def from_json(text: str) -> EpochResult:
    """The result that `as_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: where the text is none.
    """
    told = json.loads(text)
    del told["verdict"], told["mean"]
    told |= {
        "pictures": tuple(PictureResult(**picture) for picture in told["pictures"]),
        "suggested": Scores(**told["suggested"]),
        "scores": Scores(**told["scores"]),
        "earlier": tuple(told["earlier"]),
    }
    return EpochResult(**told)


def folder_for(parent: Path, lora: Lora) -> Path:
    """Where one checkpoint's test is kept: by its content, so that no other's mixes in."""
    return parent / f"{lora.path.stem}-{lora.sha256[:8]}"


def evaluate(
    *,
    run: str,
    lora: Lora,
    pictures: Mapping[Shot, Path],
    prompts: Sequence[Prompt],
    folder: Path,
    take_suggestion: bool = True,
) -> EpochResult:
    """Keep, measure and score a checkpoint's pictures; write `result.json` to `folder`.

    Each is copied as `{prompt}_{seed}.png`, and as `{prompt}_{seed}_24.png` with a pixel a cell.
    The metrics' own scores stand, or none where not `take_suggestion`, until `scored` gives others.

    Raises:
        ConfigError: where a picture is missing or cannot be read, or the folder holds a result
            already.
    """
    from bespoke import metrics, scoring

    if (folder / RESULT_FILE).exists():
        raise ConfigError(f"{folder / RESULT_FILE}: is there already; it is not overwritten")
    if missing := sample.lacking(sample.shots_of(prompts), pictures):
        raise ConfigError(f"{lora.path.name}: {missing}")
    by_name = {prompt.name: prompt for prompt in prompts}
    folder.mkdir(parents=True, exist_ok=True)
    results = tuple(
        _picture(by_name[shot.prompt], shot.seed, path, folder) for shot, path in pictures.items()
    )
    suggested = scoring.suggest([picture.measured for picture in results])
    result = EpochResult(
        run=run,
        epoch=lora.epoch,
        checkpoint=str(lora.path),
        checkpoint_sha256=lora.sha256,
        checkpoint_size=lora.size,
        folder=str(folder),
        metrics_version=metrics.VERSION,
        pictures=results,
        suggested=suggested,
        scores=suggested if take_suggestion else UNSCORED,
        scored_by="metrics" if take_suggestion else NOBODY,
        tested=now().isoformat(timespec="seconds"),
    )
    return _written(result, folder)


def read(folder: Path) -> EpochResult:
    """The result that `folder` holds.

    Raises:
        ConfigError: where it holds none that can be read.
    """
    path = folder / RESULT_FILE
    try:
        return from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: no test's result: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: is not what bespoke wrote: {error}") from error


def scored(folder: Path, scores: Scores, by: str) -> EpochResult:
    """Let other scores stand for the test in `folder`; those that stood are kept as `earlier`."""
    result = read(folder)
    if (result.scores, result.scored_by) == (scores, by):
        return result
    earlier = (*result.earlier, *([_verdict(result)] if result.scored_by != NOBODY else []))
    return _written(replace(result, scores=scores, scored_by=by, earlier=earlier), folder)


def rescore(folder: Path) -> EpochResult:
    """Measure and score the pictures in `folder` again, with the metrics as they are now.

    What was measured and scored before is kept as `earlier`. A person's scores go on to stand.

    Raises:
        ConfigError: where a picture is not, to the byte, the one that was tested.
    """
    from bespoke import metrics, scoring

    result = read(folder)
    pictures = []
    for picture in result.pictures:
        path = folder / picture.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise ConfigError(f"{path}: is another picture than the one tested: not scored again")
        pictures.append(replace(picture, measured=_measured(data, path, picture.text)))
    suggested = scoring.suggest([picture.measured for picture in pictures])
    renewed = replace(
        result,
        pictures=tuple(pictures),
        metrics_version=metrics.VERSION,
        suggested=suggested,
        scores=suggested if result.scored_by == "metrics" else result.scores,
        earlier=(*result.earlier, _verdict(result)),
    )
    return _written(renewed, folder)


def _picture(prompt: Prompt, seed: int, path: Path, folder: Path) -> PictureResult:
    from PIL import Image

    data = path.read_bytes()
    measured = _measured(data, path, prompt.text)
    name = f"{prompt.name}_{seed}"
    write_whole(folder / f"{name}.png", data)
    small = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        # Nearest takes the pixel at each cell's centre.
        cells = image.convert("RGB").resize((CELLS, CELLS), Image.Resampling.NEAREST)
    cells.save(small, "PNG")
    write_whole(folder / f"{name}_{CELLS}.png", small.getvalue())
    return PictureResult(
        prompt=prompt.name,
        text=prompt.text,
        seed=seed,
        file=f"{name}.png",
        sha256=hashlib.sha256(data).hexdigest(),
        measured=measured,
        made=made(prompt),
    )


def made(prompt: Prompt) -> dict[str, Any]:
    """How a prompt's pictures are made, besides its text and seed."""
    keys = ("negative", "steps", "scale", "size")
    return {**{key: getattr(prompt, key) for key in keys}, "sampler": sample.SAMPLER}


def _measured(data: bytes, path: Path, text: str) -> dict[str, Any]:
    import numpy as np
    from PIL import Image

    from bespoke import metrics

    try:
        with Image.open(io.BytesIO(data)) as image:
            array = np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: is not a whole picture: {error}") from error
    return dict(metrics.measure(array, metrics.read_prompt(text)))


def _verdict(result: EpochResult) -> dict[str, Any]:
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


def _written(result: EpochResult, folder: Path) -> EpochResult:
    write_whole(folder / RESULT_FILE, result.as_json())
    return result
