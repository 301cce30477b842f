"""What an experiment's file may hold, besides the trainer's options that it changes."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from bespoke.experiment.caption_text import KINDS
from bespoke.experiment.dataset_spec import DatasetSpec
from bespoke.experiment.gate_policy import Policy
from bespoke.experiment.next_step import NextStep
from bespoke.experiment.prompts import Size, Steps
from bespoke.experiment.validation import CLOSED, Text, did_you_mean

# Names become files' names, with an epoch, a date and an ending behind them.
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What a hypothesis may be about: a class of tags, or the machine itself.
SUBJECTS = (*KINDS, "machine")


def _safe(name: str) -> str:
    if not SAFE_NAME.fullmatch(name):
        raise ValueError(
            "becomes a file's name: write letters, digits, '.', '_' and '-' alone, 100 at most"
        )
    return name


def _subject(word: str) -> str:
    if word not in SUBJECTS:
        raise ValueError(did_you_mean(word, SUBJECTS))
    return word


Name = Annotated[Text, AfterValidator(_safe)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class TestSettings:
    """Which of the test prompts each epoch is tested with, and how small; None leaves theirs."""

    prompts: tuple[Text, ...] | None = None
    size: Size | None = None
    steps: Steps | None = None


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class ExperimentFile:
    """One file of `experiments/`; `training` and `dataset` hold what differs from its parent."""

    parent: Text | None = None
    run_name: Name | None = None
    output_name: Name | None = None
    hypothesis: Text = ""
    confidence: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    expected: tuple[Text, ...] = ()
    subject: Annotated[Text, AfterValidator(_subject)] | None = None
    pictures_taken: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    drawn_if_missing: Annotated[bool, Field(strict=True)] = False
    gate: Policy | None = None
    test: TestSettings = field(default_factory=TestSettings)
    next: tuple[NextStep, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    data: dict[str, DatasetSpec] = field(default_factory=dict)
