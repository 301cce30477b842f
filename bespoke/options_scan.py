"""Reads the trainer's options out of its source, without importing it (that takes 15 s and torch).

`python -m bespoke.options vendor/sd-scripts` writes what is found to trainer_options.json. Source
in a shape that is not understood here is an error, never an option left out.
"""

from __future__ import annotations

import ast
import functools
import json
import warnings
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError
from bespoke.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Record = dict[str, object]

# config_util.py:252-300 and 344-350 at v0.10.1: what ConfigSanitizer(True, True, False, True)
# merges into each section's schema.
_EVERYWHERE = ("SUBSET_ASCENDABLE_SCHEMA", "DB_SUBSET_ASCENDABLE_SCHEMA")
_DROPOUT = ("DO_SUBSET_ASCENDABLE_SCHEMA",)
_SECTIONS = {
    "general": ("DATASET_ASCENDABLE_SCHEMA", *_EVERYWHERE, *_DROPOUT),
    "datasets": ("DATASET_ASCENDABLE_SCHEMA", *_EVERYWHERE, *_DROPOUT),
    "subsets": (
        *_EVERYWHERE,
        *_DROPOUT,
        "DB_SUBSET_DISTINCT_SCHEMA",
        "FT_SUBSET_DISTINCT_SCHEMA",
    ),
}

# These act in the training file although the dataset's schema knows them too, or a name of them:
# batch and validation's own noise (train_network.py:1540) are the trainer's, not the dataset's.
_OF_THE_TRAINING_FILE = frozenset({"train_batch_size", "validation_seed"})

# An old misspelling that train_util.py:5404 copies to the right name.
_OTHER_NAMES = {"caption_extention": "caption_extension"}


def scan(source: Path) -> dict[str, object]:
    """Everything bespoke records of the sd-scripts checkout at `source`.

    Returns:
        `commit` (40 hex digits, or "" for a copy without git), one mapping of option name to its
        record for each of `training`, `general`, `datasets` and `subsets`, and the sorted names
        `lora_args` (what networks.lora reads of network_args) and `optimizers`.

    Raises:
        ConfigError: where the source is not there or has another shape than v0.10.1's.
    """
    training = dict(_reached(source, "train_network.setup_parser", None))
    schema = _dataset_schema(source)
    renamed = {**_OTHER_NAMES, **schema.renamed}
    for name, record in training.items():
        key = renamed.get(name, name)
        if key in schema.sections["subsets"] or key in schema.sections["datasets"]:
            if name not in _OF_THE_TRAINING_FILE:
                record["dataset_key"] = key
            for section in schema.sections.values():
                if key in section and name not in _OTHER_NAMES:
                    section[key] |= {k: record[k] for k in ("choices", "default") if k in record}
    return {
        "commit": _commit(source),
        "training": training,
        **schema.sections,
        "lora_args": _lora_args(source),
        "optimizers": _optimizers(source),
    }


def write_table(source: Path, target: Path) -> None:
    """Scan `source` and write the table to `target`, sorted, one option a line.

    Raises:
        ConfigError: as `scan`, or where the commit of `source` cannot be told.
    """
    found = scan(source)
    if not found["commit"]:
        raise ConfigError(f"{source}: no git checkout; the table must name the commit it is of")
    write_whole(target, as_text(found))


def as_text(found: dict[str, object]) -> str:
    """The committed form of a scan: JSON with one option a line."""
    parts = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines = (f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(value.items()))
            parts.append(f'  "{name}": {{\n' + ",\n".join(lines) + "\n  }")
        else:
            parts.append(f'  "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _commit(source: Path) -> str:
    git = source / ".git"
    if git.is_file():
        git = source / git.read_text().removeprefix("gitdir:").strip()
    head = git / "HEAD"
    found = head.read_text().strip() if head.is_file() else ""
    if found.startswith("ref: "):
        ref = git / found.removeprefix("ref: ")
        found = ref.read_text().strip() if ref.is_file() else ""
    return found


@functools.cache
def _tree(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of the trainer's docstrings
            warnings.simplefilter("ignore", DeprecationWarning)  # the same before Python 3.12
            return ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise ConfigError(f"{path}: cannot be read as the trainer's source: {error}") from None


def _strange(path: Path, node: ast.AST) -> ConfigError:
    line = getattr(node, "lineno", 0)
    what = ast.unparse(node).splitlines()[0]
    return ConfigError(f"{path}:{line}: not the shape of v0.10.1: {what}; extend options_scan.py")


def _definition(source: Path, dotted: str) -> tuple[Path, ast.FunctionDef | ast.ClassDef]:
    module, _, name = dotted.rpartition(".")
    path = source / (module.replace(".", "/") + ".py")
    for node in _tree(path).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return path, node
    raise ConfigError(f"{path}: has no {name}; it is not the pinned trainer's source")


def _imported(tree: ast.Module) -> dict[str, str]:
    """Each name that the module imports, with the dotted name it stands for."""
    names = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            names.update({a.asname: a.name for a in node.names if a.asname})
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
    return names


def _reached(source: Path, dotted: str, call: ast.Call | None) -> Iterator[tuple[str, Record]]:
    """The options that one function adds, those of the functions it calls included."""
    path, function = _definition(source, dotted)
    if not isinstance(function, ast.FunctionDef):
        raise _strange(path, function)
    flags = _flags(function, call) if call else {}
    names = _imported(_tree(path))
    for statement in _taken(path, function.body, flags):
        if not isinstance(statement, ast.Expr):
            continue
        match statement.value:
            case ast.Constant():
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name("parser"), attr="add_argument")) as add:
                yield _option(path, add)
            case ast.Call(func=ast.Name(name), args=[ast.Name("parser"), *_]) as inner:
                yield from _reached(source, names[name], inner)
            case (
                ast.Call(
                    func=ast.Attribute(value=ast.Name(module), attr=name),
                    args=[ast.Name("parser"), *_],
                ) as inner
            ):
                yield from _reached(source, f"{names[module]}.{name}", inner)
            case other:
                raise _strange(path, other)


def _taken(path: Path, body: Iterable[ast.stmt], flags: Record) -> Iterator[ast.stmt]:
    """The statements that run, with each `if` on a parameter decided."""
    for statement in body:
        match statement:
            case ast.If(test=ast.Name(name)) if name in flags:
                branch = statement.body if flags[name] else statement.orelse
                yield from _taken(path, branch, flags)
            case ast.Expr() | ast.FunctionDef() | ast.Assign() | ast.Return():
                yield statement
            case _:
                raise _strange(path, statement)


def _flags(function: ast.FunctionDef, call: ast.Call) -> Record:
    """The parameters' values in `call`, defaults filled in; `parser` itself is left out."""
    names = [argument.arg for argument in function.args.args]
    defaults = function.args.defaults
    pairs = list(zip(names[len(names) - len(defaults) :], defaults, strict=True))
    pairs += zip(names[1:], call.args[1:], strict=False)
    pairs += [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg]
    return {name: ast.literal_eval(node) for name, node in pairs}


def _option(path: Path, add: ast.Call) -> tuple[str, Record]:
    given = {keyword.arg: keyword.value for keyword in add.keywords}
    match add.args:
        case [ast.Constant(value=str(flag))] if flag.startswith("--") and "dest" not in given:
            name = flag.removeprefix("--").replace("-", "_")
        case _:
            raise _strange(path, add)
    value = {k: ast.literal_eval(given[k]) for k in given.keys() & {"default", "choices", "nargs"}}
    match given.get("action"), given.get("type"):
        case ast.Constant("store_true" | "store_false" as action), None:
            return name, {"kind": "bool", "default": action == "store_false"}
        case None, None:
            kind = "str"
        case None, ast.Name(kind):
            pass
        case _:
            raise _strange(path, add)
    record: Record = {"kind": kind, "default": value.get("default")}
    if "nargs" in value:
        record["nargs"] = value["nargs"]
    if "choices" in value:
        record["choices"] = value["choices"]
    return name, record


class _Schema:
    """The dataset file's sections, and the parser's names for keys that are named otherwise."""

    def __init__(self, parts: dict[str, dict[str, str]], renamed: dict[str, str]) -> None:
        self.renamed = renamed
        self.sections: dict[str, dict[str, Record]] = {
            section: {key: {"kind": kind} for part in names for key, kind in parts[part].items()}
            for section, names in _SECTIONS.items()
        }
        self.sections["datasets"]["subsets"] = {"kind": "tables"}


def _dataset_schema(source: Path) -> _Schema:
    path, sanitizer = _definition(source, "library.config_util.ConfigSanitizer")
    parts: dict[str, dict[str, str]] = {}
    renamed: dict[str, str] = {}
    for statement in sanitizer.body:
        match statement:
            case ast.Assign(targets=[ast.Name("ARGPARSE_OPTNAME_TO_CONFIG_OPTNAME")], value=value):
                renamed = ast.literal_eval(value)
            case ast.Assign(targets=[ast.Name(name)], value=ast.Dict() as table) if not (
                name.startswith(("ARGPARSE", "CN"))
            ):
                pairs = zip(table.keys, table.values, strict=True)
                parts[name] = {_schema_key(path, k): _schema_kind(path, v) for k, v in pairs}
    return _Schema(parts, renamed)


def _schema_key(path: Path, node: ast.expr | None) -> str:
    match node:
        case ast.Constant(str(name)):
            return name
        case ast.Call(func=ast.Name("Required"), args=[ast.Constant(str(name))]):
            return name
        case _:
            raise _strange(path, node or ast.Pass())


def _schema_kind(path: Path, node: ast.expr) -> str:
    """The kind of a dataset key. voluptuous takes no int for a bare float: `exact_float`."""
    match node:
        case ast.Name("float"):
            return "exact_float"
        case ast.Name(kind):
            return kind
        case ast.Call(func=ast.Name("Any"), args=[ast.Name("float"), ast.Name("int")]):
            return "float"
        case ast.Call(
            func=ast.Attribute(attr="partial"),
            args=[ast.Attribute(value=ast.Name(checker)), ast.Name(kind)],
        ):
            return f"{kind}_or_pair" if checker.endswith("scalar_or_twodim") else f"{kind}_pair"
        case _:
            raise _strange(path, node)


def _lora_args(source: Path) -> list[str]:
    """The keys of network_args that networks.lora looks up; it ignores every other."""
    found = set()
    for name in ("create_network", "parse_block_lr_kwargs"):
        _, function = _definition(source, f"networks.lora.{name}")
        for node in ast.walk(function):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("kwargs" | "nw_kwargs"), attr="get"),
                    args=[ast.Constant(str(key)), *_],
                ):
                    found.add(key)
    return sorted(found)


def _optimizers(source: Path) -> list[str]:
    """The names that get_optimizer compares with, in lower case, before it asks torch.optim."""
    found = set()
    _, function = _definition(source, "library.train_util.get_optimizer")
    for node in ast.walk(function):
        match node:
            case ast.Compare(
                left=ast.Name("optimizer_type"),
                comparators=[
                    ast.Call(func=ast.Attribute(value=ast.Constant(str(name)), attr="lower"))
                ],
            ):
                found.add(name)
    return sorted(found)
