"""What a run came to: pure functions of its record, for the page and for whatever compares runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from bespoke import gate
from bespoke.scoring import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bespoke.store import RunRecord

Tone = Literal["good", "fair", "bad", "open"]

_TONES: dict[str, Tone] = {"best": "good", "good": "good", "acceptable": "fair"}


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each value of tables within tables, behind the keys that lead to it: (key, …, value)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield *path, key, value


def headline(run: RunRecord) -> tuple[Tone, str]:
    """How it went, in one plain sentence, and how that is to be felt."""
    top, epoch = run.best_score, run.best_epoch
    number = "without a number" if epoch is None else epoch
    found = "" if top is None else f"Epoch {number} is the best: {top} of 10."
    stop = next((each for each in run.decisions if each.outcome == "STOP"), None)
    if stop is not None:
        return "bad", f"The hypothesis failed at epoch {stop.epoch}."
    if run.status == "failed":
        return "bad", f"The run failed. {found}".rstrip()
    if run.status == "cancelled":
        return "fair", f"The run was interrupted. {found}".rstrip()
    if run.status == "in_progress":
        return "open", f"Still training: {len(run.epochs)} epochs tested. {found}".rstrip()
    if top is None:
        return "open", "Nothing was scored."
    return _TONES.get(verdict_of(top), "bad"), found


def backgrounds(run: RunRecord) -> str:
    """Since when, or how often, the background is as asked, in a sentence; "" where none says."""
    results = [
        (number, each.backgrounds(), len(each.pictures))
        for number, each in gate.numbered(run.epochs)
        if each.pictures
    ]
    if not results:
        right_from = run.facts.get("background_right_from")
        return f"The background is right from epoch {right_from} on." if right_from else ""
    if all(counts["unmeasured"] == of for _, counts, of in results):
        return "No background could be measured."
    wrong = [number for number, counts, of in results if counts["match"] < of]
    right = [number for number, counts, of in results if counts["match"] == of]
    if not right:
        number, counts, of = max(results, key=lambda each: each[1]["match"])
        if not counts["match"]:
            return "The background is right in no picture of any epoch."
        return (
            f"The background is right in {counts['match']} of {of} pictures at best, "
            f"at epoch {number}."
        )
    again = [str(number) for number in wrong if number > right[0]]
    if again:
        return (
            f"The background is first right in every picture at epoch {right[0]}, "
            f"and not at epoch {', '.join(again)}."
        )
    return f"The background is right in every picture from epoch {right[0]} on."
