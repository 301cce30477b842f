"""What the record holds of a run: the document `output/NAME.record.json`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bespoke.evaluation import gate
from bespoke.evaluation.epoch_result import EpochResult  # noqa: TC001 - pydantic reads it
from bespoke.evaluation.gate import Decision  # noqa: TC001
from bespoke.redact import veiled

Points = Sequence[tuple[int, float]]


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
    curves: Mapping[str, Points] = field(default_factory=dict)
    interruptions: tuple[Mapping[str, Any], ...] = ()
    starts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def best(self) -> EpochResult | None:
        return gate.best(self.epochs)

    @property
    def best_epoch(self) -> int | None:
        return self.best.epoch if self.best else self.facts.get("best_epoch")

    @property
    def best_score(self) -> float | None:
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

    def setting(self, key: str) -> Any:
        """The value of "training.KEY" or "dataset….KEY"; None where it is not known."""
        return self.settings.get(key, {}).get("value")

    def state(self) -> str:
        """The status and the best epoch, in a few words."""
        if self.best_score is None:
            return f"{self.status}, no score"
        return f"{self.status}, best {self.best_score:.1f} at epoch {self.best_epoch}"


# Sends runs to another database: the uids of those that it has now, and what kept the others back.
Send = Callable[[Sequence[RunRecord]], tuple[list[str], str | None]]

_RUN = TypeAdapter(RunRecord)
# Trained before there was a record. Their scores were given by eye; nothing else is known.
BASELINES = TypeAdapter(tuple[RunRecord, ...]).validate_json(
    Path(__file__).with_name("baselines.json").read_bytes()
)


def dumps(run: RunRecord) -> str:
    """The run as its document's text; `loads` reads it."""
    return json.dumps(plain(asdict(run)), indent=1, allow_nan=False) + "\n"


def loads(text: str) -> RunRecord:
    """The run that `dumps` wrote; ValueError where the text is no such document."""
    try:
        document = json.loads(text)
        run = _RUN.validate_python(document)
        # What every list computes: a document that no list can show is none.
        _ = (document["uid"], run.cost, run.state(), [each.remarks for each in run.epochs])
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"no record of a run: {error}") from error
    return run


def plain(value: Any) -> Any:
    """A value as JSON and every database can keep it: no NaN, no NUL, no secret."""
    if value is None or isinstance(value, (bool, int, float)):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if isinstance(value, dict):
        return {clean(str(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return clean(str(value))


def clean(text: str) -> str:
    """Text as every database can keep it, with no secret in it."""
    encodable = text.encode("utf-8", "replace").decode("utf-8")
    return veiled(encodable.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of tables within tables: of {"captions": {"words": 7}}, ("captions.words", 7)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(value: object, kept: str = "") -> str:
    """Text from outside as one line, but for what is `kept`: the unseen stands as its number."""
    return "".join(
        each if each.isprintable() or each in kept else ascii(each)[1:-1] for each in str(value)
    )


def first_line(error: BaseException) -> str:
    """What an error says, in its first line and without a secret."""
    lines = str(error).strip().splitlines()
    return veiled(lines[0]) if lines else type(error).__name__
