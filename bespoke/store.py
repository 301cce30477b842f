"""The record: every run and epoch that was tried, here in SQLite and, if asked, in PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bespoke.evaluate import EpochResult
    from bespoke.gate import Decision


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as the record keeps it; times are UTC in ISO 8601, durations seconds.

    `name` is unique: the experiment's run_name. `status` is in_progress, completed, failed or
    cancelled, `ending` says in words how it ended. `settings` maps "training.KEY" and
    "dataset….KEY" to the receipt's row {value, from, was?, was_from?, why?}. `preflight` is the
    object that `bespoke check --json` prints. `facts` hold commits, hashes of data, captions and
    base model, hardware, plan, price_per_hour. `curves` maps "loss", "lr/unet" and
    "lr/text_encoder" to thinned (step, value) pairs. `interruptions` are rows {time, event, …}.
    `timings` are seconds by stage. A `baseline` is a run that was made elsewhere before.
    """

    name: str
    experiment: str
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
    timings: Mapping[str, float] = field(default_factory=dict)
    baseline: bool = False
