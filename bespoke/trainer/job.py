"""One run: what was asked for, what it is, and where it keeps its things."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bespoke.experiment import config
from bespoke.files import REPOSITORY, workspace
from bespoke.trainer import checkpoints, monitor, resume

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.experiment.experiment import Experiment
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
    captures: bool = False

    @property
    def name(self) -> str:
        return self.experiment.output_name

    @property
    def output(self) -> Path:
        return self.workspace / str(self.experiment.option("output_dir"))

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

    @property
    def sizes(self) -> monitor.Sizes:
        """What the run writes, in bytes."""
        options = {key: setting.value for key, setting in self.experiment.training.items()}
        return monitor.sizes(options, len(self.epochs), resume.KEPT_STATES)


def open_job(request: Request, journal: Journal) -> Job:
    """The one run of a request, under the names that this start gives it."""
    loaded = config.load(request.experiment, repository=REPOSITORY, overrides=request.overrides)
    experiment = loaded.with_seed(request.seed)
    place = workspace(request.workspace)
    if request.rehearse:
        place = workspace(place / "rehearsal")
        experiment = experiment.renamed(prefix=f"{REHEARSAL}_")
    job = Job(
        request=request, experiment=experiment, workspace=place, folder=place, journal=journal
    )
    if request.fresh or request.rehearse:
        return job
    return replace(job, experiment=_beside_another(job))


def _beside_another(job: Job) -> Experiment:
    """A run with `--set` leaves one that was made without it alone, by a name of its own."""
    experiment = job.experiment
    earlier = resume.read_record(job.output, job.name)
    if earlier is None or not checkpoints.left_by(job.output, job.name):
        return experiment
    sections = (("training", experiment.training), ("dataset", experiment.general))
    is_same = all(
        earlier.settings.get(f"{section}.{key}") == setting.value
        for section, settings in sections
        for key, setting in settings.items()
        if setting.origin == "--set"
    )
    return experiment if is_same else experiment.named_by_overrides()
