"""What a person wrote, held to a type: every problem at once, each with its key, in plain words."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from bespoke.experiment.toml_files import toml_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pydantic_core import ErrorDetails

CLOSED = ConfigDict(extra="forbid")
"""For the tables a person writes: a key that is not known is a mistake."""

# Names become files' names, with an epoch, a date and an ending behind them.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# pydantic's words, and a person's.
_PLAIN = {
    "a valid dictionary": "a table",
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text in quotes",
    "a valid boolean": "true or false",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
}


def one_of(names: Collection[Any]) -> AfterValidator:
    """Takes these values alone."""

    def check(value: Any) -> Any:
        if value not in names:
            hint = did_you_mean(str(value), map(str, names))
            raise ValueError(f"unknown value {shown(value)}: {hint}")
        return value

    return AfterValidator(check)


def matching(pattern: str, rule: str) -> AfterValidator:
    """Takes text of this form alone; `rule` says it to a person."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(f"should {rule}, not {shown(text)}")
        return text

    return AfterValidator(check)


# A tab or a new line is no control character.
_printable = matching(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]*", "hold no control character")
Text = Annotated[str, Field(strict=True, max_length=2000), _printable]


def validated(
    kind: Any, value: object, file: str, at: tuple[str, ...] = ()
) -> tuple[Any, list[str]]:
    """`value` as a `kind`, or None with what is wrong: `file: gate.epoch: …`, a line each.

    `at` is where in the file the value stands.
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
    """A value inside a sentence, on one line and never long."""
    match value:
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "a table"
        case int() if abs(value) > 10**20:
            return "a number of more than 20 digits"
        case str() if len(value) > 60:
            value = value[:57] + "..."
    text = toml_value(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _lines(kind: Any, error: ErrorDetails, at: tuple[str, ...]) -> list[str]:
    loc = [part for part in error["loc"] if part != "[key]"]
    match error["type"]:
        case "unexpected_keyword_argument":
            said = f"unknown key: {did_you_mean(str(loc[-1]), _keys(kind, loc[:-1]))}"
        case "missing":
            said = "is missing"
        case "value_error":
            said = str(error.get("ctx", {})["error"])
        case "dataclass_type":
            said = f"should be a table, not {shown(error['input'])}"
        case _:
            said = f"{_plain(error['msg'])}, not {shown(error['input'])}"
    place = ".".join(key_shown(part + 1 if isinstance(part, int) else part) for part in (*at, *loc))
    return [": ".join(filter(None, (place, line))) for line in said.splitlines()]


def key_shown(key: object) -> str:
    """A key as it is written, or quoted where it would break the line that it is shown in."""
    return str(key) if re.fullmatch(r"[\w.-]{1,60}", str(key)) else shown(str(key))


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
