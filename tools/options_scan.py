"""Reads the trainer's options from its own parser, without installing what the trainer imports.

`python tools/options_scan.py vendor/sd-scripts` imports the trainer's source with a stub in the
place of torch and every other package, asks its parser and its dataset schema what they take, and
writes that to trainer_options.json. It has to be a process of its own: nothing else would find its
packages after it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import re
import sys
from importlib.abc import Loader, MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bespoke.errors import ConfigError, reported
from bespoke.experiment.trainer_options import TABLE_FILE
from bespoke.files import write_whole
from bespoke.trainer.child_process import answer

if TYPE_CHECKING:
    import argparse
    import types
    from importlib.machinery import ModuleSpec

# config_util.py:252-300 and 344-350 at v0.10.1: what ConfigSanitizer(True, True, False, True)
# merges into each section's schema.
_EVERYWHERE = ("SUBSET_ASCENDABLE", "DB_SUBSET_ASCENDABLE", "DO_SUBSET_ASCENDABLE")
_SECTIONS = {
    "general": ("DATASET_ASCENDABLE", *_EVERYWHERE),
    "datasets": ("DATASET_ASCENDABLE", *_EVERYWHERE),
    "subsets": (*_EVERYWHERE, "DB_SUBSET_DISTINCT", "FT_SUBSET_DISTINCT"),
}
# These act in the training file although the dataset's schema knows them too, or a name of them:
# batch and validation's own noise (train_network.py:1540) are the trainer's, not the dataset's.
_OF_THE_TRAINING_FILE = frozenset({"train_batch_size", "validation_seed"})
# An old misspelling that train_util.py:5404 copies to the right name.
_OTHER_NAMES = {"caption_extention": "caption_extension"}


class _Kind(type):
    def __getattr__(cls, name: str) -> Any:
        return _stub(name)

    def __or__(cls, _: object) -> Any:
        return cls


class _Stub(metaclass=_Kind):
    """Stands for whatever a package would have: called, inherited from, used as a decorator."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *given: Any, **_: object) -> Any:
        return given[0] if given and callable(given[0]) else _Stub()

    def __getattr__(self, name: str) -> Any:
        return _stub(name)


def _stub(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Stub


class _Stubs(MetaPathFinder, Loader):
    """Finds a stub for each package that is neither Python's own nor the trainer's."""

    def __init__(self, source: Path) -> None:
        own = {path.stem for path in source.iterdir() if path.suffix in ("", ".py")}
        self.real = own | sys.stdlib_module_names

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        if name.partition(".")[0] in self.real:
            return None
        return importlib.util.spec_from_loader(name, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        # voluptuous tells kinds apart: Any(float, int) is said by the type of its first.
        known = {"Required": str, "Any": lambda first, *_: (first,)}
        module.__getattr__ = lambda name: known.get(name) or _stub(name)  # type: ignore[method-assign]


def scan(source: Path) -> dict[str, Any]:
    """Everything bespoke records of the sd-scripts checkout at `source`.

    Returns:
        `commit` (40 hex digits, or "" for a copy without git), one mapping of option name to its
        record for each of `training`, `general`, `datasets` and `subsets`, and the sorted names
        `lora_args` (what networks.lora reads of network_args) and `optimizers` (what get_optimizer
        compares with before it asks torch.optim).

    Raises:
        ConfigError: where the source is not there, or has another shape than v0.10.1's.
    """
    if not (source / "train_network.py").is_file():
        raise ConfigError(f"{source}: holds no train_network.py; name the checkout of sd-scripts")
    sys.dont_write_bytecode = True
    try:
        sys.meta_path.insert(0, _Stubs(source))
        sys.path.insert(0, str(source))
        parser = importlib.import_module("train_network").setup_parser()
        sanitizer = importlib.import_module("library.config_util").ConfigSanitizer
        lora = importlib.import_module("networks.lora")
        get_optimizer = importlib.import_module("library.train_util").get_optimizer
        training = dict(_option(action) for action in parser._actions if action.dest != "help")
        sections = {name: _section(sanitizer, parts) for name, parts in _SECTIONS.items()}
        renamed = {**_OTHER_NAMES, **sanitizer.ARGPARSE_OPTNAME_TO_CONFIG_OPTNAME}
        looked_up = inspect.getsource(lora.create_network)
        looked_up += inspect.getsource(lora.parse_block_lr_kwargs)
        compared = inspect.getsource(get_optimizer)
    except (ImportError, AttributeError, OSError, KeyError, TypeError) as error:
        message = f"{source}: cannot be read as the trainer's source, v0.10.1: {error}"
        raise ConfigError(message) from error
    sections["datasets"]["subsets"] = {"kind": "tables"}
    for name, record in training.items():
        key = renamed.get(name, name)
        within = [section[key] for section in sections.values() if key in section]
        if within and name not in _OF_THE_TRAINING_FILE:
            record["dataset_key"] = key
        for twin in within if name not in _OTHER_NAMES else ():
            twin |= {k: record[k] for k in ("choices", "default") if k in record}
    # A copy without git would be answered with the commit of whatever it lies in.
    commit = (source / ".git").exists() and answer(["git", "rev-parse", "HEAD"], cwd=source)
    return {
        "commit": commit or "",
        "training": training,
        **sections,
        "lora_args": sorted(set(re.findall(r'kwargs\.get\("(\w+)"', looked_up))),
        "optimizers": sorted(set(re.findall(r'optimizer_type == "(\w+)"\.lower', compared))),
    }


def _option(action: argparse.Action) -> tuple[str, dict[str, Any]]:
    if action.option_strings != [f"--{action.dest}"]:
        raise TypeError(f"{action.option_strings} is another option than --{action.dest}")
    if isinstance(action.const, bool):
        return action.dest, {"kind": "bool", "default": action.default}
    kind = getattr(action.type or str, "__name__", "")
    record: dict[str, Any] = {"kind": kind, "default": action.default}
    if action.nargs == 0 or not kind:
        raise TypeError(f"--{action.dest} is neither switched on nor given a value")
    record |= {"nargs": action.nargs} if action.nargs is not None else {}
    record |= {"choices": action.choices} if action.choices is not None else {}
    return action.dest, record


def _section(sanitizer: Any, parts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    schema = {k: v for part in parts for k, v in getattr(sanitizer, f"{part}_SCHEMA").items()}
    return {str(key): {"kind": _kind(value)} for key, value in schema.items()}


def _kind(value: Any) -> str:
    """The kind of a dataset key. voluptuous takes no int for a bare float: `exact_float`."""
    if isinstance(value, tuple):
        return str(value[0].__name__)
    if isinstance(value, functools.partial):
        pair = "or_pair" if value.func.__name__.endswith("scalar_or_twodim") else "pair"
        return f"{value.args[0].__name__}_{pair}"
    return "exact_float" if value is float else str(value.__name__)


def as_text(found: dict[str, Any]) -> str:
    """The committed form of a scan: JSON with one option a line."""
    parts = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines = (f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(value.items()))
            parts.append(f'  "{name}": {{\n' + ",\n".join(lines) + "\n  }")
        else:
            parts.append(f'  "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main(source: str, target: str = str(TABLE_FILE)) -> None:
    found = scan(Path(source).absolute())
    if not found["commit"] and target == str(TABLE_FILE):
        raise ConfigError(f"{source}: no git checkout; the table must name the commit it is of")
    write_whole(Path(target), as_text(found))


if __name__ == "__main__":
    with reported():
        main(*sys.argv[1:])
