"""What a person wrote, held to a type: every problem at once, each with its key, in plain words."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from pydantic_core import ErrorDetails

CLOSED = ConfigDict(extra="forbid")
"""For the tables a person writes: a key that is not known is a mistake."""
# Names become files' names, with an epoch, a date and an ending behind them.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# pydantic's words, and a person's.
_PLAIN = {
    r"^.*? should": "should",
    r" after validation.*": "",
    r"a (valid )?dictionary( or an instance of .*)?": "a table",
    r"a valid (tuple|list)": "a list",
    r"a valid integer": "a whole number",
    r"a valid string": "text in quotes",
    r"a valid boolean": "true or false",
    r"a valid number": "a number",
    r"greater than or equal to": "at least",
    r"less than or equal to": "at most",
}


def one_of(names: Collection[Any]) -> AfterValidator:
    """Takes these values alone."""

    def check(value: Any) -> Any:
        if value in names:
            return value
        hint = did_you_mean(str(value), map(str, names))
        raise ValueError(f"unknown value {shown(value)}: {hint}")

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
PictureSize = Annotated[int, Field(strict=True, ge=64, le=1024, multiple_of=8)]
SamplingSteps = Annotated[int, Field(strict=True, ge=1, le=1000)]


def validated(
    kind: Any, value: object, file: str, at: tuple[str, ...] = ()
) -> tuple[Any, list[str]]:
    """`value` as a `kind`, or None with what is wrong: `file: gate.epoch: …`, a line each.

    `at` is where in the file the value stands.
    """
    try:
        return TypeAdapter(kind).validate_python(value), []
    except ValidationError as error:
        return None, [f"{file}: {_problem(kind, each, at)}" for each in error.errors()]


def _problem(kind: Any, error: ErrorDetails, at: tuple[str, ...]) -> str:
    loc = [part for part in error["loc"] if part != "[key]"]
    match error["type"]:
        case "unexpected_keyword_argument":
            said = f"unknown key: {did_you_mean(str(loc[-1]), _keys(kind, loc[:-1]))}"
        case "missing":
            said = "is missing"
        case "value_error":
            said = str(error.get("ctx", {})["error"])
        case _:
            said = error["msg"]
            for technical, plain in _PLAIN.items():
                said = re.sub(technical, plain, said)
            said = f"{said}, not {shown(error['input'])}"
    counted = (str(part + 1 if isinstance(part, int) else part) for part in (*at, *loc))
    place = ".".join(ascii(part)[1:-1][:60] for part in counted)
    return f"{place}: {said}" if place else said


def _keys(kind: Any, loc: Sequence[int | str]) -> list[str]:
    """The keys that the table at `loc` can have, in a value of `kind`."""
    for part in loc:
        hint = get_type_hints(kind).get(str(part))
        kind = next((each for each in (hint, *get_args(hint)) if is_dataclass(each)), kind)
    return [each.name for each in fields(kind)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or the few there are."""
    folded = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(word[:60].lower(), folded, n=1, cutoff=0.65)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    few = len(folded) <= 20
    return f"choose from: {', '.join(folded.values())}" if few else "no known name is like it"


def shown(value: object) -> str:
    """A value inside a sentence, on one line and never long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return text if text.isprintable() else ascii(text)[1:-1]
