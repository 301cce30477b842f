"""One epoch's pictures and what was measured of them: the unit that is kept, judged and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bespoke.scoring import Scores

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class PictureResult:
    """One picture of one checkpoint.

    `prompt` is the prompt's name in test_prompts.toml, `text` what was asked; `file` is relative to
    the result's folder; `sha256` is the picture's own; `measured` is what `metrics.measure` gave.
    """

    prompt: str
    text: str
    seed: int
    file: str
    sha256: str
    measured: Mapping[str, Any]

    @property
    def background(self) -> str:
        """match, mismatch or unmeasured."""
        return str(self.measured.get("background", {}).get("verdict", "unmeasured"))


@dataclass(frozen=True, kw_only=True)
class EpochResult:
    """Everything known of one checkpoint.

    `run` is the run's name, `epoch` counts from 1 and is None for a checkpoint that carries none;
    `folder` holds the pictures; `suggested` are the metrics' scores, `scores` those that stand,
    by "metrics" or by "person"; `tested` is when, in UTC (ISO 8601). `earlier` keeps the scores
    given before, oldest first: a later scoring replaces nothing.
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
    return EpochResult(
        **{
            **told,
            "pictures": tuple(PictureResult(**picture) for picture in told["pictures"]),
            "suggested": Scores(**told["suggested"]),
            "scores": Scores(**told["scores"]),
            "earlier": tuple(told["earlier"]),
        }
    )
