"""What an experiment says comes next, by the best score that the record has of it.

`[[next]]` in its file, a table a rung: the rung with the highest `at_least` that the score reaches
is the one that counts. A child has its own ladder or none: its parent's would send it to itself.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from bespoke.options_values import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, kw_only=True)
class Rung:
    """From `at_least` (0 to 10) on: why, what to look at first, and which experiments to run."""

    at_least: float = 0.0
    reason: str
    advice: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()


def read(tables: object, known: Sequence[str]) -> tuple[tuple[Rung, ...], list[str]]:
    """The rungs, lowest first, and what is wrong with `[[next]]`, a sentence each.

    `known` are the experiments there are.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return (), ["next: write [[next]] for each rung"]
    rungs, problems = [], []
    for number, table in enumerate(tables, start=1):
        found = list(_problems(table, known))
        problems += [f"[[next]] number {number}: {problem}" for problem in found]
        if not found:
            lists = {key: tuple(table.get(key, ())) for key in ("advice", "experiments")}
            rungs.append(Rung(**{**table, **lists}))
    rungs.sort(key=lambda rung: rung.at_least)
    problems += [
        f"[[next]]: at_least: {lower.at_least:g} is written twice"
        for lower, upper in itertools.pairwise(rungs)
        if lower.at_least == upper.at_least
    ]
    return tuple(rungs), problems


def reached(rungs: Sequence[Rung], score: float) -> Rung | None:
    """The rung, of those that `read` gave, that counts for a score; None below the lowest."""
    return next((rung for rung in reversed(rungs) if score >= rung.at_least), None)


def _problems(table: dict[str, Any], known: Sequence[str]) -> Iterator[str]:
    keys = [each.name for each in fields(Rung)]
    for key in table:
        if key not in keys:
            near = nearest(key, keys) or keys
            yield f"{key}: not a key of it: perhaps you meant {near[0]!r}"
    bound = table.get("at_least", 0.0)
    if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 0 <= bound <= 10:
        yield f"at_least: a score from 0 to 10 is needed, not {bound!r}"
    if not isinstance(table.get("reason"), str):
        yield "reason: a sentence in quotes is needed"
    for key in ("advice", "experiments"):
        texts = table.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            yield f"{key}: a list of texts is needed, not {texts!r}"
        elif key == "experiments":
            for text in (text for text in texts if text not in known):
                near = nearest(text, known)
                hint = f": perhaps you meant {near[0]!r}" if near else ""
                yield f"experiments: there is no experiment {text!r}{hint}"
