"""One experiment compared with another: what differs, and what acts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bespoke.dataset import caption_exposure
from bespoke.dataset.ablation import Ablation, Side, compare
from bespoke.experiment.config import Experiment
from bespoke.experiment.dataset_spec import DatasetSpec
from bespoke.experiment.settings import Setting

if TYPE_CHECKING:
    from pathlib import Path

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


def put(values: dict[str, Any]) -> dict[str, Setting]:
    return {key: Setting(value=value, origin="a test") for key, value in values.items()}


def make(name: str, dataset: dict[str, Any] | None = None, **training: Any) -> Experiment:
    return Experiment(
        name=name,
        run_name=name,
        output_name=name,
        subject="background",
        training=put({**BASE, **training}),
        general=put({**SHUFFLED, **(dataset or {})}),
        subsets=(put({"image_dir": "all"}),),
    )


def side(made: Experiment, folder: Path | None = None) -> Side:
    seen = caption_exposure.look(made, {"all": CAPTIONS})
    return Side(experiment=made, exposure=seen, data={"all": folder} if folder else {})


PARENT = make("parent")


def against_parent(
    dataset: dict[str, Any] | None = None, before: dict[str, Any] | None = None, **training: Any
) -> Ablation:
    return compare(side(make("child", dataset, **training)), side(make("parent", before)))


def codes(ablation: Ablation) -> list[tuple[str, str]]:
    return [(each.severity, each.code) for each in ablation.findings]


def test_two_of_the_same_are_a_no_op_unless_told_that_they_may_be() -> None:
    assert codes(against_parent()) == [("error", "experiment_no_op")]
    allowed = compare(side(make("child")), side(PARENT), no_op="warning")
    assert codes(allowed) == [("warning", "experiment_no_op")]
    (refused,) = against_parent().findings
    assert str(refused).startswith("child would train exactly what parent trained: nothing differs")
    assert str(refused).count("--allow-no-op") == 1


@pytest.mark.parametrize(
    "training", [{"output_dir": "elsewhere"}, {"save_every_n_epochs": 2}, {"xformers": True}]
)
def test_what_is_kept_and_how_fast_it_goes_is_no_difference(training: dict[str, Any]) -> None:
    ablation = against_parent(**training)
    assert (ablation.changes, codes(ablation)) == ((), [("error", "experiment_no_op")])


def test_keep_tokens_where_nothing_moves_is_a_no_op_and_says_why() -> None:
    still = {"shuffle_caption": False}
    one, other = make("child", {**still, "keep_tokens": 3}), make("parent", still)
    ablation = compare(side(one), side(other))
    assert codes(ablation) == [("error", "experiment_no_op")]
    assert "keep_tokens 1 -> 3 has no effect: nothing is shuffled" in str(ablation.findings[0])


def test_a_caption_option_that_no_caption_feels_is_a_no_op() -> None:
    ablation = against_parent({"keep_tokens": 7}, {"keep_tokens": 6})
    assert codes(ablation) == [("error", "experiment_no_op")]
    assert ablation.changes[0].idle == "the trainer draws the same captions either way"


def test_a_learning_rate_that_others_stand_in_for_is_a_no_op() -> None:
    assert codes(against_parent(learning_rate=5e-5)) == [("error", "experiment_no_op")]
    assert codes(against_parent(learning_rate=5e-5, unet_lr=5e-5)) == []


@pytest.mark.parametrize(
    ("training", "things"),
    [
        ({"network_dim": 16}, 1),
        ({"network_dim": 16, "network_alpha": 8}, 1),
        ({"network_args": ["conv_dim=8", "conv_alpha=4"]}, 1),
        ({"unet_lr": 5e-5, "text_encoder_lr": 2.5e-5}, 1),
        ({"unet_lr": 5e-5, "text_encoder_lr": 5e-6}, 2),
        ({"network_dim": 16, "unet_lr": 5e-5}, 2),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3}, 1),
        ({"seed": 7, "min_snr_gamma": 5.0, "clip_skip": 2}, 3),
    ],
)
def test_options_that_are_one_thing_count_as_one(training: dict[str, Any], things: int) -> None:
    ablation = against_parent(**training)
    assert sum(not change.idle for change in ablation.changes) == things
    assert codes(ablation) == ([("warning", "experiment_confounded")] if things > 1 else [])


@pytest.mark.parametrize("key", ["min_snr_gamma", "noise_offset", "multires_noise_iterations"])
def test_an_option_at_zero_is_the_same_as_unset(key: str) -> None:
    zero: dict[str, Any] = {key: 0}
    one: dict[str, Any] = {key: 1}
    assert codes(against_parent(**zero)) == [("error", "experiment_no_op")]
    assert codes(against_parent(**one)) == []


def test_two_changes_name_the_runs_that_would_part_them() -> None:
    other = make("only_dim", network_dim=16)
    child = make("child", {"caption_dropout_rate": 0.1}, network_dim=16)
    ablation = compare(side(child), side(PARENT), known=(child, other, PARENT))
    (found,) = ablation.findings
    assert found.measured["alone"] == [
        "--experiment only_dim",
        "--experiment parent --set dataset.caption_dropout_rate=0.1",
    ]
    assert "network_dim 32 -> 16; caption_dropout_rate 0.0 -> 0.1" in found.message


def test_an_experiment_that_promises_other_captions_does_not_part_two_changes() -> None:
    promises = {"training_data": DatasetSpec(caption_version="repaired")}
    other = replace(make("only_dim", network_dim=16), specs=promises)
    child = make("child", {"caption_dropout_rate": 0.1}, network_dim=16)
    (found,) = compare(side(child), side(PARENT), known=(child, other, PARENT)).findings
    assert found.measured["alone"][0] == "--experiment parent --set training.network_dim=16"


def test_a_set_argument_survives_the_shell_and_reads_back() -> None:
    change = against_parent(network_args=["conv_dim=8"]).changes[0]
    assert change.settings == ("--set 'training.network_args=[\"conv_dim=8\"]'",)


def test_it_is_said_what_the_model_sees_of_the_subject_here_and_there() -> None:
    assert against_parent({"caption_dropout_rate": 0.1}).lines == (
        "The model sees the background tag in 90.0% of samples (100.0% in parent)",
        "10.0% of samples train with an empty caption (caption_dropout_rate), 0.0% in parent",
    )


def test_options_under_which_nothing_is_computed_are_named() -> None:
    ablation = against_parent({"caption_tag_dropout_rate": 0.1})
    assert ablation.lines == ("What the model sees is not computed with caption_tag_dropout_rate",)
    assert codes(ablation) == []


def test_kept_tags_that_never_hold_the_subject_are_named_and_ones_that_do_are_not() -> None:
    missed = against_parent({"keep_tokens": 3})
    assert codes(missed) == [("warning", "experiment_misses_subject")]
    message = str(missed.findings[0])
    assert message.startswith(
        'child cannot test its hypothesis: the kept tags are "pixel art, 24x24, portrait of a lad" '
        'or "pixel art, 24x24, portrait of a lady", without any colour; the background is tag 6 '
        "and never kept"
    )
    assert codes(against_parent({"keep_tokens": 6})) == []


def test_more_epochs_under_one_schedule_move_every_epochs_rate() -> None:
    found = codes(against_parent(max_train_epochs=15))
    assert found == [("note", "experiment_moves_schedule")]
    constant = make("c", max_train_epochs=15, lr_scheduler="constant")
    assert codes(compare(side(constant), side(make("p", lr_scheduler="constant")))) == []


def test_other_pictures_and_captions_are_told_by_their_contents(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    one.mkdir()
    (one / "a.png").write_bytes(b"picture")
    (one / "a.txt").write_text("caption")
    shutil.copytree(one, same)
    shutil.copytree(one, other)
    (other / "a.txt").write_text("another")
    child = make("child")
    assert codes(compare(side(child, same), side(PARENT, one))) == [("error", "experiment_no_op")]
    (change,) = compare(side(child, other), side(PARENT, one)).changes
    assert change.section == "captions"


def test_an_added_subset_is_a_change_of_pictures() -> None:
    more = (put({"image_dir": "all"}), put({"image_dir": "new"}))
    child = make("child")
    added = Experiment(
        name="child", run_name="c", output_name="c", training=child.training,
        general=child.general, subsets=more,
    )  # fmt: skip
    (change,) = compare(side(added), side(PARENT)).changes
    assert (change.section, change.shown) == ("pictures", "subsets: new added")
