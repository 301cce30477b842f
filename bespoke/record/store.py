"""The record: every run that was tried. A run's own file is the truth, and SQLite an index of them.

`output/NAME.record.json` holds all of a run and is written whole after each event. `record.sqlite`
is made again from these files wherever it is missing, damaged or behind.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.experiment.validation import did_you_mean
from bespoke.files import document_path, write_whole
from bespoke.record import run_record
from bespoke.record.index import FILE, Index, stamp
from bespoke.record.postgres import Postgres, line
from bespoke.record.run_record import BASELINES, STATUSES, RunRecord, clean, dumps, thinned
from bespoke.trainer.journal import now

__all__ = ("BASELINES", "FILE", "Record", "RunRecord", "opened", "rebuild", "sync")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.gate import Decision


@contextlib.contextmanager
def opened(workspace: Path, url: str | None = None) -> Iterator[Record]:
    """The workspace's record; with `url`, a PostgreSQL is sent the runs and epochs too.

    Raises:
        ConfigError: where `url` is no address of PostgreSQL, or the workspace cannot be made.
    """
    remote = Postgres(url) if url and url.strip() else None
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{workspace}: cannot be made: {error.strerror}") from error
    record = Record(Index(workspace), remote)
    yield record
    record.close()


def sync(workspace: Path, url: str) -> tuple[int, int, str | None]:
    """Send all that there is, now: how many rows went, how many did not, and why these did not.

    Raises:
        ConfigError: as `opened`, or where the index cannot be read.
    """
    with opened(workspace) as record:
        return record.send_all(Postgres(url))


def rebuild(workspace: Path) -> int:
    """Make the index again from the runs' files; returns of how many runs it is.

    Raises:
        ConfigError: where it cannot be written.
    """
    with opened(workspace) as record:
        record.rebuild()
        return len(record.runs())


class Record:
    """What `opened` gives. Each call is in the run's file before it returns.

    Once a run has begun nothing here stops it: what cannot be kept is said.
    """

    def __init__(self, index: Index, remote: Postgres | None) -> None:
        self._index, self._remote = index, remote
        # The runs that this process writes: file, start, and all of it, should the file fail.
        self._own: dict[str, tuple[Path, float, RunRecord]] = {}
        self._unwritten: set[str] = set()
        self._trouble: str | None = None

    def begin(self, run: RunRecord, file: Path | None = None) -> None:
        """A run starts, or goes on where its file is there: what that holds stays, but its ending.

        Raises:
            OSError: where the file cannot be written.
        """
        name, started = clean(run.name), run.started or now().isoformat(timespec="seconds")
        run = replace(run, name=name, started=started)
        file = file or document_path(self._index.output, re.sub(r"[^\w.-]+", "_", name)[:80])
        with self._index.locked():
            before = self._read(file)
            run = _resumed(before, run) if before else _started(run)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, dumps(run))
        # As the file has it: without a secret.
        self._own[name] = (file, time.monotonic(), run_record.loads(dumps(run)))
        self._index.take_in(file)
        self._send()

    def epoch(self, run_name: str, result: EpochResult, decisions: Sequence[Decision]) -> None:
        """An epoch's result, and what was decided: what `decisions` say of an epoch replaces.

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
            decided = {each.epoch for each in decisions}
            kept = [*(each for each in run.decisions if each.epoch not in decided), *decisions]
            return replace(
                run,
                epochs=tuple(results[number] for number in sorted(results)),
                decisions=tuple(sorted(kept, key=lambda each: each.epoch)),
            )

        self._change(run_name, f"epoch {epoch}", change)
        self._send()

    def curves(self, run_name: str, curves: Mapping[str, Iterable[tuple[int, float]]]) -> None:
        """Curves by name: what is there before a curve's first step stays, all is thinned.

        Raises:
            ConfigError: where there is no such run.
        """

        def change(run: RunRecord) -> RunRecord:
            merged = dict(run.curves)
            for name, points in curves.items():
                new = [(int(step), float(value)) for step, value in points if math.isfinite(value)]
                old = [each for each in merged.get(name, ()) if not new or each[0] < new[0][0]]
                merged[name] = thinned([*old, *new])
            return replace(run, curves=merged)

        self._change(run_name, "the curves", change)

    def end(
        self,
        run_name: str,
        *,
        status: str,
        ending: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """This start of the run is over; where it is cancelled, that is an interruption of the run.

        Raises:
            ConfigError: where there is no such run, or `status` is none.
        """
        if status not in STATUSES:
            raise ConfigError(f"status: {status!r}: {did_you_mean(status, STATUSES)}")

        def change(run: RunRecord) -> RunRecord:
            known = {**run.facts, **(facts or {})}
            changed = replace(run, status=status, ending=ending, facts=known)
            if dumps(changed) == dumps(run):
                return run
            when = now().isoformat(timespec="seconds")
            row = {"time": when, "event": ending}
            rows = (*run.interruptions, row) if status == "cancelled" else run.interruptions
            return replace(changed, ended=when, interruptions=rows)

        self._change(run_name, "the run's end", change)
        self._send()

    def run(self, name: str) -> RunRecord:
        """All that is known of a run.

        Raises:
            ConfigError: where there is no such run.
        """
        if name in self._own:
            return self._own[name][2]
        try:
            run = self._index.run(clean(name))
        except ConfigError:
            # A run goes on without the index, and so does its page.
            run = next((each for each in self.runs() if each.name == name), None)
        if run is None:
            raise self.nothing(f"run {name!r}")
        return run

    def named(self, text: str) -> str:
        """The run that `text` names: by its own name, else by its experiment.

        Of an experiment's runs it is the latest with a tested epoch, at the seed of its first run;
        which one was taken is said on stderr.

        Raises:
            ConfigError: where there is neither, with the nearest name.
        """
        name = clean(text)
        if name in self._own or self._index.run(name) is not None:
            return name
        runs = self.runs()
        of_it = [run for run in runs if run.experiment == text]
        if not of_it:
            known = {each for run in runs for each in (run.name, run.experiment) if each}
            raise self.nothing(f"run {text!r}: {did_you_mean(text, known)}")
        seed = of_it[0].seed
        best = max(of_it, key=lambda run: (bool(run.epochs), run.seed == seed, run.started))
        if len(of_it) > 1:
            print(f"bespoke: {text}: {best.name}, of {len(of_it)} runs", file=sys.stderr)
        return best.name

    def runs(self) -> list[RunRecord]:
        """Every run by its start, baselines first; light: without curves, preflight, measures."""
        try:
            runs = self._index.runs()
        except ConfigError:
            if not self._own:
                raise
            runs = list(BASELINES)
        own = {run.uid: run for _, _, run in self._own.values()}
        others = [run for run in runs if run.uid not in own]
        return sorted([*others, *own.values()], key=lambda run: (run.started, run.name))

    def nothing(self, what: str) -> ConfigError:
        """An error that says where nothing of the kind was found, and where else to look."""
        return ConfigError(f"{self._index.file}: has no {what}{self.elsewhere()}")

    def elsewhere(self) -> str:
        """Where a rehearsal's record is, if this is not it."""
        place = self._index.file.parent / "rehearsal"
        there = (place / FILE).exists()
        return f". A rehearsal's record is in {place}: add --workspace {place}" if there else ""

    def send_all(self, remote: Postgres) -> tuple[int, int, str | None]:
        """Send every row of every run: how many went, how many did not, and why these did not."""
        parcels = self._index.parcels(everything=True)
        rows = sum(len(each.waiting) for each in parcels)
        why = remote.send(parcels, seconds=None)
        self._index.note(parcels)
        left = sum(len(each.waiting) for each in parcels)
        return rows - left, left, why

    def rebuild(self) -> None:
        """Make the index again, with what is known of each run's rows elsewhere."""
        self._index.rebuild()

    def close(self) -> None:
        """Say what PostgreSQL has not got, if anything."""
        if self._trouble and self._remote:
            say(
                f"the record is not yet complete at {self._remote.target}: {self._trouble}. "
                "Nothing is lost: the next run sends the rest, or `bespoke record sync`"
            )

    def _change(
        self,
        name: str,
        what: str,
        change: Callable[[RunRecord], RunRecord],
    ) -> None:
        name = clean(name)
        file, begun, last = self._own.get(name) or (self._index.file_of(name), None, None)
        if file is None:
            raise ConfigError(f"{self._index.file}: has no run {name!r}: it was never begun")
        with self._index.locked():
            run = last if name in self._unwritten else self._read(file) or last
            if run is None:
                raise ConfigError(f"{file}: the record of {name!r} is gone")
            changed = change(run)
            if dumps(changed) == dumps(run) and name not in self._unwritten:
                return
            if begun is not None:
                latest = list(changed.starts)[-1]
                seconds = {"total": round(time.monotonic() - begun, 1)}
                changed = replace(changed, starts={**changed.starts, latest: seconds})
                self._own[name] = (file, begun, run_record.loads(dumps(changed)))
            try:
                write_whole(file, dumps(changed))
                self._unwritten.discard(name)
            except OSError as error:
                self._unwritten.add(name)
                say(
                    f"{file}: {what} could not be kept ({error.strerror}): the next event writes it"
                )
        self._index.take_in(file)

    def _read(self, file: Path) -> RunRecord | None:
        """What the file holds, or the index in the place of a damaged one; None without a file."""
        try:
            return run_record.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            aside = file.with_name(f"{file.name}-{stamp()}")
            with contextlib.suppress(OSError):
                file.rename(aside)
            say(f"{file}: cannot be read ({line(error)}). Moved to {aside}")
            with contextlib.suppress(ConfigError):
                return self._index.copy_of(file)
            return None

    def _send(self) -> None:
        if self._remote is None:
            return
        try:
            parcels = self._index.parcels()
            self._trouble = self._remote.send(parcels)
            self._index.note(parcels)
        except Exception as error:  # noqa: BLE001 - whatever a database does, training goes on
            self._trouble = line(error)


def _started(run: RunRecord) -> RunRecord:
    curves = {name: thinned(list(points)) for name, points in run.curves.items()}
    starts = {**run.starts, run.started: run.starts.get(run.started, {})}
    return replace(run, uid=uuid.uuid4().hex, curves=curves, starts=starts)


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
        curves={**run.curves, **before.curves},
    )


def _as_scored(result: EpochResult, before: EpochResult | None) -> EpochResult:
    if before is None or before.scored_by != "person" or result.scored_by == "person":
        return result
    if before.checkpoint_sha256 != result.checkpoint_sha256:
        return result
    earlier = result.earlier if len(result.earlier) > len(before.earlier) else before.earlier
    return replace(result, scores=before.scores, scored_by="person", earlier=earlier)
