"""What a person wrote, held to a type: every problem at once, each with its key, in plain words."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, StrictStr, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_core import ErrorDetails

Checked = TypeVar("Checked")
CLOSED = ConfigDict(extra="forbid")
"""For the tables a person writes: a key that is not known is a mistake."""

LONGEST_TEXT = 2000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# pydantic's words, and a person's.
_PLAIN = {
    "a valid dictionary": "a table",
    "a valid tuple": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text in quotes",
    "a valid boolean": "true or false",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
}


def without_control_characters(text: str) -> str:
    """`text` itself; a tab or a new line is none.

    Raises:
        ValueError: where it holds one.
    """
    if _CONTROL.search(text):
        raise ValueError("remove the control character in it")
    return text


def not_blank(text: str) -> str:
    """`text` itself.

    Raises:
        ValueError: where nothing is written in it.
    """
    if not text.strip():
        raise ValueError("write something between the quotes")
    return text


Text = Annotated[
    StrictStr, Field(max_length=LONGEST_TEXT), AfterValidator(without_control_characters)
]


def validated(
    kind: type[Checked], value: object, file: str, at: tuple[str, ...] = ()
) -> tuple[Checked | None, list[str]]:
    """`value` as a `kind`, a pydantic dataclass, or None with what is wrong: a line each.

    Lines begin with the file's name and the key, as `gate.epoch` or `next.1.reason`, counted from
    1; `at` is where in the file the value stands.
    """
    try:
        return TypeAdapter(kind).validate_python(value), []
    except ValidationError as error:
        lines = [line for each in error.errors() for line in _lines(kind, each, at)]
    return None, [f"{file}: {line}" for line in lines]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all there are."""
    names = sorted(known)
    close = nearest(word, names)
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(names)}"


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Up to two known names like `word`, whatever its case; the nearest first."""
    import difflib  # only a mistake needs it

    folded = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word[:60].lower(), folded, n=2, cutoff=0.65)
    return [folded[each] for each in close]


def shown(value: object) -> str:
    """A value inside a sentence, as TOML writes it, on one line and never long."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = value if len(value) <= 60 else value[:57] + "..."
            return json.dumps(text, ensure_ascii=not text.isprintable())
        case int():
            return str(value) if abs(value) < 10**20 else "a number of more than 20 digits"
        case float():
            return repr(value)
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a table"
        case None:
            return "nothing"
        case _:
            return f"a {type(value).__name__}"


def key_shown(key: object) -> str:
    """A key as it is written, or quoted where it would break the line that it is shown in."""
    text = str(key)
    plain = text.isprintable() and text and ":" not in text and len(text) <= 60
    return text if plain else shown(text)


def _lines(kind: type, error: ErrorDetails, at: tuple[str, ...]) -> list[str]:
    loc = [part for part in error["loc"] if part != "[key]"]
    match error["type"]:
        case "unexpected_keyword_argument":
            said = f"unknown key: {did_you_mean(str(loc[-1]), _keys(kind, loc[:-1]))}"
        case "missing":
            said = "is missing"
        case "literal_error":
            said = did_you_mean(str(error["input"]), re.findall(r"'([^']+)'", error["msg"]))
        case "value_error":
            said = str(error.get("ctx", {})["error"])
        case "dataclass_type":
            said = f"should be a table, not {shown(error['input'])}"
        case _:
            said = f"{_plain(error['msg'])}, not {shown(error['input'])}"
    place = ".".join(key_shown(part + 1 if isinstance(part, int) else part) for part in (*at, *loc))
    return [": ".join(filter(None, (place, line))) for line in said.splitlines()]


def _plain(message: str) -> str:
    message = re.sub(r"^.*? should", "should", message).partition(" after validation")[0]
    for technical, plain in _PLAIN.items():
        message = message.replace(technical, plain)
    return message


def _keys(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """The keys that the table at `loc` can have, in a value of `kind`."""
    for part in loc:
        hint = get_type_hints(kind).get(str(part))
        kind = next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), kind)
    return [each.name for each in fields(kind)]
