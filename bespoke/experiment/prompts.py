"""The prompts that every checkpoint is tested with: test_prompts.toml, checked against itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from bespoke.errors import ConfigError
from bespoke.experiment import caption_text
from bespoke.experiment.toml_files import read_toml
from bespoke.experiment.validation import CLOSED, Text, did_you_mean, not_blank, validated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


PROMPTS_FILE = "test_prompts.toml"
# No underscore: pictures are named {prompt}_{seed}, and must be told apart by it.
_NAME = re.compile(r"[a-z0-9]{1,40}(-[a-z0-9]{1,40}){0,5}")
# What the samplers would take for something else than text, and what it is to them.
_UNSAYABLE = (
    (re.compile(r" --"), "' --' begins an option of the sampler"),
    (re.compile(r" AND "), "' AND ' parts a prompt among LoRAs (gen_img.py:453)"),
    (re.compile(r"BREAK"), "'BREAK' fills a window of the encoder (gen_img.py:1065)"),
    (re.compile(r"\\"), "write brackets as they are: they are escaped where that is needed"),
    (re.compile(r"[\n\t\u2028\u2029]"), "write it in one line"),
)


def _sayable(text: str) -> str:
    if wrong := [why for pattern, why in _UNSAYABLE if pattern.search(text)]:
        raise ValueError("\n".join(wrong))
    return text


def _multiple_of_8(size: int) -> int:
    if size % 8:
        raise ValueError(f"a multiple of 8 is needed, not {size}")
    return size


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(seeds) <= 100:
        raise ValueError(f"write 1 to 100 seeds, not {len(seeds)}")
    if len(set(seeds)) < len(seeds):
        raise ValueError("the same seed twice makes the same picture twice")
    return seeds


def _color(code: str) -> str:
    if not caption_text.HEX.fullmatch(code):
        raise ValueError("a colour like '#00ff00' is needed")
    return code.lower()


def _feature(name: str) -> str:
    if name not in caption_text.FEATURES:
        raise ValueError(f"unknown feature: {did_you_mean(name, caption_text.FEATURES)}")
    return name


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("use small letters, digits and '-' alone in its name")
    return name


Size = Annotated[int, Field(strict=True, ge=64, le=1024), AfterValidator(_multiple_of_8)]
Steps = Annotated[int, Field(strict=True, ge=1, le=1000)]
Scale = Annotated[float, Field(strict=True, ge=1, le=30)]
Line = Annotated[Text, AfterValidator(_sayable)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], AfterValidator(_distinct)]
Expected = Mapping[
    Annotated[Text, AfterValidator(_feature)], Annotated[Text, AfterValidator(_color)]
]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Defaults:
    """What a prompt says that does not say it itself. Pictures are square, `size` pixels a side."""

    negative: Line = ""
    seeds: Seeds = (42,)
    steps: Steps = 30
    scale: Scale = 7.5
    size: Size = 512


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Prompt(Defaults):
    """One prompt as a caption is written, and what should be seen where it is obeyed.

    `expect` maps features to `#rrggbb`.
    """

    name: str
    text: Annotated[Line, AfterValidator(not_blank)]
    expect: Expected = Field(default_factory=dict)
    accessories: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _asks_for_what_it_expects(self) -> Prompt:
        if wrong := list(self._unasked()):
            raise ValueError("\n".join(wrong))
        return self

    def _unasked(self) -> Iterator[str]:
        parts = caption_text.features(caption_text.parse(self.text))
        for feature, code in self.expect.items():
            asked = {code for part in parts if part.kind == feature for code in part.codes}
            if code not in asked:
                words = " and ".join(sorted(asked)) or "no colour for it"
                yield f"expect: {feature}: {code} is expected, and the text asks for {words}"
        for word in self.accessories:
            if word.lower() not in self.text.lower():
                yield f"accessories: {word!r} is expected, and the text does not ask for it"


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class _File:
    defaults: Defaults = Field(default_factory=Defaults)
    prompts: Mapping[Annotated[str, AfterValidator(_name)], dict[str, Any]] = Field(min_length=1)


def load(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file in its order.

    Raises:
        ConfigError: naming every key that is unknown, out of range, or at odds with the prompt.
    """
    content = read_toml(path, path.name)
    _, problems = validated(_File, content, path.name)
    rows = content.get("prompts")
    shared = content.get("defaults", {})
    inherited = shared if validated(Defaults, shared, path.name)[0] else {}
    prompts = []
    for name, own in rows.items() if isinstance(rows, dict) else ():
        if not isinstance(own, dict):
            continue
        if "name" in own:
            problems.append(f"{path.name}: prompts.{name}.name: leave it out: the table names it")
        row = {**inherited, **own, "name": name}
        prompt, wrong = validated(Prompt, row, path.name, ("prompts", name))
        problems += wrong
        if prompt is not None:
            prompts.append(prompt)
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return tuple(prompts)


def resized(
    prompts: Iterable[Prompt], *, size: int | None = None, steps: int | None = None
) -> tuple[Prompt, ...]:
    """The prompts with another size or fewer steps, for a slow machine.

    Raises:
        ConfigError: where either is out of range.
    """
    given: dict[str, Any] = {"size": size, "steps": steps}
    given = {key: value for key, value in given.items() if value is not None}
    _, wrong = validated(Defaults, given, "option")
    if wrong:
        raise ConfigError("\n".join(line.replace("option: ", "--", 1) for line in wrong))
    return tuple(replace(prompt, **given) for prompt in prompts)
