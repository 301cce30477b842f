"""The prompts that every checkpoint is tested with, read from test_prompts.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from bespoke.errors import ConfigError
from bespoke.experiment.caption_text import tokens
from bespoke.experiment.toml_files import read_toml
from bespoke.experiment.validation import (
    CLOSED,
    PictureSize,
    SamplingSteps,
    Text,
    matching,
    validated,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PROMPTS_FILE = "test_prompts.toml"
SAMPLED_TOKENS = 225
"""What a sampled prompt may cost, whatever max_token_length (lpw_stable_diffusion.py:274)."""


def _sampled(text: str) -> str:
    cost = tokens(text)
    if cost > SAMPLED_TOKENS:
        raise ValueError(f"is {cost} tokens long, and the sampler reads {SAMPLED_TOKENS}")
    return text


# No underscore: pictures are named {prompt}_{seed}, and must be told apart by it.
Name = Annotated[str, matching("[a-z0-9-]{1,100}", "hold small letters, digits and '-' alone")]
# gen_img.py:453 and :1065; brackets are escaped where that is needed.
Line = Annotated[
    Text,
    matching(
        r"(?!.*( --| AND |BREAK|[\\\n\t\u2028\u2029])).*",
        "be one line without ' --', ' AND ', 'BREAK' or '\\', which mean other things to samplers",
    ),
    AfterValidator(_sampled),
]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Defaults:
    """What a prompt says that does not say it itself. Pictures are square, `size` pixels a side."""

    negative: Line = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=100)] = (42,)
    steps: SamplingSteps = 30
    scale: Annotated[float, Field(strict=True, ge=1, le=30)] = 7.5
    size: PictureSize = 512


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Prompt(Defaults):
    """One prompt, as a caption is written."""

    name: str
    text: Annotated[Line, Field(min_length=1)]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class _File:
    defaults: Defaults = Field(default_factory=Defaults)
    prompts: Mapping[Name, dict[str, Any]] = Field(min_length=1)


def load(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file in its order."""
    content = read_toml(path, path.name)
    file, problems = validated(_File, content, path.name)
    prompts = []
    for name, own in file.prompts.items() if file else ():
        row = {**content.get("defaults", {}), **own, "name": name}
        prompt, wrong = validated(Prompt, row, path.name, ("prompts", name))
        problems += wrong
        prompts.append(prompt)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(prompts)


def resized(
    prompts: Iterable[Prompt], *, size: int | None = None, steps: int | None = None
) -> tuple[Prompt, ...]:
    """The prompts with another size or fewer steps, for a slow machine."""
    both: dict[str, Any] = {"size": size, "steps": steps}
    given = {key: value for key, value in both.items() if value is not None}
    _, wrong = validated(Defaults, given, "command line")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return tuple(replace(prompt, **given) for prompt in prompts)
