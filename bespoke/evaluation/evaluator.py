"""Each epoch as it ends: tested, scored, recorded, shown, and the run stopped where it has failed.

Nothing here may cost a run its training: what fails is said and kept in the journal, and training
goes on. Only the gate stops it.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.errors import BespokeError, GateStoppedError, is_full
from bespoke.evaluation import gate, likeness, sampling
from bespoke.signals import signals_held
from bespoke.trainer import checkpoints, resume
from bespoke.trainer.job import losses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.trainer.job import Job
    from bespoke.trainer.resume import Start


@dataclass
class EpochEvaluator:
    """Evaluates one run's epochs over all its starts.

    `samples` are the pictures that each epoch is asked for, none where the run is not tested;
    `arts` the cells of those that it is trained on, uint8 of shape (24, 24, 3); `keep` records and
    shows a result, its decision, and the losses so far as (step, loss); `after` is called once an
    epoch with a checkpoint is over.
    """

    job: Job
    samples: Sequence[sampling.Sample]
    arts: Iterable[Any]
    keep: Callable[..., None]
    after: Callable[[int], None]
    results: dict[int, EpochResult] = field(default_factory=dict)

    def take_up(self, start: Start) -> None:
        """Learn from the run's pictures, and take up every epoch that earlier starts trained.

        What the last one lacks in pictures is left to the trainer, if it is to be started. A
        GateStoppedError where the gate had stopped the run, and it was not completed since.
        """
        with self._spared("what the run's own pictures have in common could not be learnt"):
            path = self.job.output / "tests" / f"{self.job.name}.likeness.npz"
            likeness.keep(path, self.arts, anew=start.epoch == 0)
        for each in (number for number in self._tested if number <= start.epoch):
            lacks = self.lacks_pictures(each)
            if each and each == start.epoch and not start.finished and lacks:
                say(f"epoch {each}: not all its test pictures are there; the trainer draws them")
            elif each or not lacks:
                self.epoch(each, decides=not start.completed)

    @property
    def _tested(self) -> list[int]:
        """The base model's own pictures, epoch 0, and each epoch that leaves a checkpoint."""
        return [0, *self.job.epochs]

    def lacks_pictures(self, epoch: int) -> bool:
        """Whether this epoch is to be tested and cannot be, by what is there now."""
        if not self.samples or epoch not in self._tested or epoch in self.results:
            return False
        # What fails is said when the epoch is tested.
        with contextlib.suppress(BespokeError, OSError):
            return len(self._material(epoch)[2]) < len(self.samples)
        return False

    def epoch(self, epoch: int, *, decides: bool = True) -> None:
        """Test, record and show one epoch; a GateStoppedError where its gate says so."""
        policy = None if self.job.request.no_gate else self.job.experiment.gate
        policy = policy if policy and policy.epoch == epoch else None
        with signals_held():
            if self.samples and epoch in self._tested:
                with self._spared(f"epoch {epoch} could not be tested"):
                    lora, folder, pictures = self._material(epoch)
                    self.results[epoch] = sampling.evaluate(
                        self.job.experiment.run_name, lora, self.samples, pictures, folder
                    )
                    if epoch == 0:
                        sampling.set_apart(pictures.values())
            result = self.results.get(epoch)
            run = resume.read_record(self.job.output, self.job.name)
            decision = gate.decide(result, policy) if result and policy else None
            if result:
                where = "" if epoch else " (before training)"
                say(f"epoch {epoch}{where}: {result.summary()}")
                with self._spared(f"epoch {epoch} could not be recorded or shown"):
                    steps = run.steps_per_epoch if run else None
                    logs = self.job.folder.parent
                    self.keep(result, decision, losses(logs, steps or 0, epoch))
            elif policy:
                if decides and run and run.stopped:
                    # Whatever became of the test that it rested on.
                    raise GateStoppedError(run.stopped)
                say(f"gate at epoch {epoch}: not measured; training goes on")
            if epoch in self._tested:
                self.after(epoch)
            if decision and decides:
                self.job.journal.write("gate", **asdict(decision))
                self.job.tell(decision.reason)
                if decision.outcome == "STOP":
                    way_on = "the same command with --no-gate resumes from its newest state"
                    reason = f"{decision.reason}\n{way_on}"
                    resume.update(self.job.output, self.job.name, stopped=reason)
                    raise GateStoppedError(reason)
                say(decision.reason)

    def _material(self, epoch: int) -> tuple[checkpoints.Lora, Path, dict[str, Path]]:
        """Its checkpoint, its test's folder, and its pictures: the trainer's, or kept copies."""
        output, name = self.job.output, self.job.name
        path = checkpoints.checkpoint_path(output, name, epoch)
        if epoch:
            lora = checkpoints.identify(path)
        else:
            # What the base model knows before a step, in the form of a checkpoint.
            run = resume.read_record(output, name)
            drawn_by = f"{run and run.settings.get('base model')} {self.samples}"
            own = hashlib.sha256(drawn_by.encode()).hexdigest()
            lora = checkpoints.Lora(
                path=path, name=name, epoch=0, clip_skip=None, sha256=own, size=0
            )
        folder = sampling.folder_for(output / "tests", lora)
        drawn = sampling.find_pictures(output, name, epoch, self.samples)
        return lora, folder, sampling.copies(folder, self.samples) | drawn

    @contextlib.contextmanager
    def _spared(self, what: str) -> Iterator[None]:
        """Training is what the pod bills for: what goes wrong beside it is said and kept."""
        try:
            yield
        except Exception as error:
            if is_full(error):
                raise
            say(f"{what}: {error}")
            self.job.journal.write("spared", what=what, error=repr(error))
