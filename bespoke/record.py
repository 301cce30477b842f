"""`bespoke record …` and `bespoke next`: what the record holds, and what it says comes next."""

from __future__ import annotations

import json
import os
import shlex
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import sqlalchemy as sa

from bespoke import config, ladder, schema, store
from bespoke.compare import outcome, shown
from bespoke.dataset import COLLECTION
from bespoke.errors import ConfigError
from bespoke.files import REPOSITORY, workspace
from bespoke.sending import line
from bespoke.settings import effective

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from bespoke.store import RunRecord


def run(chosen: argparse.Namespace) -> None:
    """Carry out `bespoke record JOB`.

    Raises:
        ConfigError: where the record or the database cannot be reached, or no run has that name.
    """
    place = workspace(chosen.workspace)
    if chosen.job == "list":
        _list(place, as_json=chosen.json)
    elif chosen.job == "show":
        with store.opened(place) as record:
            print(json.dumps(asdict(record.run(record.named(chosen.run))), indent=2, default=str))
    elif chosen.job == "sync":
        sent, left, why = store.sync(place, _url())
        print(f"{sent} rows sent, {left} left")
        if left:
            raise ConfigError(f"{left} rows are not sent: {why}; they stay in {place / store.FILE}")
    else:
        added = migrate(place, _url(), lambda told: _consent(told, given=chosen.yes))
        print(f"{added} columns added")


def migrate(workspace: Path, url: str, consent: Callable[[list[str]], bool]) -> int:
    """Add the columns that the owner's tables lack there, if `consent` to the statements is given;
    returns how many were added. What was sent before is sent again, to fill them.

    Raises:
        ConfigError: as `store.opened`, or where the database does not allow it.
    """
    with store.opened(workspace) as record:
        remote = record.remote(url)
        engine = schema.remote_engine(remote.url)
        try:
            with engine.begin() as connection:
                statements = schema.lacking(connection)
                if not statements or not consent(statements):
                    return 0
                for statement in statements:
                    connection.exec_driver_sql(statement)
                for table in (schema.runs, schema.epochs):
                    connection.execute(sa.update(table).values(digest=""))
        except sa.exc.SQLAlchemyError as error:
            raise ConfigError(f"{remote.target}: {line(error)}") from error
        finally:
            engine.dispose()
        remote.forget()
    return len(statements)


def _url() -> str:
    url = os.environ.get("BESPOKE_DATABASE_URL", "").strip()
    if not url:
        raise ConfigError("BESPOKE_DATABASE_URL: is not set: it is the database's address")
    return url


def _consent(statements: list[str], *, given: bool) -> bool:
    print("\n".join(statements))
    if given:
        return True
    if not sys.stdin.isatty():
        raise ConfigError("these columns are not there: --yes adds them")
    return input("add these columns? [y/N] ").strip().lower() == "y"


def _list(place: Path, *, as_json: bool) -> None:
    with store.opened(place) as record:
        runs = record.runs()
    if as_json:
        told = [{"name": each.name, "started": each.started, **outcome(each)} for each in runs]
        print(json.dumps(told, indent=2))
        return
    for each in runs:
        best = "no score" if each.best_score is None else f"best {each.best_score:.1f}"
        at = "" if each.best_epoch is None else f" at epoch {each.best_epoch}"
        facts = [each.status, best + at, "baseline" if each.baseline else each.started]
        print(f"{shown(each.name)}\n    {', '.join(facts)}")


def next_steps(chosen: argparse.Namespace) -> None:
    """Print what the run's experiment says comes next, and the commands.

    Raises:
        ConfigError: where there is no run, score or ladder to go by.
    """
    with store.opened(workspace(chosen.workspace)) as record:
        runs = record.runs()
        name = _latest(runs) if chosen.run is None else record.named(chosen.run)
    print("\n".join(steps(next(each for each in runs if each.name == name), runs)))


def _latest(runs: Sequence[RunRecord]) -> str:
    """The newest run's name, but for those that only try the machine."""
    trials = {each.name for each in config.known(REPOSITORY) if each.subject == "machine"}
    own = [each.name for each in runs if not each.baseline and each.experiment not in trials]
    if not own:
        raise ConfigError("the record has no run yet: python -m bespoke.run makes one")
    return own[-1]


def steps(run: RunRecord, runs: Sequence[RunRecord]) -> list[str]:
    """What the run's experiment says comes next, a line each: the reason, advice, commands.

    Raises:
        ConfigError: where there is no score or ladder to go by.
    """
    if run.best_score is None:
        name = shown(run.name)
        raise ConfigError(f"{name}: no epoch has all three scores yet, so nothing follows")
    experiment = config.load(run.experiment, repository=REPOSITORY)
    file = f"experiments/{experiment.name}.toml"
    rung = ladder.reached(experiment.next_steps, run.best_score)
    if rung is None:
        raise ConfigError(f"{file}: has no [[next]] for a best score of {run.best_score}")
    so_far = " so far" if run.status == "in_progress" else ""
    return [
        f"{shown(run.name)}: best score{so_far} {run.best_score:.1f} at epoch {run.best_epoch}",
        rung.reason,
        *(f"- {text}" for text in rung.advice),
        *(line for wanted in rung.experiments for line in _step(wanted, runs)),
    ]


def _step(name: str, runs: Sequence[RunRecord]) -> Iterator[str]:
    experiment = config.load(name, repository=REPOSITORY)
    command = ["python", "-m", "bespoke.run", "--experiment", name]
    for options in effective(experiment):
        if options["image_dir"] != COLLECTION:
            command += ["--data", f"{options['image_dir']}=DIR"]
    yield ""
    yield shlex.join(command)
    if experiment.hypothesis:
        yield f"    {experiment.hypothesis}"
    for run in runs:
        if run.experiment == name and not run.baseline:
            best = "without a score" if run.best_score is None else f"best {run.best_score:.1f}"
            yield f"    was run: {shown(run.name)}, {run.status}, {best}"
