"""When an experiment's gate decides, and how many pictures must agree."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from bespoke.experiment.validation import CLOSED

Share = Annotated[float, Field(strict=True, gt=0.5, le=1)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Policy:
    """What an experiment's `[gate]` says.

    A prompt answers match or mismatch where at least the share `seeds` of its pictures do; the run
    goes on where the share `prompts` of all prompts match, and is stopped where as many mismatch.
    What could not be measured counts for neither, and in the whole.
    """

    epoch: Annotated[int, Field(strict=True, ge=1, le=1000)]
    feature: Literal["background"] = "background"
    prompts: Share = 0.6
    seeds: Share = 0.6
