"""One epoch's pictures and what was measured of them: the unit that is kept, judged and shown."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from bespoke.console import say
from bespoke.evaluation import scoring
from bespoke.files import write_whole


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
        """What was measured of the background."""
        return dict(self.measured.get("background", {}))

    @property
    def background(self) -> str:
        """match, mismatch or unmeasured."""
        verdict = self.ground.get("verdict")
        return verdict if verdict in ("match", "mismatch") else "unmeasured"


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Everything known of one checkpoint.

    `epoch` counts from 1, 0 are the base model's own pictures, None where the file carries none;
    `scores` are by "metrics" or by "person", `earlier` those that stood before, oldest first, each
    with the version of the metrics; `tested` is a time in UTC (ISO 8601).
    """

    run: str
    epoch: int | None
    checkpoint: str
    checkpoint_sha256: str
    checkpoint_size: int
    folder: str
    metrics_version: int
    pictures: tuple[PictureResult, ...]
    scores: scoring.Scores
    scored_by: str
    tested: str
    earlier: tuple[Mapping[str, Any], ...] = ()

    @property
    def verdict(self) -> str | None:
        return self.scores.verdict

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
        """In how many pictures the background is right, and why others could not be measured."""
        matched = self.backgrounds()["match"]
        words = f"background right in {matched} of {len(self.pictures)} pictures"
        reasons = Counter(filter(None, (each.ground.get("reason") for each in self.pictures)))
        return words + "".join(f" ({count}: {reason})" for reason, count in reasons.items())

    def summary(self) -> str:
        """The background, then the scores; a verdict only where the background is right.

        A mean alone would call acceptable what shows nothing of what was asked.
        """
        words, scores = self.background_words(), self.scores
        if scores.mean is None:
            return words
        verdict = f", {self.verdict}" if self.background_right else ""
        parts = ", ".join(f"{key.partition('_')[0]} {n}" for key, n in asdict(scores).items())
        return f"{words}; mean {scores.mean} of 10{verdict} ({parts})"


def in_words(measured: Mapping[str, Any]) -> str:
    """A background or a feature: the verdict, what is seen and what was asked."""
    words = [measured.get("verdict", "unmeasured"), measured.get("reason")]
    if measured.get("colour"):
        words.append(f"{measured.get('name')} ({measured['colour']})")
    if measured.get("delta_e") is not None:
        asked = [each for key in ("words", "hex") for each in measured["asked"].get(key, ())]
        words.append(f"asked {' '.join(asked)}, ΔE {measured['delta_e']:.0f}")
    return ", ".join(filter(None, words))


def rescored(result: EpochResult, scores: scoring.Scores, by: str) -> EpochResult:
    """The same test with other scores; those that stood are kept among `earlier`."""
    keys = ("scores", "scored_by", "metrics_version")
    before = {key: value for key, value in asdict(result).items() if key in keys}
    before |= {"verdict": result.verdict, "backgrounds": result.backgrounds()}
    return replace(result, scores=scores, scored_by=by, earlier=(*result.earlier, before))


_RESULT = TypeAdapter(EpochResult)


def write(result: EpochResult) -> EpochResult:
    """Write `result.json` to the result's folder, and read it back as a later start does."""
    document = {**asdict(result), "verdict": result.verdict, "mean": result.scores.mean}
    text = json.dumps(document, indent=1, sort_keys=True, default=str) + "\n"
    write_whole(Path(result.folder) / "result.json", text)
    return _RESULT.validate_json(text)


def read(folder: Path) -> EpochResult | None:
    """The result that `folder` holds; None where it holds none, or none that can be read."""
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        return replace(_RESULT.validate_json(path.read_bytes()), folder=str(folder.absolute()))
    except (OSError, ValueError) as error:
        aside = path.rename(path.with_stem(f"result.damaged-{time.time_ns()}"))
        say(f"{path}: damaged ({type(error).__name__}); kept as {aside.name}, and tested again")
        return None
