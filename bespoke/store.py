"""The record: every run and epoch that was tried, here in SQLite and, if asked, in PostgreSQL.

What is kept is committed to the workspace's own file first. That file knows what each other
database was last sent, so nothing is lost with a connection, and what is sent twice is there once.
"""

from __future__ import annotations

import contextlib
import functools
import math
import uuid
from collections import Counter
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bespoke import gate, owner, rows, schema
from bespoke.display import say
from bespoke.errors import ConfigError
from bespoke.gate import Decision
from bespoke.journal import now
from bespoke.sending import Remote, Sender, line
from bespoke.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from bespoke.evaluate import EpochResult
    from bespoke.owner import Row

FILE = "record.sqlite"
POINTS = 500


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run as the record keeps it; times are UTC in ISO 8601, durations seconds.

    `name` is unique: the experiment's run_name. `status` is in_progress, completed, failed or
    cancelled, `ending` says in words how it ended. `settings` maps "training.KEY" and
    "dataset….KEY" to the receipt's row {value, from, was?, was_from?, why?}. `preflight` is the
    object that `bespoke check --json` prints. `facts` hold commits, hashes of data, captions and
    base model, hardware, plan, price_per_hour. `curves` maps "loss", "lr/unet" and
    "lr/text_encoder" to thinned (step, value) pairs. `interruptions` are rows {time, event, …}.
    `timings` are seconds by stage, of all starts together; "total", where given, is the whole.
    A `baseline` is a run that was made elsewhere before.
    """

    name: str
    experiment: str
    parent: str | None = None
    status: str = "in_progress"
    ending: str = ""
    started: str = ""
    ended: str | None = None
    hypothesis: str = ""
    expected: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    preflight: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    epochs: tuple[EpochResult, ...] = ()
    decisions: tuple[Decision, ...] = ()
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    interruptions: tuple[Mapping[str, Any], ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    baseline: bool = False

    @functools.cached_property
    def best(self) -> EpochResult | None:
        """The epoch that `gate.best` finds; None where none has a mean score."""
        return gate.best(self.epochs)

    @property
    def best_epoch(self) -> int | None:
        """The best epoch; of a baseline, what is known of it."""
        return self.best.epoch if self.best else self.facts.get("best_epoch")

    @property
    def best_score(self) -> float | None:
        """The best epoch's mean score, 0 to 10; of a baseline, what is known of it."""
        return self.best.scores.mean if self.best else self.facts.get("best_score")

    @property
    def hours(self) -> float | None:
        """What `owner.hours` says of the run's timings."""
        return owner.hours(self.timings)

    @property
    def cost(self) -> float | None:
        """What the run's hours cost at the price per hour that it was given; None without one."""
        price = self.facts.get("price_per_hour")
        return None if price is None or self.hours is None else float(price) * self.hours


# Made before there was a record. What is known of them are facts: no pictures were measured.
BASELINES = (
    RunRecord(
        name="SD15_FINAL_CORRECTED_CAPTIONS",
        experiment="final_corrected_captions",
        status="completed",
        baseline=True,
        facts={
            "best_epoch": 6,
            "best_score": 7.3,
            "background_right_from": 7,
            "oscillation": True,
            "key_findings": "background wrong until epoch 7; quality oscillates between epochs",
        },
    ),
    RunRecord(
        name="SD15_PERFECT",
        experiment="",
        status="completed",
        baseline=True,
        facts={
            "best_epoch": 7,
            "best_score": 9.0,
            "production_ready": True,
            "key_findings": "in production",
        },
    ),
)


@contextlib.contextmanager
def opened(workspace: Path, url: str | None = None, *, patience: float = 3.0) -> Iterator[Record]:
    """The workspace's record, and with `url` a PostgreSQL that is sent the same in the background.

    Leaving waits at most `patience` seconds for what is unsent, and says what still is.

    Raises:
        ConfigError: where the file cannot be opened, or `url` is no address of PostgreSQL.
    """
    file = workspace / FILE
    workspace.mkdir(parents=True, exist_ok=True)
    local = schema.local_engine(file)
    try:
        with local.begin() as connection:
            owners = schema.prepare(connection)
            for run in BASELINES:
                rows.seed(connection, owners, _kept(run, uid=f"baseline-{run.name}"))
    except sa.exc.SQLAlchemyError as error:
        raise ConfigError(f"{file}: the record cannot be opened: {line(error)}") from error
    record = Record(local, owners, file)
    if url is None or not url.strip():
        yield record
        return
    remote = record.remote(url)
    record.sender = Sender(remote)
    try:
        yield record
    finally:
        count, why = record.sender.close(patience)
        if count:
            say(
                f"the record: {count} rows are not yet at {remote.target}: {why}; they are in "
                f"{file}, and the next run sends them, or `bespoke record sync`"
            )


def sync(workspace: Path, url: str) -> tuple[int, int, str | None]:
    """Send all that waits, now: how many rows went, how many still wait, and why these do.

    Raises:
        ConfigError: as `opened`.
    """
    with opened(workspace) as record:
        remote = record.remote(url)
        waiting = len(remote.unsent())
        why = remote.send()
        left = len(remote.unsent())
    return waiting - left, left, why


class Record:
    """What `opened` gives: each call is committed here before it returns, then sent on.

    Once a run has begun nothing here stops it: what cannot be kept is said.
    """

    def __init__(self, local: sa.Engine, owners: sa.MetaData, file: Path) -> None:
        self._local, self._owners, self._file = local, owners, file
        self.sender: Sender | None = None

    def begin(self, run: RunRecord, *, fresh: bool = False) -> None:
        """A run starts, or goes on: what the record has of it stays, all but its ending.

        With `fresh`, and where the name is a baseline's, the older run gives up the name.

        Raises:
            ConfigError: where the record cannot be written.
        """
        name, started = rows.text(run.name), run.started or now().isoformat(timespec="seconds")
        try:
            with self._local.begin() as connection:
                before = rows.find(connection, name)
                if before and (fresh or before["baseline"]):
                    rows.step_aside(connection, self._owners, rows.load(connection, before["uid"]))
                    before = None
                uid = before["uid"] if before else uuid.uuid4().hex
                kept = _kept(replace(run, name=name, started=started), uid=uid)
                if before:
                    kept = _gone_on(rows.load(connection, uid), kept, started)
                rows.keep(connection, self._owners, kept)
        except sa.exc.SQLAlchemyError as error:
            raise ConfigError(f"{self._file}: cannot be written: {line(error)}") from error
        self._wake()

    def epoch(self, run_name: str, result: EpochResult, decisions: Sequence[Decision]) -> None:
        """An epoch's result, and what was decided: what `decisions` say of an epoch replaces.

        A person's scores of the same checkpoint stay, whatever the metrics say later.

        Raises:
            ConfigError: where there is no such run, or the checkpoint carries no epoch.
        """
        if result.epoch is None:
            raise ConfigError(f"{result.checkpoint}: carries no epoch: the record keeps it by one")

        def change(connection: sa.Connection, kept: rows.Kept) -> rows.Kept:
            found = rows.load_epochs(connection, kept.uid)[kept.uid]
            before = next((each for each in found if each.epoch == result.epoch), None)
            standing = _as_scored(result, before)
            rows.keep_epoch(connection, self._owners, kept.uid, standing)
            others = [each for each in found if each.epoch != result.epoch]
            run = _record(kept, [*others, standing])
            row = {**kept.row, "best_epoch": run.best_epoch, "best_score": run.best_score}
            row["facts"].setdefault(
                "checkpoint_file_size_mb", round(result.checkpoint_size / 1e6, 2)
            )
            told = {each.epoch for each in decisions}
            stay = [each for each in kept.decisions if each["epoch"] not in told]
            stand = (*stay, *_decided(kept.uid, decisions))
            return replace(kept, row=row, decisions=stand)

        self._change(run_name, f"epoch {result.epoch}", change)

    def curves(self, run_name: str, curves: Mapping[str, Iterable[tuple[int, float]]]) -> None:
        """Curves by name: what is there before a curve's first step stays, all is thinned.

        Raises:
            ConfigError: where there is no such run.
        """

        def change(_: sa.Connection, kept: rows.Kept) -> rows.Kept:
            merged = dict(kept.documents.get("curves", {}))
            for name, points in curves.items():
                new = [[int(step), float(value)] for step, value in points]
                old = [each for each in merged.get(name, ()) if not new or each[0] < new[0][0]]
                merged[name] = _thinned([*old, *new])
            return replace(kept, documents={**kept.documents, "curves": merged})

        self._change(run_name, "the curves", change)

    def interruption(self, run_name: str, row: Mapping[str, Any]) -> None:
        """A row {time, event, …}; one that is there already is not added.

        Raises:
            ConfigError: where there is no such run.
        """

        def change(_: sa.Connection, kept: rows.Kept) -> rows.Kept:
            told, found = rows.plain(dict(row)), kept.row["interruptions"]
            return kept if told in found else kept.but(interruptions=[*found, told])

        self._change(run_name, "an interruption", change)

    def end(
        self,
        run_name: str,
        *,
        status: str,
        ending: str = "",
        timings: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """This start of the run is over; its `timings` count beside those of earlier starts.

        Raises:
            ConfigError: where there is no such run, or `status` is none.
        """
        if status not in owner.STATUSES:
            raise ConfigError(f"status: {status!r}: {did_you_mean(status, owner.STATUSES)}")

        def change(_: sa.Connection, kept: rows.Kept) -> rows.Kept:
            starts = dict(kept.row["starts"])
            starts[next(reversed(starts))] = dict(timings or {})
            told = {**kept.row["facts"], **(facts or {})}
            changes = {"status": status, "ending": ending, "starts": starts, "facts": told}
            if kept.but(**rows.plain(changes)) == kept:
                return kept
            return kept.but(**changes, ended=now().isoformat(timespec="seconds"))

        self._change(run_name, "the run's end", change)

    def run(self, name: str) -> RunRecord:
        """All that is known of a run.

        Raises:
            ConfigError: where there is no such run.
        """
        with self._reading() as connection:
            found = rows.find(connection, rows.text(name))
            if found is None:
                raise ConfigError(f"the record has no run {name!r}")
            kept = rows.load(connection, found["uid"])
            epochs = rows.load_epochs(connection, kept.uid)[kept.uid]
        return _record(kept, epochs)

    def named(self, text: str) -> str:
        """The run that `text` names: by its own name, else the latest of that experiment.

        Raises:
            ConfigError: where there is neither, with the nearest name.
        """
        with self._reading() as connection:
            if rows.find(connection, rows.text(text)) is not None:
                return rows.text(text)
            found = rows.load_all(connection)
        names = [each.row["name"] for each in found]
        of_it = [each.row["name"] for each in found if each.row["experiment"] == text]
        if not of_it:
            raise ConfigError(f"the record has no run {text!r}: {did_you_mean(text, names)}")
        return str(of_it[-1])

    def runs(self) -> list[RunRecord]:
        """Every run by its start, baselines first; light: with neither pictures, decisions, curves
        nor preflight."""
        with self._reading() as connection:
            epochs = rows.load_epochs(connection, pictures=False)
            found = rows.load_all(connection)
        return [_record(each, epochs.get(each.uid, ())) for each in found]

    def remote(self, url: str) -> Remote:
        """Another database to send this record to.

        Raises:
            ConfigError: where `url` is no address of PostgreSQL.
        """
        lock = self._file.with_name(".record.lock")
        return Remote(local=self._local, url=schema.remote_url(url), lock=lock)

    def _reading(self) -> sa.Connection:
        return self._local.connect().execution_options(reading=True)

    def _change(
        self, name: str, what: str, change: Callable[[sa.Connection, rows.Kept], rows.Kept]
    ) -> None:
        try:
            with self._local.begin() as connection:
                found = rows.find(connection, rows.text(name))
                if found is None:
                    raise ConfigError(f"the record has no run {name!r}: it was never begun")
                kept = change(connection, rows.load(connection, found["uid"]))
                rows.keep(connection, self._owners, kept)
        except sa.exc.SQLAlchemyError as error:
            why = line(error)
            say(f"{self._file}: {what} could not be kept: {why}; the run's own files hold it")
        self._wake()

    def _wake(self) -> None:
        if self.sender is not None:
            self.sender.wake()


def _kept(run: RunRecord, *, uid: str) -> rows.Kept:
    row = {
        each.name: getattr(run, each.name)
        for each in fields(RunRecord)
        if each.name not in ("epochs", "decisions", "curves", "preflight", "timings")
    }
    row |= {"uid": uid, "best_epoch": run.best_epoch, "best_score": run.best_score}
    row["starts"] = {run.started: dict(run.timings)} if run.started else {}
    curves = {
        name: _thinned([list(each) for each in points]) for name, points in run.curves.items()
    }
    documents = {"preflight": run.preflight, "curves": curves}
    return rows.Kept(
        row=rows.plain(row), documents=documents, decisions=tuple(_decided(uid, run.decisions))
    )


def _gone_on(before: rows.Kept, kept: rows.Kept, started: str) -> rows.Kept:
    """The run as it goes on: what was, under what is new; it began when it first did."""
    old, new = before.row, kept.row
    changes = {
        "started": old["started"],
        "ended": None,
        "ending": "",
        "facts": {**old["facts"], **new["facts"]},
        "starts": {**old["starts"], started: old["starts"].get(started, {})},
        **{name: old[name] for name in ("interruptions", "best_epoch", "best_score")},
    }
    documents = {**before.documents, "preflight": kept.documents["preflight"]}
    return replace(kept.but(**changes), documents=documents, decisions=before.decisions)


def _record(kept: rows.Kept, epochs: Iterable[EpochResult]) -> RunRecord:
    row, documents = kept.row, kept.documents
    cells = {each.name: row[each.name] for each in fields(RunRecord) if each.name in row}
    curves = {
        name: [(step, math.nan if value is None else value) for step, value in points]
        for name, points in documents.get("curves", {}).items()
    }
    return RunRecord(
        **{
            **cells,
            "expected": tuple(row["expected"]),
            "interruptions": tuple(row["interruptions"]),
            "preflight": documents.get("preflight", {}),
            "curves": curves,
            "timings": rows.timings(row),
            "epochs": tuple(epochs),
            "decisions": tuple(
                Decision(**{key: each[key] for key in ("epoch", "outcome", "reason", "evidence")})
                for each in kept.decisions
            ),
        }
    )


def _decided(uid: str, decisions: Iterable[Decision]) -> list[Row]:
    counts: Counter[int] = Counter()
    found = []
    for decision in sorted(decisions, key=lambda each: each.epoch):
        counts[decision.epoch] += 1
        found.append({**asdict(decision), "uid": uid, "number": counts[decision.epoch]})
    return found


def _as_scored(result: EpochResult, before: EpochResult | None) -> EpochResult:
    if before is None or before.scored_by != "person" or result.scored_by == "person":
        return result
    if before.checkpoint_sha256 != result.checkpoint_sha256:
        return result
    earlier = result.earlier if len(result.earlier) > len(before.earlier) else before.earlier
    return replace(result, scores=before.scores, scored_by="person", earlier=earlier)


def _thinned(points: Sequence[Any]) -> list[Any]:
    """At most POINTS of them, evenly taken, with the first and the last."""
    if len(points) <= POINTS:
        return list(points)
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]
