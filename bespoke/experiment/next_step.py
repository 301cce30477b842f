"""What an experiment says comes next, by the best score that the record has of it.

`[[next]]` in its file, a table a step: of those whose `at_least` the score reaches, the highest
counts. A child has its own steps or none: its parent's would send it to itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from bespoke.experiment.validation import CLOSED, Text, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class NextStep:
    """From a best score of `at_least` (0 to 10) on: why, advice, and which experiments to run."""

    at_least: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.0
    reason: Text
    advice: tuple[Text, ...] = ()
    experiments: tuple[Text, ...] = ()


def problems(steps: Sequence[NextStep], known: Sequence[str]) -> Iterator[str]:
    """What is wrong with the steps together, a sentence each; `known` are the experiments."""
    bounds = [step.at_least for step in steps]
    for bound in sorted({bound for bound in bounds if bounds.count(bound) > 1}):
        yield f"next: at_least {bound:g} is written twice"
    for name in (name for step in steps for name in step.experiments if name not in known):
        yield f"next: no experiment {name!r}: {did_you_mean(name, known)}"


def reached(steps: Sequence[NextStep], score: float) -> NextStep | None:
    """The step that counts for a score; None below the lowest."""
    counting = [step for step in steps if score >= step.at_least]
    return max(counting, key=lambda step: step.at_least, default=None)
