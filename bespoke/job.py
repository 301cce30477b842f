"""One run: what was asked for, what it is, and where it keeps its things."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bespoke import checkpoints

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.config import Experiment
    from bespoke.journal import Journal


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a person asked for on the command line."""

    experiment: str
    seed: int | None = None
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    parent_data: tuple[str, ...] = ()
    workspace: Path | None = None
    dry_run: bool = False
    fresh: bool = False
    rehearse: bool = False
    strict: bool = False
    allow_no_op: bool = False
    adapt: bool = False
    no_gate: bool = False
    no_test: bool = False
    price_per_hour: float | None = None
    events: bool = False
    plan: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run once its experiment is known."""

    request: Request
    experiment: Experiment
    workspace: Path
    folder: Path
    journal: Journal
    # Options that a plan changed of an interrupted run, since what it began with does not fit here.
    refitted: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.experiment.output_name

    @property
    def output(self) -> Path:
        return self.workspace / str(self.experiment.option("output_dir"))

    @property
    def gate(self) -> dict[str, Any] | None:
        """The experiment's gate as the run's record keeps it."""
        policy = self.experiment.gate
        return None if policy is None else asdict(policy)

    @property
    def models(self) -> Path:
        return self.workspace / "models"

    @property
    def epochs(self) -> list[int]:
        """The epochs whose checkpoints the run must leave."""
        last = int(self.experiment.option("max_train_epochs"))
        return checkpoints.saved_epochs(last, self.experiment.option("save_every_n_epochs"))
