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
    from collections.abc import Iterator, Mapping, Sequence

    from bespoke.record.run_record import RunRecord

SEED = "options: training.seed"
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


def differences(runs: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """By key, options first: each run's value, where they are not all the same.

    A run of which no setting is known, as a baseline, is left out.
    """
    known = {run.name: _inputs(run) for run in runs if run.settings}
    rows = {}
    for key in dict.fromkeys(key for each in known.values() for key in each):
        values = {name: each.get(key) for name, each in known.items()}
        if len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) > 1:
            rows[key] = values
    return dict(sorted(rows.items(), key=lambda row: not row[0].startswith("options")))


def _inputs(run: RunRecord) -> dict[str, Any]:
    """All that the run is made from: its options, and facts of data, code and machine."""
    options = {
        f"options: {key}": setting.get("value")
        for key, setting in run.settings.items()
        if key.rpartition(".")[2] not in NAMES
    }
    facts = {".".join(keys): value for *keys, value in leaves(run.facts) if keys[0] not in LEFT_OUT}
    return options | facts


def seed_lines(runs: Sequence[RunRecord]) -> Iterator[str]:
    """The range of the best score over the seeds of runs that are otherwise the same."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        if run.settings and run.best_score is not None:
            options = {
                key: value
                for key, value in _inputs(run).items()
                if key.startswith("options: ") and key != SEED
            }
            groups.setdefault(json.dumps(options, sort_keys=True, default=str), []).append(run)
    for group in groups.values():
        scores = [run.best_score or 0.0 for run in group]
        if len(group) > 1:
            names = ", ".join(run.name for run in group)
            yield f"{len(group)} seeds: best score {min(scores)} to {max(scores)}: {names}"
    if len(groups) > 1 and max(map(len, groups.values())) == 1:
        yield "one seed each: whether another seed would differ as much is not known"


def show(chosen: argparse.Namespace) -> None:
    """Print the comparison of the runs that the command line names; with `--settings`, of their
    settings alone, and where each value came from.

    Raises:
        ConfigError: where the record has no such run.
    """
    with store.opened(workspace(chosen.workspace)) as record:
        runs = [record.run(name) for name in dict.fromkeys(map(record.named, chosen.runs))]
    table = Table()
    for name in ("", *(run.name for run in runs)):
        table.add_column(Text(shown(name)), overflow="fold")
    unknown = " and ".join(run.name for run in runs if not run.settings)
    lines = [f"not known, so not compared: the settings of {unknown}"] if unknown else []
    if chosen.settings:
        _add_settings(table, runs)
    else:
        _add_all(table, runs)
        lines += seed_lines(runs)
    if table.row_count:
        Console().print(table)
    elif not lines:
        print("no setting differs")
    for line in lines:
        Console().print(Text(shown(line)))


def _add_settings(table: Table, runs: Sequence[RunRecord]) -> None:
    for key in differences(runs):
        if key.startswith("options: "):
            option = key.removeprefix("options: ")
            table.add_row(Text(shown(option)), *(_sourced(run.settings, option) for run in runs))


def _add_all(table: Table, runs: Sequence[RunRecord]) -> None:
    for key, values in differences(runs).items():
        table.add_row(Text(shown(key)), *(_cell(values.get(run.name, "")) for run in runs))
    table.add_section()
    outcomes = [outcome(run) for run in runs]
    for key, words in OUTCOMES.items():
        cells = [_cell("" if each[key] is None else each[key]) for each in outcomes]
        if any(cell.plain for cell in cells):
            table.add_row(words, *cells)


def _sourced(settings: Mapping[str, Any], key: str) -> Text:
    if not settings:
        return Text("")
    if key not in settings:
        return Text("not set")
    row = settings[key]
    why = f", {row['why']}" if row.get("why") else ""
    return Text(f"{shown(row.get('value'))}\n({shown(row.get('from'))}{shown(why)})")


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
