"""`bespoke compare`, `record …`, `report` and `next`: what the record holds, and what it says."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bespoke.console import duration
from bespoke.errors import ConfigError
from bespoke.evaluation import gate
from bespoke.experiment import config
from bespoke.files import REPOSITORY, workspace
from bespoke.record import postgres, report, store
from bespoke.record.run_record import dumps, flat, shown
from bespoke.trainer.resume import ADAPTED, PLACES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bespoke.record.run_record import RunRecord

# Where things lie, what they are called and cost: two runs that differ in it alone are the same.
NAMES = PLACES | {"output_name", "log_prefix", "training_comment", "wandb_run_name"}
NAMES |= {"logs", "output", "collections", "price_per_hour"}


def record(chosen: argparse.Namespace) -> None:
    """`bespoke record list`, `rebuild` or `sync`."""
    {"list": list_runs, "rebuild": rebuild, "sync": sync}[chosen.job](chosen)


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
    """`bespoke report [RUN]`: pages, of all runs or one, and the index; `--json`: all of them."""
    place = workspace(chosen.workspace)
    runs = store.runs(place)
    one = store.pick(chosen.run, runs, place) if chosen.run else None
    if chosen.json:
        print(dumps(one) if one else f"[{', '.join(map(dumps, runs))}]")
    else:
        pages = report.publish(runs, place / report.FOLDER, one.name if one else None)
        print(*pages, sep="\n")


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


def differences(
    runs: Sequence[RunRecord], *, settings_alone: bool = False
) -> dict[str, dict[str, Any]]:
    """By key, settings first: each run's value, of runs whose settings are known and differ."""
    known: dict[str, dict[str, Any]] = {}
    for run in (each for each in runs if each.settings):
        keys = (key for key in run.settings if key.rpartition(".")[2] not in NAMES)
        known[run.name] = {key: run.setting(key) for key in keys}
        if not settings_alone:
            known[run.name] |= {k: v for k, v in flat(run.facts) if k not in NAMES}
    rows = {}
    for key in dict.fromkeys(key for each in known.values() for key in each):
        values = {name: each.get(key) for name, each in known.items()}
        if len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) > 1:
            rows[key] = values
    return rows


def outcome(run: RunRecord) -> dict[str, Any]:
    """What came out, by its name in the table; None where nothing says."""
    first, words = gate.first_right(run.epochs), gate.settled(run.epochs)
    lost = [n for n, word in words.items() if first and n > first and word == "mismatch"]
    return {
        "status": run.status,
        "background right from epoch": first or run.facts.get("background_right_from"),
        "background wrong again": ", ".join(map(str, lost)) or None,
        "best epoch": run.best_epoch,
        "best score": run.best_score,
        "time": None if run.hours is None else duration(run.hours * 3600),
        "money": None if run.cost is None else round(run.cost, 2),
    }


def seed_line(one: RunRecord, other: RunRecord, runs: Sequence[RunRecord]) -> str | None:
    """Whether two runs scored differently, by the mean over all seeds that `runs` has of both: a
    difference within the seeds' own spread is none. None where no score or only the seed differs.
    """
    scored = [run for run in runs if run.best_score is not None]
    first, second = (
        {r.setting("training.seed"): r.best_score or 0 for r in scored if _same_but_seed(r, run)}
        for run in (one, other)
    )
    if _same_but_seed(one, other) or not (first and second):
        return None
    names = f"{one.name} and {other.name}"
    apart = round(statistics.fmean(first.values()) - statistics.fmean(second.values()), 1)
    if min(len(first), len(second)) < 2:
        return f"{names}: {abs(apart)} apart, but one seed cannot tell: train both with --seeds"
    spread = round(max(max(each.values()) - min(each.values()) for each in (first, second)), 1)
    seeds = f"{abs(apart)} apart, seeds alone differ by {spread}"
    better = one.name if apart > 0 else other.name
    verdict = "no difference" if abs(apart) <= spread else f"{better} is better"
    return f"{names}: {verdict}: {seeds}"


def _same_but_seed(one: RunRecord, other: RunRecord) -> bool:
    """Whether two runs are of one experiment, settings and data, whatever the GPU and the seed."""
    keys = differences([one, other], settings_alone=True)
    return one.uid == other.uid or (
        one.experiment == other.experiment
        and bool(one.settings and other.settings)
        and {key.rpartition(".")[2] for key in keys} <= {"seed", *ADAPTED}
        and one.facts.get("data_hash") == other.facts.get("data_hash")
    )


def compare(chosen: argparse.Namespace) -> None:
    """`bespoke compare RUN…`: what differs, and what came out; with `--settings`, that alone."""
    place = workspace(chosen.workspace)
    recorded = store.runs(place)
    picked = [store.pick(name, recorded, place) for name in chosen.runs]
    runs = list({run.uid: run for run in picked}.values())
    if len(runs) < len(picked) and not chosen.settings:
        raise ConfigError(f"{', '.join(chosen.runs)}: two of these are one run, {runs[0].name}")
    table = Table()
    for name in ("", *(run.name for run in runs)):
        table.add_column(Text(shown(name)), overflow="fold")
    for key, values in differences(runs, settings_alone=chosen.settings).items():
        table.add_row(Text(shown(key)), *(_cell(values.get(run.name, "")) for run in runs))
    unknown = " and ".join(run.name for run in runs if not run.settings)
    lines = [f"not known, so not compared: the settings of {unknown}"] if unknown else []
    if not chosen.settings:
        table.add_section()
        outcomes = [outcome(run) for run in runs]
        for key in (key for key in outcomes[0] if any(each[key] is not None for each in outcomes)):
            table.add_row(key, *(_cell("" if o[key] is None else o[key]) for o in outcomes))
        over = [run for run in recorded if run.status == "completed"]
        lines += filter(None, (seed_line(runs[0], other, [*runs, *over]) for other in runs[1:]))
    if table.row_count:
        Console().print(table)
    for line in lines if table.row_count or lines else ["no setting differs"]:
        print(shown(line))


def _cell(value: object) -> Text:
    return Text(shown({"None": "not set", "True": "yes", "False": "no"}.get(str(value), value)))
