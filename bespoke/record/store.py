"""The record: every run that was tried. A run's own file is the truth, and SQLite an index of them.

`output/NAME.record.json` holds all of a run and is written whole after each event, and its row of
`record.sqlite` after it. The index is made again from the files where it is missing or damaged.
"""

from __future__ import annotations

import contextlib
import sys
import time
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.experiment.validation import did_you_mean
from bespoke.files import document_path, locked, write_whole
from bespoke.record.index import FILE, Index, stamp
from bespoke.record.postgres import PATIENCE_S, Postgres, line
from bespoke.record.run_record import BASELINES, RunRecord, clean, dumps, loads
from bespoke.trainer.job import now

__all__ = ("FILE", "Record", "RunRecord", "opened", "sync")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.gate import Decision


@contextlib.contextmanager
def opened(workspace: Path, url: str | None = None) -> Iterator[Record]:
    """The workspace's record; with `url`, a PostgreSQL is sent the runs and epochs too.

    Raises:
        ConfigError: where `url` is no address of PostgreSQL.
    """
    remote = Postgres(url) if url and url.strip() else None
    workspace.mkdir(parents=True, exist_ok=True)
    record = Record(workspace, remote)
    yield record
    if remote and record.trouble:
        say(
            f"PostgreSQL does not have all of the record yet: {record.trouble}. "
            "Nothing is lost: the next run sends the rest, or `bespoke record sync`"
        )


def sync(workspace: Path, url: str) -> tuple[int, int, str | None]:
    """Send all that there is, now: how many runs went, how many did not, and why these did not.

    Raises:
        ConfigError: where `url` is no address of PostgreSQL, or the index cannot be read.
    """
    remote, index = Postgres(url), Index(workspace)
    runs = index.runs()
    sent, trouble = remote.send(runs, seconds=PATIENCE_S * (1 + len(runs)))
    index.note_sent(sent)
    return len(sent), len(runs) - len(sent), trouble


@dataclass(kw_only=True)
class _Own:
    """A run that this process writes; `ahead` where the file could not be written and lacks it."""

    file: Path
    run: RunRecord
    begun: float
    ahead: bool = False


class Record:
    """What `opened` gives. Each call is in the run's file before it returns.

    Once a run has begun nothing here stops it: what cannot be kept is said.
    """

    def __init__(self, workspace: Path, remote: Postgres | None) -> None:
        self._index, self._remote = Index(workspace), remote
        self._lock = workspace / ".record.lock"
        self._own: dict[str, _Own] = {}
        self._mute = False
        self.trouble: str | None = None

    def begin(self, run: RunRecord, file: Path | None = None) -> None:
        """A run starts, or goes on where its file is there: what that holds stays, but its ending.

        Raises:
            OSError: where the file cannot be written.
        """
        name, started = clean(run.name), run.started or now().isoformat(timespec="seconds")
        run = replace(run, name=name, started=started)
        file = file or document_path(self._index.output, name)
        with locked(self._lock):
            before = self._read(file, name)
            starts = {**run.starts, run.started: run.starts.get(run.started, {})}
            new = replace(run, uid=uuid.uuid4().hex, starts=starts)
            run = _resumed(before, run) if before else new
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, dumps(run))
        # As the file has it: without a secret.
        self._own[name] = _Own(file=file, run=loads(dumps(run)), begun=time.monotonic())
        # An earlier run of this name may have been moved away, and goes by its start from now on.
        self._keep(self._index.rebuild)
        self._send()

    def epoch(
        self,
        run_name: str,
        result: EpochResult,
        decision: Decision | None,
        losses: Sequence[tuple[int, float]] = (),
    ) -> None:
        """An epoch's result, what was decided by it, and the losses by step up to it.

        A person's scores of the same checkpoint stay, whatever the metrics say later.

        Raises:
            ConfigError: where there is no such run, or the checkpoint carries no epoch.
        """
        epoch = result.epoch
        if epoch is None:
            raise ConfigError(f"{result.checkpoint}: carries no epoch: the record keeps it by one")

        def change(run: RunRecord) -> RunRecord:
            results = {each.epoch or 0: each for each in run.epochs}
            results[epoch] = _as_scored(result, results.get(epoch))
            decided = {each.epoch: each for each in run.decisions}
            if decision:
                decided[decision.epoch] = decision
            return replace(
                run,
                epochs=tuple(results[number] for number in sorted(results)),
                decisions=tuple(decided[number] for number in sorted(decided)),
                curves={"loss": losses} if losses else run.curves,
            )

        self._change(run_name, f"epoch {epoch}", change)
        self._send()

    def end(self, run_name: str, *, status: str, ending: str = "") -> None:
        """This start of the run is over; where it is cancelled, that is an interruption of the run.

        Raises:
            ConfigError: where there is no such run.
        """

        def change(run: RunRecord) -> RunRecord:
            if (run.status, run.ending) == (status, ending):
                return run
            when = now().isoformat(timespec="seconds")
            row = {"time": when, "event": ending}
            rows = (*run.interruptions, row) if status == "cancelled" else run.interruptions
            return replace(run, status=status, ending=ending, ended=when, interruptions=rows)

        self._change(run_name, "the run's end", change)
        self._send()

    def run(self, text: str) -> RunRecord:
        """The run that `text` names: by its own name, else by its experiment.

        Of an experiment's runs it is the latest with a tested epoch, at the seed of its first run;
        which one was taken is said on stderr.

        Raises:
            ConfigError: where there is neither, with the nearest name.
        """
        recorded = self.runs()
        baselines = [run for run in BASELINES if run.name not in {each.name for each in recorded}]
        runs = [*recorded, *baselines]
        matching = [run for run in runs if run.name == clean(text)]
        matching = matching or [run for run in runs if run.experiment == text]
        if not matching:
            known = {each for run in runs for each in (run.name, run.experiment) if each}
            raise self.nothing(f"run {text!r}: {did_you_mean(text, known)}")
        seed = matching[0].seed
        best = max(matching, key=lambda run: (bool(run.epochs), run.seed == seed, run.started))
        if len(matching) > 1:
            print(f"bespoke: {text}: {best.name}, of {len(matching)} runs", file=sys.stderr)
        return best

    def runs(self) -> list[RunRecord]:
        """Every run by its start.

        Raises:
            ConfigError: where the index cannot be read, and this process has no run of its own.
        """
        own = {each.run.uid: each.run for each in self._own.values()}
        try:
            runs = self._index.runs()
        except ConfigError:
            if not own:
                raise
            runs = []
        runs = [*own.values(), *(run for run in runs if run.uid not in own)]
        return sorted(runs, key=lambda run: (run.started, run.name))

    def nothing(self, what: str) -> ConfigError:
        """An error that says where nothing of the kind was found, and where else to look."""
        return ConfigError(f"{self._index.file}: has no {what}{self.elsewhere()}")

    def elsewhere(self) -> str:
        """Where a rehearsal's record is, if this is not it."""
        place = self._index.file.parent / "rehearsal"
        there = (place / FILE).exists()
        return f". A rehearsal's record is in {place}: add --workspace {place}" if there else ""

    def _change(self, name: str, what: str, change: Callable[[RunRecord], RunRecord]) -> None:
        own = self._own.get(clean(name))
        file = own.file if own else self._index.file_of(clean(name))
        if file is None:
            raise ConfigError(f"{self._index.file}: has no run {name!r}: it was never begun")
        with locked(self._lock):
            run = None if own and own.ahead else self._read(file, clean(name))
            run = run or (own.run if own else None)
            if run is None:
                raise ConfigError(f"{file}: the record of {name!r} is gone")
            changed = change(run)
            if dumps(changed) == dumps(run) and not (own and own.ahead):
                return
            if own:
                latest, seconds = list(changed.starts)[-1], time.monotonic() - own.begun
                starts = {**changed.starts, latest: {"total": round(seconds, 1)}}
                changed = replace(changed, starts=starts)
                own.run, own.ahead = loads(dumps(changed)), True
            try:
                write_whole(file, dumps(changed))
            except OSError as error:
                say(f"{file}: {what} not kept yet ({error.strerror}): the next event writes it")
                return
            if own:
                own.ahead = False
        self._keep(lambda: self._index.put(changed, file))

    def _keep(self, work: Callable[[], object]) -> None:
        """Change the index; where that fails it is said once, and the run goes on."""
        try:
            work()
        except ConfigError as error:
            if not self._mute:
                say(f"{error}. Nothing is lost: `bespoke record rebuild` lists all of it")
            self._mute = True

    def _read(self, file: Path, name: str) -> RunRecord | None:
        """What the file holds, or the index in the place of a damaged one; None without a file."""
        try:
            return loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            aside = file.with_name(f"{file.name}-{stamp()}")
            with contextlib.suppress(OSError):
                file.rename(aside)
            say(f"{file}: cannot be read ({line(error)}). Moved to {aside}")
            with contextlib.suppress(ConfigError):
                return next((each for each in self.runs() if each.name == name), None)
            return None

    def _send(self) -> None:
        if self._remote is None:
            return
        try:
            sent, self.trouble = self._remote.send(self._index.runs(unsent=True))
            self._index.note_sent(sent)
        except Exception as error:  # noqa: BLE001 - whatever a database does, training goes on
            self.trouble = line(error)


def _resumed(before: RunRecord, run: RunRecord) -> RunRecord:
    """The run as it goes on: what was, under what is new; it began when it first did."""
    rows = before.interruptions
    if before.status == "in_progress" and before.starts:
        ended = f"the start of {list(before.starts)[-1]} ended without a word"
        rows = (*rows, {"time": run.started, "event": ended})
    return replace(
        run,
        uid=before.uid,
        started=before.started,
        facts={**before.facts, **run.facts},
        starts={**before.starts, run.started: before.starts.get(run.started, {})},
        interruptions=rows,
        epochs=before.epochs,
        decisions=before.decisions,
        curves=before.curves,
    )


def _as_scored(result: EpochResult, before: EpochResult | None) -> EpochResult:
    if before is None or before.scored_by != "person" or result.scored_by == "person":
        return result
    if before.checkpoint_sha256 != result.checkpoint_sha256:
        return result
    earlier = result.earlier if len(result.earlier) > len(before.earlier) else before.earlier
    return replace(result, scores=before.scores, scored_by="person", earlier=earlier)
