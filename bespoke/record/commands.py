"""`bespoke record …`, `bespoke report` and `bespoke next`: what the record holds and says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.files import REPOSITORY, workspace
from bespoke.record import postgres, report, store
from bespoke.record.run_record import dumps, shown

if TYPE_CHECKING:
    import argparse


def list_runs(chosen: argparse.Namespace) -> None:
    """`bespoke record list`: every run by its start."""
    place = workspace(chosen.workspace)
    print(place)
    for run in store.runs(place):
        print(f"{shown(run.name)}\n    {run.state()}, {run.started}")


def rebuild(chosen: argparse.Namespace) -> None:
    """`bespoke record rebuild`: record.sqlite again from the runs' files."""
    place = workspace(chosen.workspace)
    print(f"{place / store.FILE}: made again, {store.write_index(place)} runs")


def sync(chosen: argparse.Namespace) -> None:
    """`bespoke record sync`: all runs to PostgreSQL."""
    place, send = workspace(chosen.workspace), postgres.from_environment()
    if send is None:
        raise ConfigError(f"{postgres.VARIABLE}: not set: it is the database's address")
    sent, left, why = store.send(place, send, everything=True)
    print(f"{sent} runs sent, {left} left")
    if left:
        raise ConfigError(f"{left} runs are not sent: {why}. Nothing is lost: try again later")


def show_report(chosen: argparse.Namespace) -> None:
    """`bespoke report [RUN]`: pages from the record, for all runs or one, and the index; with
    `--json`, all that the record holds of them instead.
    """
    place = workspace(chosen.workspace)
    runs = store.runs(place)
    one = store.pick(chosen.run, runs, place) if chosen.run else None
    if chosen.json:
        documents = [json.loads(dumps(run)) for run in ([one] if one else runs)]
        print(json.dumps(documents[0] if one else documents, indent=2))
        return
    for page in report.publish(runs, place / report.FOLDER, one.name if one else None):
        print(page)


def show_next(chosen: argparse.Namespace) -> None:
    """`bespoke next [RUN]`: what the run's experiment says comes next, and the commands."""
    place = workspace(chosen.workspace)
    runs, name = store.runs(place), chosen.run
    if name is None:
        # Not those that only try the machine.
        trials = {each.name for each in config.known(REPOSITORY) if each.subject == "machine"}
        own = [each for each in runs if each.experiment not in trials]
        if not own:
            raise store.nothing("run of an experiment yet: python -m bespoke.run makes one", place)
        name = max(own, key=lambda each: (bool(each.epochs), each.started)).name
    print("\n".join(report.next_steps(store.pick(name, runs, place), runs)))
