"""What the record holds of a run: the document `output/NAME.record.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence  # noqa: TC003 - pydantic reads the annotations
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pydantic import TypeAdapter

from bespoke.evaluation import gate
from bespoke.evaluation.epoch_result import EpochResult  # noqa: TC001 - pydantic reads the annotations
from bespoke.evaluation.gate import Decision  # noqa: TC001
from bespoke.redact import veiled


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run; times are UTC in ISO 8601, durations seconds.

    `status` is in_progress, completed, failed or cancelled; `ending` says in words how it ended.
    `starts` maps the time of each start to {"total": seconds}. `settings` maps "training.KEY" and
    "dataset….KEY" to the receipt's row {value, from, was?, was_from?, why?}. `preflight` is the
    object that `bespoke check --json` prints. `curves` maps "loss" to (step, value) pairs.
    """

    name: str
    experiment: str
    uid: str = ""
    parent: str | None = None
    status: str = "in_progress"
    ending: str = ""
    started: str = ""
    ended: str | None = None
    hypothesis: str = ""
    expected: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preflight: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    epochs: tuple[EpochResult, ...] = ()
    decisions: tuple[Decision, ...] = ()
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    interruptions: tuple[Mapping[str, Any], ...] = ()
    starts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def best(self) -> EpochResult | None:
        """The epoch that `gate.best` finds; None where none has a mean score."""
        return gate.best(self.epochs)

    @property
    def best_epoch(self) -> int | None:
        """The best epoch; of a baseline, what is known of it."""
        return self.best.epoch if self.best else self.facts.get("best_epoch")

    @property
    def best_score(self) -> float | None:
        """The best epoch's mean score, 0 to 10; of a baseline, what is known of it."""
        return self.best.scores.mean if self.best else self.facts.get("best_score")

    @property
    def hours(self) -> float | None:
        """How long all starts took together; None where no time is known."""
        return sum(each.get("total", 0.0) for each in self.starts.values()) / 3600 or None

    @property
    def cost(self) -> float | None:
        """What the run's hours cost at the price per hour that it was given; None without one."""
        price = self.facts.get("price_per_hour")
        return None if price is None or self.hours is None else float(price) * self.hours

    @property
    def seed(self) -> Any:
        """The seed that the trainer was given; None where no setting is known."""
        return self.settings.get("training.seed", {}).get("value")


# Trained before there was a record. Their scores were given by eye; nothing else is known.
BASELINES = (
    RunRecord(
        name="SD15_FINAL_CORRECTED_CAPTIONS",
        experiment="final_corrected_captions",
        uid="baseline-1",
        status="completed",
        facts={"best_epoch": 6, "best_score": 7.3, "background_right_from": 7},
    ),
    RunRecord(
        name="SD15_PERFECT",
        experiment="",
        uid="baseline-2",
        status="completed",
        facts={"best_epoch": 7, "best_score": 9.0},
    ),
)

_RUN = TypeAdapter(RunRecord)


def dumps(run: RunRecord) -> str:
    """The run as its document's text; `loads` reads it."""
    return json.dumps(plain(asdict(run)), indent=1, allow_nan=False) + "\n"


def loads(text: str) -> RunRecord:
    """The run that `dumps` wrote.

    Raises:
        ValueError: where the text is no such document, whatever else it may be.
    """
    try:
        document = json.loads(text)
        if missing := {each.name for each in fields(RunRecord)} - document.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        run = _RUN.validate_python(document)
        if not (run.uid and run.name):
            raise ValueError("it lacks a name")
        # What every list computes: a document that no list can show is none.
        _ = (run.best_score, run.cost, run.seed, [each.backgrounds() for each in run.epochs])
    except (AttributeError, RecursionError, TypeError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    return run


def plain(value: Any) -> Any:
    """A value as JSON and every database can keep it: no NaN, no NUL, no secret."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {clean(str(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return clean(str(value))


def clean(text: str) -> str:
    """Text as every database can keep it, with no secret in it."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return veiled(encodable.replace("\0", "\N{REPLACEMENT CHARACTER}"))
