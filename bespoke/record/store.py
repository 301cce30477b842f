"""The record: every run that was tried. A run's own file is the truth, and SQLite an index of them.

`output/NAME.record.json` holds all of a run and is written whole after each event; lists are read
from these files. `record.sqlite` is made from them anew after each event, for queries by SQL.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.experiment.validation import did_you_mean
from bespoke.files import DOCUMENT, locked, write_whole
from bespoke.record.run_record import BASELINES, RunRecord, clean, dumps, first_line, loads
from bespoke.trainer.job import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.evaluation.gate import Decision
    from bespoke.record.run_record import Points, Send

FILE = "record.sqlite"
COLUMNS = ("uid", "name", "experiment", "status", "started", "best_epoch", "best_score")
# What another database has: of each run the name and the time of the file that were sent.
SENT = ".sent.json"


class RunFile:
    """A run's own file. Each event is in it before its call returns; the index and another database
    follow. Once a run has begun nothing here stops it: what cannot be kept is said.
    """

    def __init__(self, workspace: Path, file: Path, send: Send | None = None) -> None:
        self._workspace, self._file, self._send = workspace, file, send
        self._begun: float | None = None
        self.run: RunRecord | None = None
        self._ahead = False  # of a file for which the disk had no room

    def begin(self, run: RunRecord) -> None:
        """The run starts, or goes on where its file is there; OSError where it is not written."""
        run = replace(run, name=clean(run.name))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with locked(self._workspace / ".record.lock"):
            before = _read(self._file)
            if before is None and self._file.exists():
                aside = self._file.rename(f"{self._file}-{now():%Y-%m-%dT%H-%M-%S.%fZ}")
                say(f"the run's record begins anew; what was there is {aside}")
            self.run = _resumed(before or replace(run, uid=uuid.uuid4().hex, status=""), run)
            write_whole(self._file, dumps(self.run))
        self._begun = time.monotonic()
        self._follow()

    def epoch(self, result: EpochResult, decision: Decision | None, losses: Points = ()) -> None:
        """An epoch's result, what was decided by it, and the losses by step up to it."""

        def change(run: RunRecord) -> RunRecord:
            epochs = {each.epoch: each for each in run.epochs}
            epochs[result.epoch] = _as_scored(result, epochs.get(result.epoch))
            decided = {each.epoch: each for each in (*run.decisions, *filter(None, [decision]))}
            return replace(
                run,
                epochs=tuple(sorted(epochs.values(), key=lambda each: each.epoch or 0)),
                decisions=tuple(sorted(decided.values(), key=lambda each: each.epoch)),
                curves={"loss": losses} if losses else run.curves,
            )

        self._change(change)

    def end(self, *, status: str, ending: str = "") -> None:
        """This start of the run is over; where it is cancelled, that is an interruption of it."""
        when = now().isoformat(timespec="seconds")
        cut = ({"time": when, "event": ending},) if status == "cancelled" else ()

        def change(run: RunRecord) -> RunRecord:
            rows = (*run.interruptions, *cut)
            return replace(run, status=status, ending=ending, ended=when, interruptions=rows)

        self._change(change)

    def _change(self, change: Callable[[RunRecord], RunRecord]) -> None:
        with locked(self._workspace / ".record.lock"):
            before = self.run if self._ahead else _read(self._file) or self.run
            if before is None:
                raise ConfigError(f"{self._file}: the run's record is gone")
            self.run = change(before)
            if dumps(self.run) == dumps(before) and not self._ahead:
                return
            if self._begun is not None:
                latest, seconds = list(before.starts)[-1], round(time.monotonic() - self._begun, 1)
                starts = {**before.starts, latest: {"total": seconds}}
                self.run = replace(self.run, starts=starts)
            try:
                write_whole(self._file, dumps(self.run))
                self._ahead = False
            except OSError as error:
                self._ahead = True
                say(f"{self._file}: not written yet ({error.strerror}): the next event does it")
                return
        self._follow()

    def _follow(self) -> None:
        """What may fail without harm once the file is written."""
        try:
            write_index(self._workspace)
            if self._send:
                *_, trouble = send(self._workspace, self._send)
                if trouble:
                    say(f"PostgreSQL does not have all of the record yet: {trouble}")
                    say("nothing is lost: the next event sends the rest, or `bespoke record sync`")
        except (ConfigError, OSError) as error:
            say(f"{first_line(error)}; the next event writes it")


def runs(workspace: Path) -> list[RunRecord]:
    """Every run that was recorded here, by its start."""
    return sorted((run for _, run in files(workspace)), key=lambda run: (run.started, run.name))


def files(workspace: Path) -> Iterator[tuple[Path, RunRecord]]:
    """Each run's file, and the run; one whose name another run took goes by its start too."""
    for pattern in (f"*/*{DOCUMENT}", f"*/earlier/*/*{DOCUMENT}"):
        for file in sorted(workspace.glob(pattern)):
            if run := _read(file):
                yield file, run if file.parent.parent == workspace else _moved_away(run)


def _moved_away(run: RunRecord) -> RunRecord:
    if run.status == "in_progress":
        run = replace(run, status="cancelled", ending="another run took its name")
    return replace(run, name=f"{run.name} ({run.started})")


def pick(text: str, runs: Sequence[RunRecord], workspace: Path) -> RunRecord:
    """The run that `text` names: by its own name, else by its experiment, the latest with a tested
    epoch at the seed of its first run, said on stderr; ConfigError where there is neither.
    """
    runs = [*runs, *BASELINES]
    matching = [run for run in runs if run.name == clean(text)]
    matching = matching or [run for run in runs if run.experiment == text]
    if not matching:
        known = {each for run in runs for each in (run.name, run.experiment) if each}
        raise nothing(f"run {text!r}: {did_you_mean(text, known)}", workspace)
    key = "training.seed"
    seed = matching[0].setting(key)
    best = max(matching, key=lambda run: (bool(run.epochs), run.setting(key) == seed, run.started))
    if len(matching) > 1:
        print(f"bespoke: {text}: {best.name}, of {len(matching)} runs", file=sys.stderr)
    return best


def nothing(what: str, workspace: Path) -> ConfigError:
    """An error that says where nothing of the kind was found, and where else to look."""
    place = workspace / "rehearsal"
    hint = f". A rehearsal's record is in {place}: add --workspace {place}" * place.exists()
    return ConfigError(f"{workspace}: no {what}{hint}")


def write_index(workspace: Path) -> int:
    """Make `record.sqlite` anew, whole or not at all; returns of how many runs it is."""
    rows = [[getattr(run, column) for column in COLUMNS] for run in runs(workspace)]
    temporary = workspace / f".{FILE}.{uuid.uuid4().hex}.part"
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as connection, connection:
            connection.execute(f"CREATE TABLE runs ({', '.join(COLUMNS)})")
            connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        temporary.replace(workspace / FILE)
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"{workspace / FILE}: not written: {first_line(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(rows)


def send(workspace: Path, to: Send, *, everything: bool = False) -> tuple[int, int, str | None]:
    """Send the runs that another database lacks, or all: how many went, how many not, and why."""
    known: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads((workspace / SENT).read_text(encoding="utf-8")))
    listed = list(files(workspace))
    states = {run.uid: f"{run.name} {file.stat().st_mtime_ns}" for file, run in listed}
    missing = [run for _, run in listed if everything or known.get(run.uid) != states[run.uid]]
    sent, trouble = to(sorted(missing, key=lambda run: run.started))
    write_whole(workspace / SENT, json.dumps(known | {uid: states[uid] for uid in sent}))
    return len(sent), len(missing) - len(sent), trouble


def _read(file: Path) -> RunRecord | None:
    """What a run's file holds; None where it is not there, or cannot be read, which is said."""
    try:
        return loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        # Not to stdout, where a verb may be printing JSON.
        print(f"bespoke: {file}: cannot be read: {first_line(error)}", file=sys.stderr)
        return None


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
    """The result, with a person's scores of the same checkpoint where there are any."""
    same = before is not None and before.checkpoint_sha256 == result.checkpoint_sha256
    if before is None or not same or (before.scored_by, result.scored_by) != ("person", "metrics"):
        return result
    earlier = max(result.earlier, before.earlier, key=len)
    return replace(result, scores=before.scores, scored_by="person", earlier=earlier)
