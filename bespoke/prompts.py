"""The prompts that every checkpoint is tested with: test_prompts.toml, read and held to itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bespoke import captions
from bespoke.config import nearest, read_toml
from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from bespoke.config import Experiment

PROMPTS_FILE = "test_prompts.toml"
# No underscore: pictures are named {prompt}_{seed}, and must be told apart by it.
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LARGEST_SEED = 2**32 - 1
SIZES, STEPS, SCALES = (64, 1024), (1, 1000), (1.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt as a caption is written, and what should be seen where it is obeyed.

    Pictures are square, `size` pixels a side; `expect` maps features to `#rrggbb`.
    """

    name: str
    text: str
    negative: str
    seeds: tuple[int, ...]
    steps: int
    scale: float
    size: int
    expect: Mapping[str, str]
    accessories: tuple[str, ...]


_DEFAULTS: dict[str, Any] = {
    "negative": "", "seeds": [42], "steps": 30, "scale": 7.5, "size": 512,
}  # fmt: skip
_KEYS = (*_DEFAULTS, "text", "expect", "accessories")
# What the samplers would take for something else than text, and what it is to them.
_UNSAYABLE = (
    (re.compile(r" --"), "' --' begins an option of the sampler"),
    (re.compile(r" AND "), "' AND ' parts a prompt among LoRAs (gen_img.py:453)"),
    (re.compile(r"BREAK"), "'BREAK' fills a window of the encoder (gen_img.py:1065)"),
    (re.compile(r"\\"), "write brackets as they are: they are escaped where that is needed"),
    (re.compile(r"[\x00-\x1f\x7f]"), "it holds a control character"),
)


def load(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file in its order.

    Raises:
        ConfigError: naming every key that is unknown, out of range, or at odds with the prompt.
    """
    content = read_toml(path, path.name)
    problems = list(_unknown(content, ("defaults", "prompts"), path.name))
    shared, rows = content.get("defaults", {}), content.get("prompts", {})
    for where, table in (("[defaults]", shared), ("[prompts]", rows)):
        if not isinstance(table, dict):
            raise ConfigError(f"{path.name}: {where}: a table is needed, not {table!r}")
    problems += _unknown(shared, _DEFAULTS, f"{path.name}: [defaults]")
    if not rows:
        problems.append(f"{path.name}: no [prompts.NAME] is written")
    found = []
    for name, own in rows.items():
        where = f"{path.name}: [prompts.{name}]"
        if not _NAME.fullmatch(name):
            problems.append(f"{where}: name it in small letters, digits and '-' alone")
        if not isinstance(own, dict):
            problems.append(f"{where}: a table is needed, not {own!r}")
            continue
        row = {**_DEFAULTS, "text": "", "expect": {}, "accessories": [], **shared, **own}
        wrong = [*_unknown(own, _KEYS, where), *(f"{where}: {each}" for each in _wrong(row))]
        problems += wrong
        if not wrong:
            found.append(_prompt(name, row))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return tuple(found)


def resized(
    prompts: Iterable[Prompt], *, size: int | None = None, steps: int | None = None
) -> tuple[Prompt, ...]:
    """The prompts with another size or fewer steps, for a slow machine.

    Raises:
        ConfigError: where either is out of range.
    """
    given: dict[str, Any] = {"size": size, "steps": steps}
    given = {key: value for key, value in given.items() if value is not None}
    for key, value in given.items():
        if wrong := _number(key, value):
            raise ConfigError(f"--{key} {value}: {wrong}")
    return tuple(replace(prompt, **given) for prompt in prompts)


def _prompt(name: str, row: Mapping[str, Any]) -> Prompt:
    return Prompt(
        name=name,
        text=row["text"],
        negative=row["negative"],
        seeds=tuple(row["seeds"]),
        steps=row["steps"],
        scale=float(row["scale"]),
        size=row["size"],
        expect={feature: code.lower() for feature, code in row["expect"].items()},
        accessories=tuple(row["accessories"]),
    )


def _unknown(table: Iterable[str], known: Iterable[str], where: str) -> Iterator[str]:
    names = tuple(known)
    return (f"{where}: {key}: {nearest(key, names)}" for key in table if key not in names)


def _wrong(row: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with one prompt's values, a sentence each that begins with the key."""
    for key in ("text", "negative"):
        if not isinstance(row[key], str) or (key == "text" and not row[key].strip()):
            yield f"{key}: text is needed, not {row[key]!r}"
            return
        yield from (f"{key}: {why}" for pattern, why in _UNSAYABLE if pattern.search(row[key]))
        if len(row[key].splitlines()) > 1:
            yield f"{key}: one line is needed"
    for key in ("size", "steps", "scale"):
        if wrong := _number(key, row[key]):
            yield f"{key}: {wrong}"
    yield from _wrong_seeds(row["seeds"])
    yield from _wrong_expectations(row)


def _number(key: str, value: object) -> str | None:
    low, high = {"size": SIZES, "steps": STEPS, "scale": SCALES}[key]
    kinds = (int, float) if key == "scale" else (int,)
    if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value <= high:
        return (
            f"{'a number' if key == 'scale' else 'a whole number'} {low} to {high}, not {value!r}"
        )
    return f"a multiple of 8 is needed, not {value}" if key == "size" and value % 8 else None


def _wrong_seeds(seeds: object) -> Iterator[str]:
    if not isinstance(seeds, list) or not seeds:
        yield f"seeds: a list of whole numbers is needed, not {seeds!r}"
        return
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= _LARGEST_SEED:
            yield f"seeds: {seed!r}: whole numbers from 0 to {_LARGEST_SEED} are needed"
    if len(set(map(str, seeds))) < len(seeds):
        yield f"seeds: {seeds}: the same seed twice makes the same picture twice"


def _wrong_expectations(row: Mapping[str, Any]) -> Iterator[str]:
    """Expectations that the prompt's own text does not ask for."""
    expect, accessories = row["expect"], row["accessories"]
    if not isinstance(expect, dict):
        yield f"expect: a table of features is needed, not {expect!r}"
        return
    parts = captions.features(captions.parse(row["text"]))
    for feature, code in expect.items():
        asked = {code for part in parts if part.kind == feature for code in part.codes}
        if feature not in captions.FEATURES:
            yield f"expect: {feature}: {nearest(feature, captions.FEATURES)}"
        elif not isinstance(code, str) or not captions.HEX.fullmatch(code):
            yield f"expect: {feature}: a colour like '#00ff00' is needed, not {code!r}"
        elif code.lower() not in asked:
            told = " and ".join(sorted(asked)) or "no colour for it"
            yield f"expect: {feature}: {code} is expected, and the text asks for {told}"
    if not isinstance(accessories, list):
        yield f"accessories: a list of words is needed, not {accessories!r}"
        return
    for word in accessories:
        if not isinstance(word, str) or word.lower() not in row["text"].lower():
            yield f"accessories: {word!r} is expected, and the text does not ask for it"


def chosen(experiment: Experiment, file: Path) -> tuple[Prompt, ...]:
    """The prompts of a file that each epoch is tested with, as the experiment's `[test]` says.

    Raises:
        ConfigError: where `[test]` names one that is not there, or as `load`.
    """
    test, prompts = experiment.test, load(file)
    names = [prompt.name for prompt in prompts]
    wanted = test.get("prompts", names)
    for name in wanted:
        if name not in names:
            where = f"experiments/{experiment.name}.toml: [test]: prompts"
            raise ConfigError(f"{where}: {nearest(str(name), names)}")
    kept = [prompt for prompt in prompts if prompt.name in wanted]
    return resized(kept, size=test.get("size"), steps=test.get("steps"))
