"""`bespoke record …` and `bespoke next`: what the record holds, and what it says comes next."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from bespoke.dataset.loading import COLLECTION
from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.files import REPOSITORY, workspace
from bespoke.record import store
from bespoke.record.compare import shown
from bespoke.record.index import Index
from bespoke.record.postgres import VARIABLE
from bespoke.request import Request

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bespoke.record.run_record import RunRecord


def run(chosen: argparse.Namespace) -> None:
    """Carry out `bespoke record list`, `sync` or `rebuild`.

    Raises:
        ConfigError: where the record or the database cannot be reached.
    """
    place = workspace(chosen.workspace)
    if chosen.job == "list":
        _list(place)
    elif chosen.job == "rebuild":
        print(f"{place / store.FILE}: made again, {Index(place).rebuild()} runs")
    else:
        url = os.environ.get(VARIABLE, "").strip()
        if not url:
            raise ConfigError(f"{VARIABLE}: not set: it is the database's address")
        sent, left, why = store.sync(place, url)
        print(f"{sent} runs sent, {left} left")
        if left:
            raise ConfigError(f"{left} runs are not sent: {why}. Nothing is lost: try again later")


def _list(place: Path) -> None:
    with store.opened(place) as record:
        runs, elsewhere = record.runs(), record.elsewhere()
    print(f"{place / store.FILE}{elsewhere}")
    for each in runs:
        at = "" if each.best_epoch is None else f" at epoch {each.best_epoch}"
        print(f"{shown(each.name)}\n    {each.status}, {_best(each)}{at}, {each.started}")


def next_steps(chosen: argparse.Namespace) -> None:
    """Print what the run's experiment says comes next, and the commands.

    Raises:
        ConfigError: where there is no run or score to go by.
    """
    with store.opened(workspace(chosen.workspace)) as record:
        runs, name = record.runs(), chosen.run
        if name is None:
            # Not those that only try the machine.
            trials = {each.name for each in config.known(REPOSITORY) if each.subject == "machine"}
            own = [each for each in runs if each.experiment not in trials]
            if not own:
                raise record.nothing("run of an experiment yet: python -m bespoke.run makes one")
            name = max(own, key=lambda each: (bool(each.epochs), each.started)).name
        print("\n".join(steps(record.run(name), runs)))


def steps(run: RunRecord, runs: Sequence[RunRecord]) -> list[str]:
    """What the run's experiment says comes next, a line each: the reason, advice, commands.

    Raises:
        ConfigError: where there is no score to go by, or no such experiment any more.
    """
    if run.best_score is None:
        name = shown(run.name)
        raise ConfigError(f"{name}: no epoch has all three scores yet, so nothing follows")
    so_far = " so far" if run.status == "in_progress" else ""
    first = f"{shown(run.name)}: best score{so_far} {run.best_score:.1f} at epoch {run.best_epoch}"
    experiment = config.load(run.experiment, repository=REPOSITORY)
    rung = experiment.next_step(run.best_score)
    if rung is None:
        which = f" for {run.best_score:.1f}" if experiment.next_steps else ""
        return [first, f"experiments/{experiment.name}.toml has no [[next]]{which}"]
    advice = [f"- {text}" for text in rung.advice]
    commands = [line for name in rung.experiments for line in _step(name, runs)]
    return [first, rung.reason, *advice, *commands]


def _step(name: str, runs: Sequence[RunRecord]) -> Iterator[str]:
    experiment = config.load(name, repository=REPOSITORY)
    data = tuple(f"{name}=DIR" for name in experiment.by_folder() if name != COLLECTION)
    yield ""
    request = Request(experiments=(name,), data=data)
    yield shlex.join(["python", "-m", "bespoke.run", *request.arguments()])
    if experiment.hypothesis:
        yield f"    {experiment.hypothesis}"
    for run in runs:
        if run.experiment == name:
            yield f"    already run: {shown(run.name)}, {run.status}, {_best(run)}"


def _best(run: RunRecord) -> str:
    return "no score" if run.best_score is None else f"best {run.best_score:.1f}"
