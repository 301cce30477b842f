"""`bespoke compare`: what differs between runs, before what came out of them."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bespoke.console import duration
from bespoke.evaluation import gate
from bespoke.files import workspace
from bespoke.record import store
from bespoke.record.run_record import flat, shown
from bespoke.trainer.resume import ADAPTED, PLACES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bespoke.record.run_record import RunRecord

# Where things lie and what they are called, and facts of where a run lay and what it cost: two runs
# differ in these and are the same for it.
NAMES = PLACES | {"output_name", "log_prefix", "training_comment", "wandb_run_name"}
LEFT_OUT = ("logs", "output", "price_per_hour")


def differences(
    runs: Sequence[RunRecord], *, settings_alone: bool = False
) -> dict[str, dict[str, Any]]:
    """By key, settings first: each run's value, where they are not all the same.

    A run of which no setting is known is left out.
    """
    known: dict[str, dict[str, Any]] = {}
    for run in (each for each in runs if each.settings):
        keys = (key for key in run.settings if key.rpartition(".")[2] not in NAMES)
        known[run.name] = {key: run.setting(key) for key in keys}
        if not settings_alone:
            known[run.name] |= {k: v for k, v in flat(run.facts) if k not in LEFT_OUT}
    rows = {}
    for key in dict.fromkeys(key for each in known.values() for key in each):
        values = {name: each.get(key) for name, each in known.items()}
        if len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) > 1:
            rows[key] = values
    return rows


def outcome(run: RunRecord) -> dict[str, Any]:
    """What came out, by its name in the table; None where nothing says."""
    return {
        "status": run.status,
        "background right from epoch": gate.first_right(run.epochs)
        or run.facts.get("background_right_from"),
        "background turned again": gate.listed(flips)
        if (flips := gate.flips(run.epochs))
        else None,
        "best epoch": run.best_epoch,
        "best score": run.best_score,
        "time": None if run.hours is None else duration(run.hours * 3600),
        "money": None if run.cost is None else round(run.cost, 2),
    }


def seed_line(one: RunRecord, other: RunRecord, runs: Sequence[RunRecord]) -> str | None:
    """Whether two runs scored differently, by the mean over all seeds that `runs` has of both: a
    difference within the seeds' own spread is none. None where no score or only the seed differs.
    """
    if _same_but_seed(one, other):
        return None
    first, second = (
        {each.seed: each.best_score or 0 for each in runs if _same_but_seed(each, run)}.values()
        for run in (one, other)
    )
    names = f"{one.name} and {other.name}"
    apart = round(statistics.fmean(first) - statistics.fmean(second), 1)
    if min(len(first), len(second)) < 2:
        return f"{names}: {abs(apart)} apart, but one seed cannot tell: train both with --seeds"
    spread = round(max(max(each) - min(each) for each in (first, second)), 1)
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


def show(chosen: argparse.Namespace) -> None:
    """Print what differs between the runs that the command line names, and what came out; with
    `--settings`, the settings alone.
    """
    place = workspace(chosen.workspace)
    recorded = store.runs(place)
    picked = [store.pick(name, recorded, place) for name in chosen.runs]
    runs = list({run.uid: run for run in picked}.values())
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
        scored = [run for run in runs if run.best_score is not None]
        known = [
            *scored,
            *(run for run in recorded if run.best_score and run.status == "completed"),
        ]
        lines += [line for other in scored[1:] if (line := seed_line(scored[0], other, known))]
    if table.row_count:
        Console().print(table)
    for line in lines if table.row_count or lines else ["no setting differs"]:
        print(shown(line))


def _cell(value: object) -> Text:
    words = {"None": "not set", "True": "yes", "False": "no"}
    return Text(shown(words.get(str(value), value)))
