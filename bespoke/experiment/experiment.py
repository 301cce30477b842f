"""An experiment: what its file may say, and all that one run is made from."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from bespoke.errors import ConfigError
from bespoke.experiment.caption_text import KINDS
from bespoke.experiment.trainer_options import Settings, put, table
from bespoke.experiment.validation import (
    CLOSED,
    SAFE_NAME,
    PictureSize,
    SamplingSteps,
    Text,
    matching,
    one_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Name = Annotated[
    Text, matching(SAFE_NAME.pattern, "be a file's name of letters, digits, '.', '_' and '-' alone")
]
Share = Annotated[float, Field(strict=True, gt=0.5, le=1)]
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Pixels = Annotated[int, Field(strict=True, ge=1, le=65_536)]
Extension = Annotated[Text, matching(r"\.[^./\\]{1,20}", 'be an ending such as ".txt"')]


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class GateSettings:
    """`[gate]`: when it decides, and how many pictures must agree.

    A prompt matches or not where the share `seeds` of its pictures do; where the share `prompts` of
    all prompts match, the run goes on, and where as many do not, it is stopped. What could not be
    measured counts for neither, and in the whole.
    """

    epoch: Annotated[int, Field(strict=True, ge=1, le=1000)]
    prompts: Share = 0.6
    seeds: Share = 0.6


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class TestSettings:
    """`[test]`: which of the test prompts, and how small; None leaves theirs."""

    prompts: tuple[Text, ...] | None = None
    size: PictureSize | None = None
    steps: SamplingSteps | None = None


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
class DatasetSpec:
    """`[data.NAME]`: what one folder of data must hold; None, 0 and () ask for nothing.

    `size` is the side of the square pictures in pixels, `cells` the side of the art in cells,
    `names` the feature words that every caption must hold.
    """

    pictures: Count | None = None
    pictures_min: Count | None = None
    pictures_max: Count | None = None
    size: Pixels | None = None
    cells: Pixels | None = None
    hex_codes_min: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    names: tuple[Annotated[Text, Field(min_length=1)], ...] = ()
    caption_version: Text = ""
    caption_extension: Extension = ".txt"


@dataclass(frozen=True, kw_only=True, config=CLOSED)
class Statement:
    """What an experiment says of itself."""

    hypothesis: Text = ""
    confidence: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    expected: tuple[Text, ...] = ()
    # A kind of tags, or the machine itself.
    subject: Annotated[Text, one_of((*KINDS, "machine"))] = ""
    gate: GateSettings | None = None
    test: TestSettings = field(default_factory=TestSettings)
    drawn_pictures: Count | None = None


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Statement):
    """Everything one run is made from, before paths and the machine are known.

    `lineage` names its ancestors, nearest first. `training` holds the trainer's options, `general`
    and `subsets` the dataset's. `changes` is what its own file writes of them, by `--set` names;
    what `pinned` names an experiment's file or `--set` wrote, so that no plan changes it. `specs`
    says of each named folder of data what it must hold.
    """

    name: str
    lineage: tuple[str, ...] = ()
    run_name: str
    output_name: str
    log_prefix: str = ""
    training: Settings = field(default_factory=dict)
    general: Settings = field(default_factory=dict)
    subsets: tuple[Settings, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    specs: Mapping[str, DatasetSpec] = field(default_factory=dict)
    next_steps: tuple[NextStep, ...] = ()
    pinned: frozenset[str] = frozenset()

    @property
    def parent(self) -> str | None:
        return self.lineage[0] if self.lineage else None

    def option(self, key: str) -> Any:
        """The training option's value, or the trainer's own default where nothing is written."""
        if key in self.training:
            return self.training[key].value
        return table().training[key].default

    def by_folder(self) -> dict[str, dict[str, Any]]:
        """Every dataset option of each subset as the trainer merges it, by the subset's image_dir.

        Subset, then [general], then the default (config_util.py:467 at v0.10.1). Of the training
        file's options the dataset takes train_batch_size alone (:260): others are refused there.
        """
        sections = table().sections
        options = {**sections["general"], **sections["subsets"]}
        defaults = {key: option.default for key, option in options.items()}
        defaults["batch_size"] = self.option("train_batch_size")
        return {
            str(subset["image_dir"].value): {
                **defaults,
                **{key: each.value for key, each in {**self.general, **subset}.items()},
            }
            for subset in self.subsets
        }

    def next_step(self, score: float) -> NextStep | None:
        """The highest step whose `at_least` the score reaches; None below the lowest."""
        return next((step for step in reversed(self.next_steps) if score >= step.at_least), None)

    def renamed(self, prefix: str = "", suffix: str = "") -> Experiment:
        """The same under other names, as a run with other values needs."""
        return dataclasses.replace(
            self,
            run_name=f"{prefix}{self.run_name}{suffix}",
            output_name=f"{prefix}{self.output_name}{suffix}",
            log_prefix=f"{self.log_prefix}{suffix and f'{suffix}_'}",
        )

    def with_seed(self, seed: int | None) -> Experiment:
        """At another seed, under names of its own; its own seed, or None, changes nothing."""
        if seed is None or self.option("seed") == seed:
            return self
        if not 0 <= seed < 2**32:
            raise ConfigError(f"--seeds {seed}: should be at least 0 and at most {2**32 - 1}")
        training = dict(self.training)
        put(training, "seed", seed, "--seeds")
        return dataclasses.replace(self, training=training).renamed(suffix=f"_seed_{seed}")

    def named_by_overrides(self) -> Experiment:
        """Under names of its own, made from the options and values, where `--set` changed one."""
        settings = {**self.general, **self.training}
        changed = {key: s.value for key, s in sorted(settings.items()) if s.origin == "--set"}
        if not changed:
            return self
        words = "_".join(f"{key}_{value}" for key, value in changed.items())
        suffix = re.sub(r"[^A-Za-z0-9.-]+", "_", words).strip("_")
        if suffix != words or len(suffix) > 60:
            suffix = f"{suffix[:40]}_{hashlib.sha256(words.encode()).hexdigest()[:8]}"
        return self.renamed(suffix=f"_{suffix}")
