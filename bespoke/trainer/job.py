"""One run: what was asked for, what it is, and where it keeps its things."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bespoke.experiment import config
from bespoke.experiment.run_names import named_by_overrides, with_seed
from bespoke.files import REPOSITORY, workspace
from bespoke.trainer import checkpoints, resume

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.experiment.config import Experiment
    from bespoke.request import Request
    from bespoke.trainer.journal import Journal


REHEARSAL = "REHEARSAL"


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
    def adapts(self) -> bool:
        """Whether bespoke may change what needs less memory; `--plan as-written` forbids it."""
        return self.request.plan == "auto"

    @property
    def models(self) -> Path:
        return self.workspace / "models"

    @property
    def epochs(self) -> list[int]:
        """The epochs whose checkpoints the run must leave."""
        last = int(self.experiment.option("max_train_epochs"))
        return checkpoints.saved_epochs(last, self.experiment.option("save_every_n_epochs"))


def open_job(request: Request, journal: Journal) -> Job:
    """The one run of a request, under the names that this start gives it; `folder` is not made yet.

    Raises:
        ConfigError: where the experiment or the workspace is not as it must be.
    """
    experiment = config.load(request.experiment, repository=REPOSITORY, overrides=request.overrides)
    experiment = with_seed(experiment, request.seed)
    place = workspace(request.workspace)
    if request.rehearse:
        place = workspace(place / "rehearsal")
        experiment = config.renamed(experiment, REHEARSAL)
    job = Job(
        request=request, experiment=experiment, workspace=place, folder=place, journal=journal
    )
    if request.fresh or request.rehearse:
        return job
    return replace(job, experiment=_beside_another(job))


def _beside_another(job: Job) -> Experiment:
    """A run with `--set` leaves one that was made without it alone, by a name of its own."""
    experiment = job.experiment
    overridden = {
        f"{section}.{key}": setting.value
        for section, settings in (
            ("training", experiment.training),
            ("dataset", experiment.general),
        )
        for key, setting in settings.items()
        if setting.origin == "--set"
    }
    earlier = resume.read_record(job.output, job.name)
    if earlier is None or not checkpoints.left_by(job.output, job.name):
        return experiment
    if all(earlier.settings.get(key) == value for key, value in overridden.items()):
        return experiment
    return named_by_overrides(experiment)
