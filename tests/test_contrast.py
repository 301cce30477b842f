"""One experiment beside another: what differs, what is inert, what cannot be told apart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bespoke import config, schedule, sight
from bespoke.config import Experiment
from bespoke.contrast import Contrast, Side, compare
from bespoke.dataset import Promise
from bespoke.settings import Block, Setting

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
        blocks=(Block(settings={}, subsets=(put({"image_dir": "all"}),)),),
    )


def side(made: Experiment, folder: Path | None = None) -> Side:
    seen = sight.look(made, {"all": CAPTIONS}, epochs=10, steps=100)
    return Side(experiment=made, sight=seen, data={"all": folder} if folder else {})


PARENT = make("parent")


def against_parent(dataset: dict[str, Any] | None = None, **training: Any) -> Contrast:
    return compare(side(make("child", dataset, **training)), side(PARENT))


def codes(contrast: Contrast) -> list[tuple[str, str]]:
    return [(each.severity, each.code) for each in contrast.findings]


def test_two_of_the_same_are_inert_unless_told_that_they_may_be() -> None:
    assert codes(against_parent()) == [("error", "experiment_inert")]
    allowed = compare(side(make("child")), side(PARENT), inert="warning")
    assert codes(allowed) == [("warning", "experiment_inert")]
    assert "child would learn the same as parent: nothing differs" in allowed.verdict[-1]


@pytest.mark.parametrize(
    "training", [{"output_dir": "elsewhere"}, {"save_every_n_epochs": 2}, {"xformers": True}]
)
def test_what_is_kept_and_how_fast_it_goes_is_no_difference(training: dict[str, Any]) -> None:
    contrast = against_parent(**training)
    assert (contrast.changes, codes(contrast)) == ((), [("error", "experiment_inert")])


def test_keep_tokens_where_nothing_moves_is_inert_and_says_why() -> None:
    still = {"shuffle_caption": False}
    one, other = make("child", {**still, "keep_tokens": 3}), make("parent", still)
    contrast = compare(side(one), side(other))
    assert codes(contrast) == [("error", "experiment_inert")]
    assert "keep_tokens 1 -> 3 (nothing is shuffled, dropped or warmed up" in contrast.verdict[-1]


def test_a_caption_option_that_no_caption_feels_is_inert() -> None:
    contrast = against_parent({"keep_tokens_separator": "|||"})
    assert codes(contrast) == [("error", "experiment_inert")]
    assert contrast.changes[0].idle == "the trainer draws the same captions either way"


def test_a_learning_rate_that_others_stand_in_for_is_inert() -> None:
    assert codes(against_parent(learning_rate=5e-5)) == [("error", "experiment_inert")]
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
    contrast = against_parent(**training)
    assert len(contrast.acting) == things
    assert codes(contrast) == ([("warning", "experiment_confounded")] if things > 1 else [])


@pytest.mark.parametrize("key", ["min_snr_gamma", "noise_offset", "multires_noise_iterations"])
def test_an_option_at_zero_is_the_same_as_unset(key: str) -> None:
    zero: dict[str, Any] = {key: 0}
    one: dict[str, Any] = {key: 1}
    assert codes(against_parent(**zero)) == [("error", "experiment_inert")]
    assert codes(against_parent(**one)) == []


def test_two_changes_name_the_runs_that_would_part_them() -> None:
    other = make("only_dim", network_dim=16)
    child = make("child", {"caption_dropout_rate": 0.1}, network_dim=16)
    contrast = compare(side(child), side(PARENT), known=(child, other, PARENT))
    (found,) = contrast.findings
    assert found.measured["alone"] == [
        "--experiment only_dim",
        "--experiment parent --set dataset.caption_dropout_rate=0.1",
    ]
    assert "network_dim 32 -> 16; caption_dropout_rate 0.0 -> 0.1" in found.message


def test_an_experiment_that_promises_other_captions_does_not_part_two_changes() -> None:
    promises = {"training_data": Promise(caption_version="repaired")}
    other = replace(make("only_dim", network_dim=16), specs=promises)
    child = make("child", {"caption_dropout_rate": 0.1}, network_dim=16)
    (found,) = compare(side(child), side(PARENT), known=(child, other, PARENT)).findings
    assert found.measured["alone"][0] == "--experiment parent --set training.network_dim=16"


def test_a_set_argument_survives_the_shell_and_reads_back() -> None:
    change = against_parent(network_args=["conv_dim=8"]).changes[0]
    assert change.settings == ("--set 'training.network_args=[\"conv_dim=8\"]'",)


def test_the_subject_comes_first_with_its_share_here_and_there() -> None:
    contrast = against_parent({"caption_dropout_rate": 0.1})
    assert contrast.verdict[0] == (
        "background reaches the encoder whole in 90.0% of samples, 100.0% in parent; "
        "no kept tag holds a colour"
    )


def test_kept_tags_that_never_hold_the_subject_are_named_and_ones_that_do_are_not() -> None:
    missed = against_parent({"keep_tokens": 3})
    assert codes(missed) == [("warning", "experiment_misses_subject")]
    assert "stands at position 5 to 5 (from 0) and is kept in 0%" in missed.verdict[-1]
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
    assert codes(compare(side(child, same), side(PARENT, one))) == [("error", "experiment_inert")]
    (change,) = compare(side(child, other), side(PARENT, one)).changes
    assert change.section == "captions"


def test_an_added_subset_is_a_change_of_pictures() -> None:
    more = Block(settings={}, subsets=(put({"image_dir": "all"}), put({"image_dir": "new"})))
    child = make("child")
    added = Experiment(
        name="child", run_name="c", output_name="c", training=child.training,
        general=child.general, blocks=(more,),
    )  # fmt: skip
    (change,) = compare(side(added), side(PARENT)).changes
    assert (change.section, change.shown) == ("pictures", "subsets: new added")


def test_keep_tokens_3_cannot_test_its_hypothesis_on_the_real_captions(
    repository: Path, real_pictures: Path
) -> None:
    texts = {path.stem: path.read_text() for path in sorted(real_pictures.glob("*.txt"))}

    def seen(name: str) -> Side:
        made = config.load(name, repository=repository)
        run = schedule.length(made, {"training_data": len(texts)})
        view = sight.look(made, {"training_data": texts}, epochs=run.epochs, steps=run.steps)
        return Side(experiment=made, sight=view, data={"training_data": real_pictures})

    contrast = compare(seen("keep_tokens_3"), seen("final_corrected_captions"))
    assert [each.code for each in contrast.findings] == [
        "experiment_confounded",
        "experiment_misses_subject",
    ]
    verdict = "\n".join(contrast.verdict)
    assert len(contrast.verdict) <= 5
    for said in (
        "background reaches the encoder whole in 94.",
        "no kept tag holds a colour",
        "caption_dropout_rate 0.0 -> 0.05; keep_tokens 1 -> 3",
        "one of 2 fixed prefixes",
        "position 3 to 12",
        "no tag is ever dropped",
    ):
        assert said in verdict
