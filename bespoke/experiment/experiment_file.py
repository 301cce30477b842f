"""What an experiment's file may hold, besides the trainer's options that it changes."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from bespoke.experiment.caption_text import KINDS
from bespoke.experiment.dataset_spec import Count, DatasetSpec
from bespoke.experiment.prompts import Size, Steps
from bespoke.experiment.validation import CLOSED, SAFE_NAME, Text, did_you_mean, matching, one_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Name = Annotated[
    Text, matching(SAFE_NAME.pattern, "be a file's name of letters, digits, '.', '_' and '-' alone")
]
Share = Annotated[float, Field(strict=True, gt=0.5, le=1)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Policy:
    """`[gate]`: when it decides, and how many pictures must agree.

    A prompt answers match or mismatch where at least the share `seeds` of its pictures do; the run
    goes on where the share `prompts` of all prompts match, and is stopped where as many mismatch.
    What could not be measured counts for neither, and in the whole.
    """

    epoch: Annotated[int, Field(strict=True, ge=1, le=1000)]
    feature: Annotated[Text, one_of(("background",))] = "background"
    prompts: Share = 0.6
    seeds: Share = 0.6


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class TestSettings:
    """`[test]`: which of the test prompts, and how small; None leaves theirs."""

    prompts: tuple[Text, ...] | None = None
    size: Size | None = None
    steps: Steps | None = None


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class NextStep:
    """`[[next]]`: from a best score of `at_least` on, why, advice, and which experiments to run.

    A child has its own steps or none: its parent's would send it to itself.
    """

    at_least: Annotated[float, Field(strict=True, ge=0, le=10)] = 0.0
    reason: Text
    advice: tuple[Text, ...] = ()
    experiments: tuple[Text, ...] = ()


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Statement:
    """What an experiment says of itself."""

    hypothesis: Text = ""
    confidence: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    expected: tuple[Text, ...] = ()
    # A kind of tags, or the machine itself.
    subject: Annotated[Text, one_of((*KINDS, "machine"))] = ""
    gate: Policy | None = None
    test: TestSettings = field(default_factory=TestSettings)
    pictures_taken: Count | None = None
    drawn_if_missing: Annotated[bool, Field(strict=True)] = False


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class ExperimentFile(Statement):
    """One file of `experiments/`; `training` and `dataset` hold what differs from its parent."""

    parent: Text | None = None
    run_name: Name | None = None
    output_name: Name | None = None
    next: tuple[NextStep, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    data: dict[str, DatasetSpec] = field(default_factory=dict)


def overlay_alone(content: Mapping[str, Any]) -> ExperimentFile:
    """A file's options, whatever else is in it."""
    training, dataset = content.get("training"), content.get("dataset")
    return ExperimentFile(
        training=training if isinstance(training, dict) else {},
        dataset=dataset if isinstance(dataset, dict) else {},
    )


def step_problems(steps: Sequence[NextStep], known: Sequence[str]) -> list[str]:
    """Experiments that the steps name and that are not there."""
    wanted = [name for step in steps for name in step.experiments]
    return [
        f"next: no experiment {name!r}: {did_you_mean(name, known)}"
        for name in wanted
        if name not in known
    ]


def reached(steps: Sequence[NextStep], score: float) -> NextStep | None:
    """The highest step whose `at_least` the score reaches; None below the lowest."""
    counting = [step for step in steps if score >= step.at_least]
    return max(counting, key=lambda step: step.at_least, default=None)
