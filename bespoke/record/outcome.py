"""What a run came to, in numbers and in words: for the page, and for whatever compares runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from bespoke.console import duration
from bespoke.evaluation import gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

Tone = Literal["good", "fair", "bad", "open"]


def outcome(run: RunRecord) -> dict[str, Any]:
    """What came out; None where nothing says."""
    words = gate.settled(run.epochs)
    first = gate.first_right(run.epochs)
    lost = [epoch for epoch, word in words.items() if first and epoch > first if word == "mismatch"]
    return {
        "status": run.status,
        "background_right_from": first or run.facts.get("background_right_from"),
        "best_epoch": run.best_epoch,
        "best_score": run.best_score,
        "lost_again": (lost or "never") if run.epochs else None,
        "time": None if run.hours is None else duration(run.hours * 3600),
        "cost": None if run.cost is None else round(run.cost, 2),
    }


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Each value of tables within tables, behind the keys that lead to it: (key, …, value)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, key))
        else:
            yield *path, key, value


def verdict(result: EpochResult) -> str | None:
    """What the scores are worth: a mean is worth nothing where most backgrounds are wrong."""
    return result.verdict if result.background_right else "background wrong"


def verdict_of_run(run: RunRecord) -> str | None:
    """The best epoch's verdict."""
    return verdict(run.best) if run.best else None


def headline(run: RunRecord) -> tuple[Tone, str]:
    """How it went, in one plain sentence, and how that is to be felt."""
    top = run.best_score
    best = "" if top is None else f" Best: epoch {run.best_epoch} ({top} of 10)."
    stop = next((each for each in run.decisions if each.outcome == "STOP"), None)
    if stop is not None:
        return "bad", f"The hypothesis failed at epoch {stop.epoch}."
    if run.status == "failed":
        return "bad", f"The run failed.{best}"
    if run.status == "cancelled":
        return "fair", f"The run was interrupted.{best}"
    if run.status == "in_progress":
        return "open", f"Still training: {len(run.epochs)} epochs tested.{best}"
    if top is None:
        return "open", "Nothing was scored."
    tones: dict[str | None, Tone] = {"best": "good", "good": "good", "acceptable": "fair"}
    return tones.get(verdict_of_run(run), "bad"), best.strip()


def expected(run: RunRecord, text: str) -> bool | None:
    """Whether an expectation came true; None where it is too early, or the words are not known."""
    numbers = [float(each) for each in re.findall(r"\d+(?:\.\d+)?", text)]
    results = gate.numbered(run.epochs)
    over = run.status == "completed"
    if not results or not (over or numbers):
        return None
    if "no oscillation" in text:
        return outcome(run)["lost_again"] == "never" if over else None
    if text.startswith("best epoch later than"):
        return (run.best_epoch or 0) > numbers[0] if over else None
    if re.search(r"background.* by epoch", text):
        came = gate.first_right(run.epochs)
    elif "of 10 by epoch" in text:
        enough = (number for number, each in results if (each.scores.mean or 0) >= numbers[0])
        came = next(enough, None)
    else:
        return None
    if came is not None:
        return came <= numbers[-1]
    return False if over or results[-1][0] >= numbers[-1] else None


def backgrounds(run: RunRecord) -> str:
    """Since when, or how often, the background is as asked, in a sentence; "" where none says."""
    results = [
        (each.backgrounds()["match"], len(each.pictures), number)
        for number, each in gate.numbered(run.epochs)
        if each.pictures
    ]
    if not results:
        return ""
    if all(each.backgrounds()["unmeasured"] == len(each.pictures) for each in run.epochs):
        return "No background could be measured."
    right = list(itertools.takewhile(lambda each: each[0] == each[1], reversed(results)))
    if right:
        return f"Background right in every picture from epoch {right[-1][2]} on."
    count, pictures, number = max(results, key=lambda each: each[0])
    return f"Background right in {count} of {pictures} pictures at best (epoch {number})."
