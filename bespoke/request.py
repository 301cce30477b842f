"""What a person asks of a run: each field is an option of the command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import version

if TYPE_CHECKING:
    from collections.abc import Sequence

# A package names the experiment that it was made for.
DEFAULT_EXPERIMENT = version.origin().get("experiment", "keep_tokens_3")
EXPERIMENT_HELP = f"a file's name in experiments/ (default: {DEFAULT_EXPERIMENT})"
WORKSPACE_HELP = "for output and logs (default: BESPOKE_WORKSPACE, /workspace, ./workspace)"
PLAN_HELP = "auto (default): fit the run to this machine's GPU, at the same effective batch"
PRICE = "BESPOKE_PRICE_PER_HOUR"
Texts = tuple[str, ...]


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
    if not text.replace(".", "", 1).isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: write an amount such as 2.79")
    return float(text)


def _option(flag: str, about: str, default: Any = False, **how: Any) -> Any:
    """A field that is `--NAME` or `--NAME METAVAR`, with its help, and how argparse reads it."""
    name, _, metavar = flag.partition(" ")
    if default is False:
        how["action"] = "store_true"
    elif metavar:
        how["metavar"] = metavar
    if isinstance(default, tuple) and "type" not in how:
        how["action"] = "append"
        about += "; may be given again"
    return field(default=default, metadata={"name": name, "how": {"help": about, **how}})


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which runs, and how each of them is run."""

    experiments: Texts = _option("--experiment NAME", EXPERIMENT_HELP, (DEFAULT_EXPERIMENT,))
    seeds: tuple[int, ...] = _option(
        "--seeds N,N", "train at each of these seeds, each under its own name", (), type=_seeds
    )
    with_parent: bool = _option("--with-parent", "train the parent experiment too")
    data: Texts = _option("--data DIR", "the pictures' folder; NAME=DIR for another subset's", ())
    parent_data: Texts = _option("--parent-data DIR", "the parent's pictures, if different", ())
    workspace: Path | None = _option("--workspace DIR", WORKSPACE_HELP, None, type=folder)
    overrides: Texts = _option("--set KEY=VALUE", "training.KEY or dataset.KEY, for this run", ())
    strict: bool = _option("--strict", "stop at warnings as at errors")
    allow_no_op: bool = _option("--allow-no-op", "train even if nothing differs from the parent")
    plan: str = _option("--plan", PLAN_HELP, "auto", choices=("auto", "as-written"))
    price_per_hour: float | None = _option(
        "--price-per-hour PRICE", f"what the machine costs (default: {PRICE})", None, type=_price
    )
    no_gate: bool = _option("--no-gate", "train on, whatever the experiment's gate says")
    no_test: bool = _option("--no-test", "skip sampling and scoring")
    fresh: bool = _option("--fresh", "start again; earlier files move to a dated folder")
    copied_from: str | None = _option("--from URL", "go on with a run that was copied there", None)
    dry_run: bool = _option("--dry-run", "print the command and both rendered files, and stop")
    rehearse: bool = _option("--rehearse", "generated pictures and a fake trainer: needs no GPU")

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
            name, value = each.metadata["name"], getattr(self, each.name)
            if value is True:
                words.append(name)
            elif value != each.default:
                values = value if isinstance(value, tuple) else (value,)
                if each.name == "seeds":
                    values = (",".join(map(str, value)),)
                words += [f"{name}={text}" for text in values]
        return words


def add_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """The options of a run, or those of these names."""
    for each in fields(Request):
        if not names or each.name in names:
            how = each.metadata["how"]
            default = [] if how.get("action") == "append" else each.default
            if each.name == "price_per_hour":
                default = os.environ.get(PRICE) or None
            parser.add_argument(each.metadata["name"], dest=each.name, default=default, **how)


def from_parsed(chosen: argparse.Namespace) -> Request:
    """The request of what `add_arguments`' parser has parsed."""
    values = {each.name: getattr(chosen, each.name) for each in fields(Request)}
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Request(**{key: value for key, value in {**values, **lists}.items() if value != ()})


def parse(words: Sequence[str]) -> Request:
    """The request of a command line; SystemExit where it is none, once argparse has said why."""
    parser = argparse.ArgumentParser(prog="python -m bespoke.run")
    add_arguments(parser)
    return from_parsed(parser.parse_args(words))
