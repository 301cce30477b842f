"""The one reader and the one writer of TOML."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_toml(path: Path, name: str) -> dict[str, Any]:
    """The content of a TOML file, which messages call `name`."""
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ConfigError(f"{name}: no such file")
        return parsed(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from error


def parsed(text: str) -> dict[str, Any]:
    """The content of a TOML text."""
    try:
        return dict(tomllib.loads(text))
    except RecursionError:
        raise ValueError("too many brackets inside one another") from None


def toml_value(value: object) -> str:
    """One value as TOML, on one line; a table as an inline one."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case dict():
            return "{ " + ", ".join(toml_lines(value)) + " }"
        case _:
            # JSON's escapes are TOML's, but for DEL, which only TOML wants escaped.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_lines(table: Mapping[str, object]) -> list[str]:
    """A table's lines, `key = value` each."""
    return [
        f"{key if _BARE_KEY.fullmatch(key) else toml_value(key)} = {toml_value(value)}"
        for key, value in table.items()
    ]
