"""What a person asks of a run, read from the command line and written as one again."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_EXPERIMENT = "keep_tokens_3"
PRICE = "BESPOKE_PRICE_PER_HOUR"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which runs, and how each of them is run; fields are named as the options are.

    One run has one experiment, and one seed or the experiment's own.
    """

    experiments: tuple[str, ...] = (DEFAULT_EXPERIMENT,)
    seeds: tuple[int, ...] = ()
    with_parent: bool = False
    overrides: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    parent_data: tuple[str, ...] = ()
    workspace: Path | None = None
    plan: str = "auto"
    price_per_hour: float | None = None
    strict: bool = False
    allow_no_op: bool = False
    no_gate: bool = False
    no_test: bool = False
    fresh: bool = False
    dry_run: bool = False
    rehearse: bool = False
    events: bool = False

    @property
    def is_several(self) -> bool:
        return len(self.experiments) > 1 or len(self.seeds) > 1 or self.with_parent

    @property
    def experiment(self) -> str:
        return self.experiments[0]

    @property
    def seed(self) -> int | None:
        return self.seeds[0] if self.seeds else None

    def one(self, experiment: str, seed: int | None) -> Request:
        """The request of one of these runs alone."""
        seeds = () if seed is None else (seed,)
        return replace(self, experiments=(experiment,), seeds=seeds, with_parent=False)

    def arguments(self) -> list[str]:
        """The command line that `parse` reads this from."""
        words = [word for name in self.experiments for word in ("--experiment", name)]
        if self.seeds:
            words.append(f"--seeds={','.join(map(str, self.seeds))}")
        for option, values in (
            ("--set", self.overrides),
            ("--data", self.data),
            ("--parent-data", self.parent_data),
        ):
            words += [f"{option}={value}" for value in values]
        if self.workspace is not None:
            words.append(f"--workspace={self.workspace}")
        if self.plan != "auto":
            words.append(f"--plan={self.plan}")
        if self.price_per_hour is not None:
            words.append(f"--price-per-hour={self.price_per_hour!r}")
        switches = [each.name for each in fields(self) if getattr(self, each.name) is True]
        return words + [f"--{name.replace('_', '-')}" for name in switches]


def parse(words: Sequence[str], parser: argparse.ArgumentParser | None = None) -> Request:
    """The request of a command line.

    Raises:
        SystemExit: where it is none; argparse has then said why.
    """
    if parser is None:
        parser = argparse.ArgumentParser(prog="python -m bespoke.run")
        add_arguments(parser)
    return from_parsed(parser.parse_args(words))


def from_parsed(chosen: argparse.Namespace) -> Request:
    """The request of what `add_arguments`' parser has parsed."""
    given: dict[str, Any] = {
        each.name: getattr(chosen, each.name)
        for each in fields(Request)
        if each.name != "experiments"
    }
    for name in ("overrides", "data", "parent_data"):
        given[name] = tuple(given[name])
    return Request(experiments=tuple(chosen.experiment or (chosen.default_experiment,)), **given)


def add_arguments(parser: argparse.ArgumentParser, default: str = DEFAULT_EXPERIMENT) -> None:
    """All options of a run; `default` is the experiment where none is named."""
    parser.set_defaults(default_experiment=default)
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        action="append",
        help=f"a file's name in experiments/, without .toml (default: {default}); "
        "again for another run",
    )
    parser.add_argument(
        "--seeds",
        metavar="N,N",
        type=_seeds,
        default=(),
        help="train at each of these seeds, under names of its own unless it is the experiment's",
    )
    add_switches(parser, with_parent="train the parent experiment too")
    add_choices(parser)
    add_strictness(parser)
    parser.add_argument(
        "--plan",
        choices=("auto", "as-written"),
        default="auto",
        help="fit batch, precision, checkpointing and attention to this machine's GPU, with the "
        "effective batch kept (default), or change nothing",
    )
    parser.add_argument(
        "--price-per-hour",
        metavar="PRICE",
        type=_price,
        default=os.environ.get(PRICE) or None,
        help=f"what the machine costs an hour, for the record (default: {PRICE})",
    )
    add_switches(
        parser,
        no_gate="train on, whatever the experiment's gate says",
        no_test="skip sampling and scoring",
        fresh="start again from the beginning; an earlier run's files move to a dated folder",
        dry_run="stop before the launch; print the command and the two rendered files",
        rehearse="generated pictures and a fake trainer: all of it with no GPU and no download",
    )
    # For the programs that watch a run: each event as a JSON line in the place of progress.
    parser.add_argument("--events", action="store_true", help=argparse.SUPPRESS)


def add_switches(parser: argparse.ArgumentParser, **about: str) -> None:
    """Options that are there or not; `dry_run="…"` adds --dry-run with that help."""
    for name, text in about.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def add_workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=folder,
        help="where training_data, output and logs are (default: BESPOKE_WORKSPACE, /workspace, "
        "./workspace)",
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        action="append",
        default=[],
        help="the pictures' folder; NAME=DIR for another subset's (may be given again)",
    )
    add_workspace(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="override for this run: training.KEY=VALUE or dataset.KEY=VALUE (may be given again)",
    )


def add_strictness(parser: argparse.ArgumentParser) -> None:
    add_switches(
        parser,
        strict="stop at warnings as at errors",
        allow_no_op="train even if nothing that the trainer sees differs from the parent",
    )
    # Its earlier name.
    parser.add_argument(
        "--allow-inert", action="store_true", dest="allow_no_op", help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--parent-data",
        metavar="DIR",
        action="append",
        default=[],
        help="the parent's own pictures and captions, if they were different; NAME=DIR for another "
        "subset's (may be given again)",
    )


def folder(text: str) -> Path:
    """A folder's name, in argparse's way."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a folder's name is needed")
    return Path(text)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write whole numbers, as 42,43") from None


def _price(text: str) -> float:
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: write an amount such as 2.79")
    return price
