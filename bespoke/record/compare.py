"""`bespoke compare`: what differs between runs, before what came out of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import fmean
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
    from collections.abc import Iterable, Mapping, Sequence

    from bespoke.record.run_record import RunRecord
    from bespoke.record.store import Record

SEED = "training.seed"
# Where things lie and what they are called: two runs differ in these and are the same for it.
NAMES = PLACES | {"output_name", "log_prefix", "training_comment", "wandb_run_name"}
FOLDERS = ("logs", "output")
# Facts by what they are about, by the words in their names; the rest is the environment.
SUBJECTS = {"captions": ("caption",), "data": ("data", "image", "picture")}
# Facts that came out of a run, and what it cost.
OUTCOMES = (
    "best_epoch", "best_score", "background_right_from", "oscillation", "production_ready",
    "key_findings", "issues_found", "strengths", "price_per_hour", "checkpoint_file_size_mb",
)  # fmt: skip
SECTIONS = ("options", "captions", "data", "environment")
OUTCOME_ROWS = (
    ("status", "status"),
    ("background right from epoch", "background_right_from"),
    ("best epoch", "best_epoch"),
    ("best score", "best_score"),
    ("steps down between epochs", "falls"),
    ("largest step down", "largest_fall"),
    ("background lost again", "lost_again"),
    ("time", "time"),
    ("money", "cost"),
)


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Runs that are the same but for their seeds, and the range of their best scores."""

    runs: tuple[str, ...]
    scores: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.runs[0]


def differences(runs: Sequence[RunRecord]) -> dict[str, dict[str, dict[str, Any]]]:
    """By section, then by key: each run's value, where they are not all the same.

    A run of which no setting is known, as a baseline, is left out.
    """
    sections: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
    known = {run.name: _described(run) for run in runs if run.settings}
    for section, key in dict.fromkeys(key for each in known.values() for key in each):
        values = {name: each.get((section, key)) for name, each in known.items()}
        if len({json.dumps(value, sort_keys=True, default=str) for value in values.values()}) > 1:
            sections[section][key] = values
    return sections


def _described(run: RunRecord) -> dict[tuple[str, str], Any]:
    """All that the run is made from, by section and key."""
    told: dict[tuple[str, str], Any] = {
        ("options", key): setting.get("value")
        for key, setting in run.settings.items()
        if key.rpartition(".")[2] not in NAMES
    }
    for *keys, value in leaves(run.facts):
        if keys[0] not in OUTCOMES + FOLDERS:
            key = ".".join(keys)
            about = (name for name, words in SUBJECTS.items() if any(word in key for word in words))
            told[next(about, "environment"), key] = value
    return told


def seed_groups(runs: Sequence[RunRecord]) -> list[SeedGroup]:
    """The runs in groups that are the same but for the seed, and for the machine."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        told = [
            (key, value)
            for key, value in _described(run).items()
            if key[0] != "environment" and key[1] != SEED
        ]
        # Of a run without settings nothing says what it is made from: it stands alone.
        same = json.dumps(sorted(told, key=str), default=str) if run.settings else run.name
        groups.setdefault(same, []).append(run)
    return [
        SeedGroup(
            runs=tuple(run.name for run in group),
            scores=tuple(run.best_score for run in group if run.best_score is not None),
        )
        for group in groups.values()
    ]


def seed_lines(groups: Sequence[SeedGroup]) -> list[str]:
    """Whether experiments differ by more than their seeds do: n, ranges, and no more than these."""
    scored = [group for group in groups if group.scores]
    if len(scored) < 2:
        return []
    lines = [_range(group) for group in scored]
    several = [group for group in scored if len(group.scores) > 1]
    if not several:
        return [*lines, "one seed each: whether another seed would differ as much is not known"]
    widest = max(max(group.scores) - min(group.scores) for group in several)
    first, *others = scored
    for group in others:
        apart = abs(fmean(group.scores) - fmean(first.scores))
        overlap = max(group.scores) >= min(first.scores) and max(first.scores) >= min(group.scores)
        than = "more" if apart > widest else "no more"
        lines.append(
            f"{first.name} and {group.name}: ranges {'overlap' if overlap else 'do not overlap'}, "
            f"means {apart:.1f} apart: {than} than the widest range between seeds ({widest:.1f})"
        )
    return lines


def left_out(runs: Sequence[RunRecord], known: Sequence[RunRecord]) -> list[str]:
    """The scored runs of the same experiments at other seeds that are not among `runs`."""
    given = {(run.experiment, _seed(run)) for run in runs if run.settings}
    experiments = {experiment for experiment, _ in given}
    others = [
        run.name
        for run in known
        if run.experiment in experiments and run.best_score is not None and run.settings
        if (run.experiment, _seed(run)) not in given
    ]
    told = f"other seeds of these are not compared here: {', '.join(others)}: name them too"
    return [told] if others else []


def _seed(run: RunRecord) -> str:
    return str(run.settings.get(SEED, {}).get("value"))


def _range(group: SeedGroup) -> str:
    low, high = min(group.scores), max(group.scores)
    told = f"{low:.1f}" if len(group.scores) == 1 else f"{low:.1f} to {high:.1f}"
    return f"{group.name}: best score {told} (n = {len(group.scores)})"


def show(chosen: argparse.Namespace) -> None:
    """Print the comparison of the runs that the command line names; with `--settings`, of their
    settings alone, and where each value came from.

    Raises:
        ConfigError: where the record has no such run.
    """
    with store.opened(workspace(chosen.workspace)) as record:
        runs, others = _named(chosen.runs, record), record.runs()
    groups = seed_groups(runs)
    lines = [*_unknown(runs), *seed_lines(groups), *left_out(runs, others)]
    if chosen.json:
        document = {
            "runs": [run.name for run in runs],
            "differs": differences(runs),
            "settings": _settings(runs),
            "outcomes": {run.name: outcome(run) for run in runs},
            "seeds": {
                "groups": [{"runs": group.runs, "scores": group.scores} for group in groups],
                "says": lines,
            },
        }
        print(json.dumps(document, indent=2, default=str))
        return
    table = Table(title_justify="left")
    for name in ("", *(run.name for run in runs)):
        table.add_column(Text(shown(name)), overflow="fold")
    if chosen.settings:
        lines = _unknown(runs)
        for key, settings in _settings(runs).items():
            table.add_row(Text(shown(key)), *(_sourced(settings, run) for run in runs))
    else:
        table.title = "what differs, then what came out"
        _fill(table, runs)
    if table.row_count:
        Console().print(table)
    elif not lines:
        print("no setting differs")
    for line in lines:
        Console().print(Text(shown(line)))


def _settings(runs: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """The settings that differ, by key and run, with where each came from."""
    return {
        key: {run.name: run.settings.get(key) for run in runs if run.settings}
        for key in differences(runs)["options"]
    }


def _fill(table: Table, runs: Sequence[RunRecord]) -> None:
    for section, keys in differences(runs).items():
        for key, values in keys.items():
            label = Text(f"{section}: {shown(key)}")
            table.add_row(label, *(_cell(values.get(run.name, "")) for run in runs))
    table.add_section()
    outcomes = [outcome(run) for run in runs]
    for words, key in OUTCOME_ROWS:
        cells = [_cell("" if each[key] is None else each[key]) for each in outcomes]
        if any(cell.plain for cell in cells):
            table.add_row(words, *cells)


def _unknown(runs: Sequence[RunRecord]) -> list[str]:
    """Which of the runs cannot be compared by what they were made from."""
    names = [run.name for run in runs if not run.settings]
    if not names:
        return []
    return [f"not known, so not compared: the settings of {' and '.join(names)}"]


def _sourced(settings: Mapping[str, Any], run: RunRecord) -> Text:
    if run.name not in settings:
        return Text("")
    setting = settings[run.name]
    if setting is None:
        return Text("not set")
    why = f", {setting['why']}" if setting.get("why") else ""
    return Text(f"{shown(setting.get('value'))}\n({shown(setting.get('from'))}{shown(why)})")


def _named(names: Iterable[str], record: Record) -> list[RunRecord]:
    return [record.run(name) for name in dict.fromkeys(record.named(text) for text in names)]


def _cell(value: object) -> Text:
    if value is None or value == "":
        return Text("not set" if value is None else "")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, (list, tuple)):
        return Text(", ".join(shown(each) for each in value))
    return Text(shown(value))


def shown(value: object) -> str:
    """Text from outside as one line that says what it is, whatever it holds."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(value))
