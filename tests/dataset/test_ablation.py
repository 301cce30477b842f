"""One experiment compared with another: what differs, and what acts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bespoke.dataset.ablation import Side, changed, compare
from bespoke.experiment.experiment import DatasetSpec
from tests.experiments import an_experiment, put

if TYPE_CHECKING:
    from bespoke.experiment.experiment import Experiment
    from bespoke.findings import Finding

CAPTIONS = {
    "a": "pixel art, 24x24, portrait of a lad, dark hair, lips (#00ff00), red background",
    "b": "pixel art, 24x24, portrait of a lady, fair hair, lips (#0000ff), blue background",
}
BASE: dict[str, Any] = {
    "network_module": "networks.lora",
    "network_dim": 32,
    "network_alpha": 16,
    "learning_rate": 1e-4,
    "unet_lr": 1e-4,
    "text_encoder_lr": 5e-5,
    "max_train_epochs": 10,
    "lr_scheduler": "cosine",
}
SHUFFLED = {"shuffle_caption": True, "keep_tokens": 1}


def make(name: str, dataset: dict[str, Any] | None = None, **training: Any) -> Experiment:
    return an_experiment({**BASE, **training}, {**SHUFFLED, **(dataset or {})}, name=name)


def side(made: Experiment, folder: str = "here") -> Side:
    collection: Any = SimpleNamespace(captions=CAPTIONS, folder=Path(folder))
    return Side(experiment=made, collections={"all": collection}, subject="background")


def against_parent(
    dataset: dict[str, Any] | None = None, before: dict[str, Any] | None = None, **training: Any
) -> tuple[Side, Side]:
    return side(make("child", dataset, **training)), side(make("parent", before))


def findings(sides: tuple[Side, Side]) -> list[Finding]:
    return compare(*sides)[0]


def codes(sides: tuple[Side, Side]) -> list[tuple[str, str]]:
    return [(each.severity, each.code) for each in findings(sides)]


NO_OP = [("error", "experiment_no_op")]


def test_two_of_the_same_are_a_no_op_unless_it_is_allowed() -> None:
    assert codes(against_parent()) == NO_OP
    (allowed,) = compare(*against_parent(), allow_no_op=True)[0]
    assert allowed.severity == "warning"
    (refused,) = findings(against_parent())
    assert str(refused).startswith("child would train exactly what parent trained: nothing differs")
    assert str(refused).count("--allow-no-op") == 1


def test_what_is_kept_and_how_fast_it_goes_are_no_differences() -> None:
    sides = against_parent(output_dir="elsewhere", save_every_n_epochs=2, xformers=True)
    assert (list(changed(*sides)), codes(sides)) == ([], NO_OP)


def test_options_that_cannot_act_are_a_no_op_and_it_says_why() -> None:
    still = {"shuffle_caption": False}
    sides = against_parent({**still, "keep_tokens": 3}, still)
    assert codes(sides) == NO_OP
    assert "keep_tokens 1 -> 3 has no effect: nothing is shuffled" in str(findings(sides)[0])
    assert codes(against_parent(learning_rate=5e-5)) == NO_OP
    assert codes(against_parent(learning_rate=5e-5, unet_lr=5e-5)) == []


@pytest.mark.parametrize(
    ("training", "things"),
    [
        ({"network_dim": 16, "network_alpha": 8}, 1),
        ({"network_args": ["conv_dim=8", "conv_alpha=4"]}, 1),
        ({"unet_lr": 5e-5, "text_encoder_lr": 2.5e-5}, 1),
        ({"network_dim": 16, "unet_lr": 5e-5}, 2),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3}, 1),
        ({"seed": 7, "min_snr_gamma": 5.0, "clip_skip": 2}, 3),
    ],
)
def test_options_that_are_one_thing_count_as_one(training: dict[str, Any], things: int) -> None:
    sides = against_parent(**training)
    assert sum(not change.idle for change in changed(*sides)) == things
    assert codes(sides) == ([("warning", "experiment_confounded")] if things > 1 else [])


def test_it_is_said_what_the_model_sees_of_the_subject_here_and_there() -> None:
    assert compare(*against_parent({"caption_dropout_rate": 0.1}))[1] == [
        "The model sees the background tag in 90.0% of samples (100.0% in parent)",
        "10.0% of samples train with an empty caption (caption_dropout_rate), 0.0% in parent",
    ]
    unknown = against_parent({"caption_tag_dropout_rate": 0.1})
    message = "What the model sees is not computed with caption_tag_dropout_rate"
    assert compare(*unknown) == ([], [message])


def test_kept_tags_that_never_hold_the_subject_are_named_and_ones_that_do_are_not() -> None:
    (missed,) = findings(against_parent({"keep_tokens": 3}))
    assert (missed.severity, missed.code) == ("warning", "experiment_misses_subject")
    assert str(missed).startswith(
        'child cannot test its hypothesis: the kept tags are "pixel art, 24x24, portrait of a lad" '
        'or "pixel art, 24x24, portrait of a lady"; the background is tag 6 and never kept'
    )
    assert codes(against_parent({"keep_tokens": 6})) == []


def test_other_captions_folders_and_subsets_are_changes() -> None:
    child, parent = make("child"), side(make("parent"))
    assert codes((side(child), parent)) == NO_OP
    (change,) = changed(side(child, "there"), parent)
    assert change.shown.startswith("pictures or captions of all: ")
    newer = replace(child, specs={"all": DatasetSpec(caption_version="v2")})
    (change,) = changed(side(newer), parent)
    assert change.shown == "captions of all: no version -> v2"
    on_these = replace(parent, collections=(same := side(newer)).collections)
    line = "The captions of parent are not here: name them with --parent-data all=DIR"
    assert line in compare(same, on_these)[1]
    more = (put({"image_dir": "all"}), put({"image_dir": "new"}))
    (change,) = changed(side(replace(child, subsets=more)), parent)
    assert change.shown == "subsets: all -> all, new"
