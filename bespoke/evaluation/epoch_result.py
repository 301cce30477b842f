"""One epoch's pictures and what was measured of them: the unit that is kept, judged and shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from bespoke.errors import ConfigError
from bespoke.evaluation import scoring
from bespoke.files import write_whole

RESULT_FILE = "result.json"


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """One picture of one checkpoint: `prompt` is a name in test_prompts.toml, `text` what it asks,
    `file` a name in the result's folder, `measured` by `metrics.measure`.
    """

    prompt: str
    text: str
    seed: int
    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: str
    measured: Mapping[str, Any]

    @property
    def ground(self) -> Mapping[str, Any]:
        """What was measured of the background; nothing where the picture has no measurement."""
        return self.measured.get("background", {})

    @property
    def background(self) -> str:
        """match, mismatch or unmeasured."""
        verdict = self.ground.get("verdict")
        return verdict if verdict in ("match", "mismatch") else "unmeasured"


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Everything known of one checkpoint.

    `epoch` counts from 1, None where the file carries none; `suggested` are the metrics' scores,
    `scores` those that stand, by "metrics" or by "person"; `earlier` are those before, oldest
    first, each with the version of its metrics; `tested` is a time in UTC (ISO 8601).
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

    @property
    def remarks(self) -> list[str]:
        """What pulled the scores up or down, with in how many pictures, the most frequent first."""
        every = (scoring.remarks(picture.measured) for picture in self.pictures)
        counts = Counter(words for each in every for words in each)
        return [f"{words} ({n} of {len(self.pictures)})" for words, n in counts.most_common()]

    def backgrounds(self) -> dict[str, int]:
        """How many pictures' backgrounds are match, mismatch and unmeasured."""
        counts = Counter(picture.background for picture in self.pictures)
        return {word: counts[word] for word in ("match", "mismatch", "unmeasured")}

    @property
    def background_right(self) -> bool:
        """Whether at least half of the pictures have the background that was asked."""
        return 2 * self.backgrounds()["match"] >= len(self.pictures)

    def background_words(self) -> str:
        """In how many pictures the background is right, and why one is not measured."""
        words = (
            f"background right in {self.backgrounds()['match']} of {len(self.pictures)} pictures"
        )
        reasons = [each.ground.get("reason") for each in self.pictures]
        unmeasured = Counter(filter(None, reasons)).most_common(1)
        return words + "".join(f" ({count}: {reason})" for reason, count in unmeasured)

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


def rescored(result: EpochResult, scores: scoring.Scores, by: str, **new: Any) -> EpochResult:
    """The same test with other scores, and what else is `new`; those that stood are `earlier`."""
    keys = ("scores", "suggested", "scored_by", "metrics_version")
    before = {key: value for key, value in asdict(result).items() if key in keys}
    before |= {"verdict": result.verdict, "backgrounds": result.backgrounds()}
    return replace(result, scores=scores, scored_by=by, earlier=(*result.earlier, before), **new)


_RESULT = TypeAdapter(EpochResult)


def write(result: EpochResult) -> EpochResult:
    """Write `result.json` to the result's folder, and read it back as a later start does."""
    document = {**asdict(result), "verdict": result.verdict, "mean": result.scores.mean}
    text = json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"
    write_whole(Path(result.folder) / RESULT_FILE, text)
    return read(Path(result.folder))


def read(folder: Path) -> EpochResult:
    """The result that `folder` holds; a ConfigError where it holds none that can be read."""
    path = folder / RESULT_FILE
    try:
        return replace(_RESULT.validate_json(path.read_bytes()), folder=str(folder.absolute()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: damaged: {' '.join(str(error).split())[:200]}") from error
