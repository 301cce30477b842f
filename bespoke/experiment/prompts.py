"""The prompts that every checkpoint is tested with: test_prompts.toml, checked against itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from bespoke.errors import ConfigError
from bespoke.experiment import caption_text
from bespoke.experiment.toml_files import read_toml
from bespoke.experiment.validation import CLOSED, Text, matching, one_of, validated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


PROMPTS_FILE = "test_prompts.toml"
SAMPLED_TOKENS = 225
"""What a sampled prompt may cost, whatever max_token_length (lpw_stable_diffusion.py:274)."""


def _sampled(text: str) -> str:
    cost = caption_text.tokens(text)
    if cost > SAMPLED_TOKENS:
        raise ValueError(f"is {cost} tokens long, and the sampler reads {SAMPLED_TOKENS}")
    return text


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("the same seed twice makes the same picture twice")
    return seeds


# No underscore: pictures are named {prompt}_{seed}, and must be told apart by it.
Name = Annotated[str, matching("[a-z0-9-]{1,100}", "hold small letters, digits and '-' alone")]
Size = Annotated[int, Field(strict=True, ge=64, le=1024, multiple_of=8)]
Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]
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
Feature = Annotated[Text, one_of(caption_text.FEATURES)]
Color = Annotated[Text, matching("#[0-9a-f]{6}", "be a colour like #00ff00, in small letters")]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Defaults:
    """What a prompt says that does not say it itself. Pictures are square, `size` pixels a side."""

    negative: Line = ""
    seeds: Annotated[
        tuple[Seed, ...], Field(min_length=1, max_length=100), AfterValidator(_distinct)
    ] = (42,)
    steps: Steps = 30
    scale: Annotated[float, Field(strict=True, ge=1, le=30)] = 7.5
    size: Size = 512


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Prompt(Defaults):
    """One prompt as a caption is written, and what should be seen where it is obeyed.

    `expect` maps features to `#rrggbb`.
    """

    name: str
    text: Annotated[Line, Field(min_length=1)]
    expect: Mapping[Feature, Color] = Field(default_factory=dict)
    accessories: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _asks_for_what_it_expects(self) -> Prompt:
        if wrong := list(self._unasked()):
            raise ValueError("\n".join(wrong))
        return self

    def _unasked(self) -> Iterator[str]:
        parts = caption_text.features(caption_text.parse(self.text))
        for feature, code in self.expect.items():
            if code not in {code for part in parts if part.kind == feature for code in part.codes}:
                yield f"expect: {feature}: the text does not ask for {code}"
        for word in self.accessories:
            if word.lower() not in self.text.lower():
                yield f"accessories: the text does not ask for {word!r}"


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
    sizes: dict[str, Any] = {"size": size, "steps": steps}
    given = {key: value for key, value in sizes.items() if value is not None}
    _, wrong = validated(Defaults, given, "option")
    if wrong:
        raise ConfigError("\n".join(line.replace("option: ", "--", 1) for line in wrong))
    return tuple(replace(prompt, **given) for prompt in prompts)
