"""Each epoch as it ends: tested, scored, recorded, shown, and the run stopped where it has failed.

Nothing here may cost a run its training: what fails is said and kept in the journal, and training
goes on. Only the gate stops it.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from bespoke.console import say
from bespoke.errors import BespokeError, GateStoppedError, is_full
from bespoke.evaluation import gate, sampling
from bespoke.trainer import checkpoints, journal, resume
from bespoke.trainer.process import signals_held
from bespoke.trainer.trainer_log import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.trainer.job import Job
    from bespoke.trainer.resume import Start
    from bespoke.trainer.trainer_log import Event

    Keep = Callable[[EpochResult, gate.Decision | None, Sequence[tuple[int, float]]], None]


class EpochEvaluator:
    """Evaluates one run's epochs over all its starts.

    `samples` are the pictures that each epoch is asked for, none where the run is not tested;
    `keep` records and shows a result, its decision and the losses so far.
    """

    def __init__(self, job: Job, samples: Sequence[sampling.Sample], keep: Keep) -> None:
        self._job, self._samples, self._keep = job, samples, keep
        self._policy = None if job.request.no_gate else job.experiment.gate
        self._losses: list[tuple[int, float]] = []
        self.results: dict[int, EpochResult] = {}

    def take(self, event: Event | None) -> None:
        """Keep the loss for the record's curve."""
        if isinstance(event, Progress) and event.loss is not None and math.isfinite(event.loss):
            self._losses.append((event.step, event.loss))

    def take_up(self, start: Start) -> None:
        """Take up what earlier starts left: their losses, and every epoch up to this start.

        What the last one lacks in pictures is left to the trainer, if it is to be started. A
        GateStoppedError where the gate had stopped the run, and it was not completed since.
        """
        if start.steps_per_epoch is not None:
            with self._spared("the losses of earlier starts could not be read"):
                logs = self._job.folder.parent
                self._losses = journal.losses(logs, start.steps_per_epoch, start.epoch)
        for each in (number for number in self._job.epochs if number <= start.epoch):
            if each == start.epoch and not start.finished and self.lacks_pictures(each):
                say(f"epoch {each}: not all its test pictures are there; the trainer draws them")
            else:
                self.epoch(each, decides=not start.completed)

    def lacks_pictures(self, epoch: int) -> bool:
        """Whether this epoch is to be tested and cannot be, by what is there now."""
        if not self._samples or epoch not in self._job.epochs or epoch in self.results:
            return False
        # What fails is said when the epoch is tested.
        with contextlib.suppress(BespokeError, OSError):
            saved = sampling.saved(self._lora_and_folder(epoch)[1])
            return saved is None and len(self._pictures(epoch)) < len(self._samples)
        return False

    def adopt_first(self, epoch: int, since: int) -> None:
        """Take the pictures drawn first of a resumed state for its epoch's; see `sampling`."""
        sampling.adopt_first(self._job.output, self._job.name, epoch, since)

    def epoch(self, epoch: int, *, decides: bool = True) -> None:
        """Test, record and show one epoch; a GateStoppedError where its gate says so."""
        with signals_held():
            if self._samples and epoch in self._job.epochs:
                with self._spared(f"epoch {epoch} could not be tested"):
                    self.results[epoch] = self._test(epoch)
            result, policy = self.results.get(epoch), self._policy
            gated = policy if policy and policy.epoch == epoch else None
            decision = gate.decide(result, gated) if result and gated else None
            if result:
                # A random model draws noise: its scores would look like a failure.
                noise = self._job.experiment.subject == "machine"
                say(f"epoch {epoch}: {'tested' if noise else result.summary()}")
                with self._spared(f"epoch {epoch} could not be recorded or shown"):
                    self._keep(result, decision, self._losses)
            elif gated:
                say(f"gate at epoch {epoch}: not measured; training goes on")
            if decision and decides:
                self._act(decision)

    def _act(self, decision: gate.Decision) -> None:
        self._job.journal.write("gate", **asdict(decision))
        if decision.outcome == "STOP":
            way_on = "the same command with --no-gate resumes from its newest complete state"
            raise GateStoppedError(f"{decision.reason}\n{way_on}")
        say(decision.reason)

    def _test(self, epoch: int) -> EpochResult:
        lora, folder = self._lora_and_folder(epoch)
        if saved := sampling.saved(folder):
            return saved
        run = self._job.experiment.run_name
        return sampling.evaluate(run, lora, self._samples, self._pictures(epoch), folder)

    def _lora_and_folder(self, epoch: int) -> tuple[checkpoints.Lora, Path]:
        """The checkpoint as it was trained (where the file was changed since, by the hash kept),
        and the folder of its test."""
        path = checkpoints.checkpoint_path(self._job.output, self._job.name, epoch)
        lora = checkpoints.identify(path)
        if record := resume.read_record(self._job.output, self._job.name):
            lora = replace(lora, sha256=record.hashes.get(path.name, lora.sha256))
        return lora, sampling.folder_for(self._job.output / "tests", lora)

    def _pictures(self, epoch: int) -> dict[str, Path]:
        return sampling.find_pictures(self._job.output, self._job.name, epoch, self._samples)

    @contextlib.contextmanager
    def _spared(self, what: str) -> Iterator[None]:
        """Training is what the pod bills for: what goes wrong beside it is said and kept."""
        try:
            yield
        except Exception as error:
            if is_full(error):
                raise
            say(f"{what}: {error}")
            self._job.journal.write("spared", what=what, error=repr(error))
