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
from bespoke.evaluation import epoch_result, gate, sampling
from bespoke.trainer import checkpoints, journal, resume
from bespoke.trainer.process import signals_held
from bespoke.trainer.trainer_log import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.job import Job
    from bespoke.trainer.resume import Start
    from bespoke.trainer.trainer_log import Event

    Keep = Callable[[EpochResult, gate.Decision | None, Sequence[tuple[int, float]]], None]


class EpochEvaluator:
    """Evaluates one run's epochs over all its starts.

    `samples` are the pictures that each epoch is asked for, none where the run is not tested;
    `keep` records a result, its decision and the losses so far; `show` writes the page; `copy` is
    told of each epoch that is over.
    """

    def __init__(
        self,
        job: Job,
        *,
        prompts: Sequence[Prompt],
        samples: Sequence[sampling.SampleSpec],
        keep: Keep,
        show: Callable[[], object],
        copy: Callable[[int], object],
    ) -> None:
        self._job = job
        self._keep, self._show, self._copy = keep, show, copy
        self._prompts, self._samples = prompts, samples
        self._policy = None if job.request.no_gate else job.experiment.gate
        self._results: dict[int, EpochResult] = {}
        self._losses: list[tuple[int, float]] = []
        self._tell: Callable[[str], None] = say

    def take(self, event: Event | None) -> None:
        """Keep the loss for the record's curve."""
        if isinstance(event, Progress) and event.loss is not None and math.isfinite(event.loss):
            self._losses.append((event.step, event.loss))

    def take_up(self, start: Start) -> None:
        """Take up what earlier starts left: results of epochs up to this start, tests not made.

        What the last of them lacks in pictures is left to the trainer, if it is to be started.

        Raises:
            GateStoppedError: where the gate had stopped the run, and it was not completed since.
        """
        if start.steps_per_epoch is not None:
            with self._spared("the losses of earlier starts could not be read"):
                logs = self._job.folder.parent
                self._losses = journal.losses(logs, start.steps_per_epoch, start.epoch)
        for each in (number for number in self._job.epochs if number <= start.epoch):
            if each == start.epoch and not start.finished and self.lacks_pictures(each):
                say(f"epoch {each}: not all its test pictures are there; the trainer draws them")
                return
            with signals_held():
                decision = self._judge(each)
                if not start.completed:
                    self._act(each, decision)

    def lacks_pictures(self, epoch: int) -> bool:
        """Whether this epoch is to be tested and cannot be, by what is there now."""
        if not self._samples or epoch not in self._job.epochs or epoch in self._results:
            return False
        try:
            _, folder = self._lora(epoch)
            return epoch_result.read_saved(folder, say) is None and bool(
                sampling.missing_pictures(self._samples, self._pictures(epoch, folder))
            )
        except (BespokeError, OSError):
            # Said when it is tested.
            return False

    def adopt_first(self, epoch: int, since: int) -> None:
        """Take the pictures drawn first of a resumed state for its epoch's; see `sampling`."""
        sampling.adopt_first(self._job.output, self._job.name, epoch, since)

    def epoch(self, epoch: int, tell: Callable[[str], None]) -> None:
        """Test one epoch's checkpoint by the pictures that the trainer made of it.

        Raises:
            GateStoppedError: where the hypothesis has failed by the experiment's own gate.
        """
        self._tell = tell
        with signals_held():
            decision = self._judge(epoch)
            if result := self._results.get(epoch):
                tell(self._line(result))
                if worse := gate.regression(list(self._results.values())):
                    tell(worse)
                with self._spared("the page could not be written"):
                    self._show()
            self._act(epoch, decision)
            self._copy(epoch)

    def best(self) -> str | None:
        """The best epoch with its equals and its checkpoint; None where none could be scored."""
        return gate.best_line(list(self._results.values()))

    def _judge(self, epoch: int) -> gate.Decision | None:
        """Test an epoch and record it; the gate's decision where it decides at it."""
        if self._samples and epoch in self._job.epochs:
            with self._spared(f"epoch {epoch} could not be tested"):
                self._results[epoch] = self._test(epoch)
        decision = self._decide(epoch)
        if result := self._results.get(epoch):
            with self._spared(f"epoch {epoch} could not be recorded"):
                self._keep(result, decision, self._losses)
        return decision

    def _test(self, epoch: int) -> EpochResult:
        lora, folder = self._lora(epoch)
        if saved := epoch_result.read_saved(folder, self._tell):
            # The run may have been another machine's until now.
            return replace(saved, checkpoint=str(lora.path))
        result = epoch_result.evaluate(
            run=self._job.experiment.run_name,
            lora=lora,
            pictures=self._pictures(epoch, folder),
            prompts=self._prompts,
            folder=folder,
        )
        scores, backgrounds = asdict(result.scores), result.backgrounds()
        self._job.journal.write(
            "tested", epoch=epoch, folder=folder, scores=scores, backgrounds=backgrounds
        )
        return result

    def _lora(self, epoch: int) -> tuple[checkpoints.Lora, Path]:
        """The checkpoint as it was trained (where the file was changed since, by the hash kept),
        and the folder of its test."""
        path = checkpoints.checkpoint_path(self._job.output, self._job.name, epoch)
        lora = checkpoints.identify(path)
        if record := resume.read_record(self._job.output, self._job.name):
            lora = replace(lora, sha256=record.hashes.get(path.name, lora.sha256))
        return lora, epoch_result.folder_for(self._job.output / "tests", lora)

    def _pictures(self, epoch: int, folder: Path) -> dict[sampling.SampleSpec, Path]:
        """The trainer's pictures; for those that are gone, the copies of an earlier test."""
        copies = {spec: folder / f"{spec.prompt}_{spec.seed}.png" for spec in self._samples}
        drawn = sampling.find_pictures(self._job.output, self._job.name, epoch, self._samples)
        return {spec: path for spec, path in (copies | drawn).items() if path.is_file()}

    def _decide(self, epoch: int) -> gate.Decision | None:
        """The gate's decision: by the result, or where there is none what the run's file kept."""
        if self._policy is None or epoch != self._policy.epoch:
            return None
        if result := self._results.get(epoch):
            return gate.decide(result, self._policy)
        record = resume.read_record(self._job.output, self._job.name)
        try:
            return gate.Decision(**record.decisions[str(epoch)]) if record else None
        except (KeyError, TypeError):
            return None

    def _act(self, epoch: int, decision: gate.Decision | None) -> None:
        if decision is None:
            if self._policy and epoch == self._policy.epoch:
                self._tell(f"gate at epoch {epoch}: not measured; training goes on")
            return
        self._job.journal.write("gate", **asdict(decision))
        with self._spared("the gate's decision could not be kept"):
            resume.keep_decision(self._job.output, self._job.name, epoch, asdict(decision))
        if decision.outcome == "STOP":
            raise GateStoppedError(
                f"{decision.reason}\nthe same command with --no-gate resumes from its newest "
                "complete state"
            )
        self._tell(decision.reason)

    def _line(self, result: EpochResult) -> str:
        if self._job.experiment.subject == "machine":
            # A random model draws noise: its scores would look like a failure.
            return f"epoch {result.epoch}: {len(result.pictures)} test picture drawn"
        return f"epoch {result.epoch}: {result.summary()}"

    @contextlib.contextmanager
    def _spared(self, what: str) -> Iterator[None]:
        """Training is what the pod bills for: what goes wrong beside it is said and kept."""
        try:
            yield
        except Exception as error:
            if is_full(error):
                raise
            self._tell(f"{what}: {error}")
            self._job.journal.write("spared", what=what, error=repr(error))
