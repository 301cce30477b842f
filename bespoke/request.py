"""What a person asks of a run: each field is an option of the command line."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import version

if TYPE_CHECKING:
    from collections.abc import Sequence

# A package names the experiment that it was made for.
DEFAULT_EXPERIMENT = version.origin().get("experiment", "keep_tokens_3")
PRICE = "BESPOKE_PRICE_PER_HOUR"


def folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("name a folder")
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


def _option(default: Any, about: str, name: str = "", **how: Any) -> Any:
    """A field with its help, and `how` argparse reads it; `name` where it is not the field's."""
    if default is False:
        how["action"] = "store_true"
    elif isinstance(default, tuple) and "type" not in how:
        how["action"] = "append"
        about += "; may be given again"
    return field(default=default, metadata={"name": name, "how": {"help": about, **how}})


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which runs, and how each of them is run."""

    experiments: tuple[str, ...] = _option(
        (DEFAULT_EXPERIMENT,),
        f"a file's name in experiments/ (default: {DEFAULT_EXPERIMENT})",
        "experiment",
        metavar="NAME",
    )
    seeds: tuple[int, ...] = _option(
        (), "train at each of these seeds, each under a name of its own", type=_seeds, metavar="N,N"
    )
    with_parent: bool = _option(False, "train the parent experiment too")
    data: tuple[str, ...] = _option(
        (), "the pictures' folder; NAME=DIR for another subset's", metavar="DIR"
    )
    parent_data: tuple[str, ...] = _option(
        (), "the parent's pictures and captions, if they were different", metavar="DIR"
    )
    workspace: Path | None = _option(  # noqa: RUF009
        None,
        "where output and logs are (default: BESPOKE_WORKSPACE, /workspace, ./workspace)",
        type=folder,
        metavar="DIR",
    )
    overrides: tuple[str, ...] = _option(
        (), "training.KEY=VALUE or dataset.KEY=VALUE, for this run", "set", metavar="KEY=VALUE"
    )
    strict: bool = _option(False, "stop at warnings as at errors")
    allow_no_op: bool = _option(False, "train even if nothing differs from the parent")
    plan: str = _option(
        "auto",
        "fit the run to this machine's GPU, with the effective batch kept (default), or do not",
        choices=("auto", "as-written"),
    )
    price_per_hour: float | None = _option(
        None,
        f"what the machine costs an hour, for the record (default: {PRICE})",
        type=_price,
        metavar="PRICE",
    )
    no_gate: bool = _option(False, "train on, whatever the experiment's gate says")
    no_test: bool = _option(False, "skip sampling and scoring")
    fresh: bool = _option(False, "start again; an earlier run's files move to a dated folder")
    copied_from: str | None = _option(
        None, "go on with a run that was copied there by BESPOKE_COPY_TO", "from", metavar="URL"
    )
    dry_run: bool = _option(False, "print the command and both rendered files, and stop")
    rehearse: bool = _option(False, "generated pictures and a fake trainer: no GPU, no download")

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
        words = []
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "seeds" and value:
                value = ",".join(map(str, value))
            if value is True:
                words.append(_name(each))
            elif value != each.default or each.name == "experiments":
                for text in map(str, value if isinstance(value, tuple) else (value,)):
                    # A text that begins as an option does can only stand behind "=".
                    words += [f"{_name(each)}={text}"] if text[:1] == "-" else [_name(each), text]
        return words


def _name(option: Field[Any]) -> str:
    return f"--{option.metadata['name'] or option.name.replace('_', '-')}"


def add_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """The options of a run, or those of these names."""
    for each in fields(Request):
        if not names or each.name in names:
            default = [] if each.metadata["how"].get("action") == "append" else each.default
            if each.name == "price_per_hour":
                default = os.environ.get(PRICE) or None
            parser.add_argument(
                _name(each), dest=each.name, default=default, **each.metadata["how"]
            )


def from_parsed(chosen: argparse.Namespace) -> Request:
    """The request of what `add_arguments`' parser has parsed."""
    values = {each.name: getattr(chosen, each.name) for each in fields(Request)}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Request(**{key: value for key, value in {**values, **lists}.items() if value != ()})


def parse(words: Sequence[str]) -> Request:
    """The request of a command line.

    Raises:
        SystemExit: where it is none; argparse has then said why.
    """
    parser = argparse.ArgumentParser(prog="python -m bespoke.run")
    add_arguments(parser)
    return from_parsed(parser.parse_args(words))
