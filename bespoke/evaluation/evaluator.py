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
from bespoke.trainer.launch import Progress
from bespoke.trainer.process import signals_held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.experiment.prompts import Prompt
    from bespoke.trainer.job import Job
    from bespoke.trainer.launch import Event
    from bespoke.trainer.resume import Start

    Tell = Callable[[str], None]
    Keep = Callable[[EpochResult, gate.Decision | None, Sequence[tuple[int, float]]], None]


class EpochEvaluator:
    """Evaluates one run's epochs over all its starts.

    `samples` are the pictures that each epoch is asked for, none where the run is not tested;
    `rates` the learning rate at each epoch's end as a share of its peak, where that is known.
    `keep` records a result, its decision and the losses so far; `show` writes the page.
    """

    def __init__(
        self,
        job: Job,
        *,
        prompts: Sequence[Prompt],
        samples: Sequence[sampling.SampleSpec],
        rates: Sequence[float] | None,
        keep: Keep,
        show: Callable[[], object],
    ) -> None:
        self._job = job
        self._record, self._show = keep, show
        self._prompts = prompts
        self._samples = samples
        self._rates = rates
        self._policy = None if job.request.no_gate else job.experiment.gate
        self._results: dict[int, EpochResult] = {}
        self._losses: list[tuple[int, float]] = []

    def take(self, event: Event | None) -> None:
        """Keep the loss for the record's curve."""
        if isinstance(event, Progress) and event.loss is not None and math.isfinite(event.loss):
            self._losses.append((event.step, event.loss))

    def take_up(self, start: Start) -> None:
        """Take up what earlier starts left: results of epochs up to this start, tests not made.

        What the last of them lacks in pictures is left to the trainer, if it is to be started.

        Raises:
            GateStoppedError: where the gate had stopped the run or would have, and it was not
                completed all the same.
        """
        if start.steps_per_epoch is not None:
            with self._spared("the losses of earlier starts could not be read", say):
                logs = self._job.folder.parent
                self._losses = journal.losses(logs, start.steps_per_epoch, start.epoch)
        for each in (number for number in self._job.epochs if number <= start.epoch):
            if each == start.epoch and not start.finished and self.lacks_pictures(each):
                say(f"epoch {each}: not all its test pictures are there; the trainer draws them")
                return
            with signals_held():
                result = self._test(each, say)
                decision = self._decide(each, result)
                self._keep(result, decision, say)
                if not start.completed:
                    self._act(each, decision, say)

    def lacks_pictures(self, epoch: int) -> bool:
        """Whether this epoch is to be tested and cannot be, by what is there now."""
        if not self._samples or epoch not in self._job.epochs or epoch in self._results:
            return False
        try:
            lora = self._lora(epoch)
            folder = self._folder(lora)
            return epoch_result.read_saved(folder, lora, say) is None and bool(
                sampling.missing_pictures(self._samples, self._pictures(epoch, folder))
            )
        except (BespokeError, OSError):
            # Said when it is tested.
            return False

    def adopt_first(self, epoch: int, since: int) -> None:
        """Take the pictures drawn first of a resumed state for its epoch's; see `sampling`."""
        sampling.adopt_first(self._job.output, self._job.name, epoch, since)

    def epoch(self, epoch: int, tell: Tell) -> None:
        """Test one epoch's checkpoint by the pictures that the trainer made of it.

        Raises:
            GateStoppedError: where the hypothesis has failed by the experiment's own gate.
        """
        with signals_held():
            result = self._test(epoch, tell)
            decision = self._decide(epoch, result)
            if result is not None:
                tell(self._line(result))
                for note in gate.notes(list(self._results.values())):
                    tell(note)
                self._keep(result, decision, tell)
                with self._spared("the page could not be written", tell):
                    self._show()
            self._act(epoch, decision, tell)

    def best(self) -> str | None:
        """The best epoch with its equals and its checkpoint; None where none could be scored."""
        return gate.best_line(list(self._results.values()))

    def _test(self, epoch: int, tell: Tell) -> EpochResult | None:
        if not self._samples or epoch not in self._job.epochs:
            return None
        with self._spared(f"epoch {epoch} could not be tested", tell):
            lora = self._lora(epoch)
            folder = self._folder(lora)
            if kept := epoch_result.read_saved(folder, lora, tell):
                self._results[epoch] = kept
                return kept
            epoch_result.evaluate(
                run=self._job.experiment.run_name,
                lora=lora,
                pictures=self._pictures(epoch, folder),
                prompts=self._prompts,
                folder=folder,
            )
            # As a resumed start reads it, so that the page's rows are in the same order.
            result = epoch_result.read(folder)
            scores, backgrounds = asdict(result.scores), result.backgrounds()
            self._job.journal.write(
                "tested", epoch=epoch, folder=folder, scores=scores, backgrounds=backgrounds
            )
            self._results[epoch] = result
        return self._results.get(epoch)

    def _folder(self, lora: checkpoints.Lora) -> Path:
        return epoch_result.folder_for(self._job.output / "tests", lora)

    def _lora(self, epoch: int) -> checkpoints.Lora:
        """The checkpoint as it was trained: where the file was changed since, by the hash kept."""
        path = checkpoints.checkpoint_path(self._job.output, self._job.name, epoch)
        lora = checkpoints.identify(path)
        record = resume.read_record(self._job.output, self._job.name)
        trained = record.hashes.get(path.name, lora.sha256) if record else lora.sha256
        return replace(lora, sha256=trained)

    def _pictures(self, epoch: int, folder: Path) -> dict[sampling.SampleSpec, Path]:
        """The trainer's pictures; for those that are gone, the copies of an earlier test."""
        drawn = sampling.find_pictures(self._job.output, self._job.name, epoch, self._samples)
        copies = {spec: folder / f"{spec.prompt}_{spec.seed}.png" for spec in self._samples}
        pictures = {spec: drawn.get(spec, copy) for spec, copy in copies.items()}
        return {spec: path for spec, path in pictures.items() if path.is_file()}

    def _decide(self, epoch: int, result: EpochResult | None) -> gate.Decision | None:
        """The gate's decision: by the result, or where there is none what the run's file kept."""
        if self._policy is None or epoch != self._policy.epoch:
            return None
        if result is not None and result.epoch == epoch:
            return gate.decide(result, self._policy)
        record = resume.read_record(self._job.output, self._job.name)
        try:
            return gate.Decision(**record.decisions[str(epoch)]) if record else None
        except (KeyError, TypeError):
            return None

    def _keep(self, result: EpochResult | None, decision: gate.Decision | None, tell: Tell) -> None:
        if result is None:
            return
        with self._spared(f"epoch {result.epoch} could not be recorded", tell):
            self._record(result, decision, self._losses)

    def _act(self, epoch: int, decision: gate.Decision | None, tell: Tell) -> None:
        if decision is None:
            if self._policy and epoch == self._policy.epoch:
                tell(f"gate at epoch {epoch}: not measured; training goes on")
            return
        self._job.journal.write("gate", **asdict(decision))
        with self._spared("the gate's decision could not be kept", tell):
            resume.keep_decision(self._job.output, self._job.name, epoch, asdict(decision))
        if decision.outcome == "STOP":
            raise GateStoppedError(
                f"{decision.reason}\nthe same command with --no-gate resumes from its newest "
                "complete state"
            )
        tell(decision.reason)

    def _line(self, result: EpochResult) -> str:
        if self._job.experiment.subject == "machine":
            # A random model draws noise: its scores would look like a failure.
            return f"epoch {result.epoch}: {len(result.pictures)} test picture drawn"
        line = f"epoch {result.epoch}: {result.summary()}"
        if self._rates and result.epoch and result.epoch <= len(self._rates):
            line += f"; learning rate at {self._rates[result.epoch - 1]:.0%} of its peak"
        return line

    @contextlib.contextmanager
    def _spared(self, what: str, tell: Tell) -> Iterator[None]:
        """Training is what the pod bills for: what goes wrong beside it is said and kept."""
        try:
            yield
        except Exception as error:
            if is_full(error):
                raise
            tell(f"{what}: {error}")
            self._job.journal.write("spared", what=what, error=repr(error))
