"""`bespoke compare`: what differs between runs, before what came out of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bespoke.files import workspace
from bespoke.record import store
from bespoke.record.outcome import leaves, outcome
from bespoke.trainer.resume import PLACES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from bespoke.record.run_record import RunRecord

# Where things lie and what they are called: two runs differ in these and are the same for it.
NAMES = PLACES | {"output_name", "log_prefix", "training_comment", "wandb_run_name"}
# Facts that say where a run lay, and what it cost.
LEFT_OUT = ("logs", "output", "price_per_hour")
OUTCOMES = {
    "status": "status",
    "background_right_from": "background right from epoch",
    "lost_again": "background lost again",
    "best_epoch": "best epoch",
    "best_score": "best score",
    "time": "time",
    "cost": "money",
}


def differences(
    runs: Sequence[RunRecord], *, settings_alone: bool = False
) -> dict[str, dict[str, Any]]:
    """By key, settings first: each run's value, where they are not all the same.

    A run of which no setting is known is left out.
    """
    known = {}
    for run in runs:
        if run.settings:
            facts = {} if settings_alone else _facts(run)
            known[run.name] = _settings(run) | facts
    rows = {}
    for key in dict.fromkeys(key for each in known.values() for key in each):
        values = {name: each.get(key) for name, each in known.items()}
        if len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) > 1:
            rows[key] = values
    return rows


def _settings(run: RunRecord) -> dict[str, Any]:
    names = {key: key.rpartition(".")[2] for key in run.settings}
    return {key: row.get("value") for key, row in run.settings.items() if names[key] not in NAMES}


def _facts(run: RunRecord) -> dict[str, Any]:
    rows = leaves({key: value for key, value in run.facts.items() if key not in LEFT_OUT})
    return {".".join(keys): value for *keys, value in rows}


def show(chosen: argparse.Namespace) -> None:
    """Print what differs between the runs that the command line names, and what came out; with
    `--settings`, the settings alone.

    Raises:
        ConfigError: where the record has no such run.
    """
    with store.opened(workspace(chosen.workspace)) as record:
        runs = list({run.uid: run for run in map(record.run, chosen.runs)}.values())
    table = Table()
    for name in ("", *(run.name for run in runs)):
        table.add_column(Text(shown(name)), overflow="fold")
    for key, values in differences(runs, settings_alone=chosen.settings).items():
        table.add_row(Text(shown(key)), *(_cell(values.get(run.name, "")) for run in runs))
    unknown = " and ".join(run.name for run in runs if not run.settings)
    lines = [f"not known, so not compared: the settings of {unknown}"] if unknown else []
    if not chosen.settings:
        _add_outcomes(table, runs)
    if table.row_count:
        Console().print(table)
    elif not lines:
        print("no setting differs")
    for line in lines:
        Console().print(Text(shown(line)))


def _add_outcomes(table: Table, runs: Sequence[RunRecord]) -> None:
    table.add_section()
    outcomes = [outcome(run) for run in runs]
    for key, words in OUTCOMES.items():
        cells = [_cell("" if each[key] is None else each[key]) for each in outcomes]
        if any(cell.plain for cell in cells):
            table.add_row(words, *cells)


def _cell(value: object) -> Text:
    if value is None:
        return Text("not set")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, (list, tuple)):
        return Text(", ".join(shown(each) for each in value))
    return Text(shown(value))


def shown(value: object) -> str:
    """Text from outside as one line that says what it is, whatever it holds."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))
