"""The one reader and the one writer of TOML.

Files are read by the standard. The trainer reads what is written here with the library `toml`,
which is wrong about some texts ('"' alone becomes ''), so what is written for it is read back.
"""

from __future__ import annotations

import json
import re
import stat
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

# A person writes some hundred lines; beyond these the parser can take minutes and all memory.
LARGEST_FILE = 256 * 1024
_MOST_DOTS = 200
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def read_toml(path: Path, name: str) -> dict[str, Any]:
    """The content of a TOML file, which messages call `name`.

    Raises:
        ConfigError: where it cannot be read, is not UTF-8, or is not TOML; with the line.
    """
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise ConfigError(f"{name}: cannot be read: it is a pipe")
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read: {error.strerror}") from error
    if len(raw) > LARGEST_FILE:
        raise ConfigError(f"{name}: is {len(raw)} bytes long: at most {LARGEST_FILE} are read")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 at byte {error.start}: save it as UTF-8") from error
    try:
        return parsed(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {_where(str(error), text)}") from error


def parsed(text: str) -> dict[str, Any]:
    """The content of a TOML text.

    Raises:
        ValueError: where it is not TOML, or nothing that a person would write.
    """
    if any(line.count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MOST_DOTS} dots")
    try:
        return dict(tomllib.loads(text))
    except RecursionError:
        raise ValueError("too many brackets inside one another") from None


def _where(problem: str, text: str) -> str:
    """The parser's problem with the line that it is in, and that line's own words."""
    at = re.search(r" \(at line (\d+), column \d+\)", problem)
    if at is None:
        return f"not valid TOML: {problem}"
    lines = text.split("\n")
    number = int(at[1])
    said = problem.replace(at[0], "").replace("Cannot overwrite a value", "a key is written twice")
    line = ascii(lines[number - 1].strip()[:60])[1:-1] if number <= len(lines) else ""
    return f"line {number}: not valid TOML: {said}" + (f": {line}" if line else "")


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
            return "{ " + ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }"
        case _:
            # JSON's escapes are TOML's, but for DEL, which only TOML wants escaped.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_lines(settings: Mapping[str, object]) -> list[str]:
    """A table's lines, `key = value` each."""
    return [f"{_key(key)} = {toml_value(value)}" for key, value in settings.items()]


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else toml_value(key)
