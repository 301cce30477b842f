"""What an experiment expected, held against its epochs: of what is written in one of four forms."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bespoke.evaluation import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bespoke.evaluation.epoch_result import EpochResult
    from bespoke.record.run_record import RunRecord

_BY = r"by epoch (?:\d+ to )?(?P<epoch>\d+)"
_BACKGROUND = re.compile(rf"(?P<word>\w+) background(?: right)? {_BY}")
_SCORE = re.compile(rf"(?P<score>\d+(?:\.\d+)?) or more of 10 {_BY}")
_LATER = re.compile(r"best epoch later than (?P<epoch>\d+)")
_STEADY = re.compile(r"no oscillation between epochs")


def met(text: str, run: RunRecord) -> bool | None:
    """Whether the run did as expected; None while it is open, or where no one can tell."""
    epochs = [(number, each) for number, each in gate.numbered(run.epochs) if number > 0]
    over = run.status == "completed" and bool(epochs)
    if form := _BACKGROUND.fullmatch(text):
        return _by(int(form["epoch"]), epochs, lambda each: _right(each, form["word"]))
    if form := _SCORE.fullmatch(text):
        least = float(form["score"])
        return _by(int(form["epoch"]), epochs, lambda each: (each.scores.mean or 0) >= least)
    if form := _LATER.fullmatch(text):
        later = run.best is not None and (run.best.epoch or 0) > int(form["epoch"])
        return later if over else None
    if _STEADY.fullmatch(text) and (first := gate.first_right([each for _, each in epochs])):
        lost = any(not each.background_right for number, each in epochs if number > first)
        return False if lost else True if over else None
    return None


def _by(
    last: int, epochs: Sequence[tuple[int, EpochResult]], good: Callable[[EpochResult], bool]
) -> bool | None:
    """Whether an epoch up to `last` was good; None while there may still be one."""
    if any(good(each) for number, each in epochs if number <= last):
        return True
    return False if epochs and epochs[-1][0] >= last else None


def _right(result: EpochResult, word: str) -> bool:
    """Whether most backgrounds match, of those that asked for this colour where any did."""
    own = [
        each
        for each in result.pictures
        if word in each.measured.get("background", {}).get("asked", {}).get("words", ())
    ] or result.pictures
    return 2 * sum(each.background == "match" for each in own) > len(own)
