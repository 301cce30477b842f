"""The committed option table against the real trainer, and each sentence about a wrong value."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.experiment import option_checks, trainer_options
from bespoke.experiment.experiment import GateSettings
from tests.experiments import an_experiment, put

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
SECTIONS = trainer_options.SECTIONS
# Run beside the trainer's source.
LIVE = """
import argparse
import torch
import train_network
from library import config_util, train_util

def kind(action):
    if isinstance(action, (argparse._StoreTrueAction, argparse._StoreFalseAction)):
        return "bool"
    return action.type.__name__ if action.type else "str"

def builds(optimizer_type, lr_scheduler):
    args = train_network.setup_parser().parse_args([])
    args.optimizer_type, args.lr_scheduler = optimizer_type, lr_scheduler
    weights = [{"params": [torch.nn.Parameter(torch.zeros(2, 2))]}]
    try:
        train_util.get_scheduler_fix(args, train_util.get_optimizer(args, weights)[-1], 1)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""

sanitizer = config_util.ConfigSanitizer(True, True, False, True)
answer = {
    "training": {
        a.dest: {
            "kind": kind(a), "default": a.default, "choices": a.choices,
            "many": a.nargs in ("*", "+"), "flags": a.option_strings,
        }
        for a in train_network.setup_parser()._actions if a.dest != "help"
    },
    "general": [str(key) for key in sanitizer.general_schema],
    "subsets": [str(k) for k in {**sanitizer.ft_subset_schema, **sanitizer.db_subset_schema}],
    "optimizers": {n: builds(n, "linear") for n in asked["optimizers"]},
    "schedulers": {n: builds("AdamW", n) for n in asked["schedulers"]},
}
"""


@pytest.fixture(scope="module")
def live(ask_trainer: Callable[[str, Any], Any]) -> dict[str, Any]:
    """What the real trainer says, asked once for the module."""
    known = trainer_options.table().optimizers
    asked = {
        "optimizers": [*known, *map(str.lower, known), "torch.optim.SGD", "adam"],
        "schedulers": [*option_checks.SCHEDULERS, "reduce_lr_on_plateau", "cosine_with_restart"],
    }
    return dict(ask_trainer(LIVE, asked))


def problems(section: str, values: dict[str, Any]) -> list[str]:
    return option_checks.problems(section, put(values, "a"))


def said(section: str, **values: object) -> str:
    """The one line about these values, without where they were written."""
    (line,) = problems(section, values)
    return line.removeprefix("a: ")


def clean(section: str, **values: object) -> bool:
    return problems(section, values) == []


# The table


def test_the_committed_table_is_what_the_source_says(sd_scripts: Path, tmp_path: Path) -> None:
    # In a process of its own, which is left with stubs for the trainer's packages.
    target = tmp_path / "table.json"
    command = [sys.executable, "tools/options_scan.py", str(sd_scripts), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-3000:]
    found = target.read_text()
    committed = trainer_options.TABLE_FILE.read_text()
    if not (sd_scripts / ".git").exists():  # a copy of the working tree without git
        found = found.replace('"commit": ""', f'"commit": "{trainer_options.table().commit}"')
    assert found == committed


@pytest.mark.trainer
def test_the_table_holds_every_option_of_the_live_parser(live: dict[str, Any]) -> None:
    recorded = {
        name: {
            "kind": option.kind,
            "default": option.default,
            "choices": list(option.choices) or None,
            "many": option.nargs is not None,
            "flags": [f"--{name}"],
        }
        for name, option in trainer_options.table().training.items()
    }
    assert recorded == live["training"]
    for section in ("general", "subsets"):
        keys = {*trainer_options.table().sections[section]}
        assert keys == {*live[section]} - {"batch_size"}


@pytest.mark.trainer
def test_the_trainer_builds_every_optimizer_and_scheduler_that_passes(live: dict[str, Any]) -> None:
    for name, failure in live["optimizers"].items():
        assert clean("training", optimizer_type=name) == (not failure), (name, failure)
    # These need other options beside them.
    needing = {"adafactor", "piecewise_constant", "cosine_with_min_lr"}
    for name in live["schedulers"].keys() - needing:
        failure = live["schedulers"][name]
        assert clean("training", lr_scheduler=name) == (not failure), (name, failure)


# Names


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("training", "lr", "learning_rate"),
        ("training", "rank", "network_dim"),
        ("training", "--learning-rate", "learning_rate"),
        ("general", "keep_token", "keep_tokens"),
        ("subsets", "image_dirs", "image_dir"),
    ],
)
def test_an_unknown_name_leads_to_the_nearest_known_one(section: str, key: str, meant: str) -> None:
    wanted = f"{key}: the trainer has no such option: did you mean {meant!r}?"
    assert said(section, **{key: 1}) == wanted


@pytest.mark.parametrize(
    ("section", "key", "place"),
    [
        ("training", "keep_tokens", "keep_tokens in dataset_config.toml under [general]"),
        ("training", "image_dir", "image_dir in dataset_config.toml under [[datasets.subsets]]"),
        ("training", "dataset_repeats", "num_repeats in dataset_config.toml"),
        ("general", "seed", "seed in training_config.toml"),
        ("subsets", "resolution", "resolution in dataset_config.toml under [general]"),
    ],
)
def test_an_option_in_the_wrong_place_is_sent_to_its_own(
    section: str, key: str, place: str
) -> None:
    assert said(section, **{key: 1}).startswith(f"{key}: belongs elsewhere: write {place}")


@pytest.mark.parametrize("key", sorted(option_checks.REFUSED))
def test_what_nobody_may_set_is_refused_with_the_way_out(key: str) -> None:
    assert said("training", **{key: "x"}) == f"{key}: {option_checks.REFUSED[key]}"


# Values


@pytest.mark.parametrize(
    ("section", "key", "value", "wrong"),
    [
        ("training", "network_dim", "32", 'should be a whole number, not "32"'),
        ("training", "learning_rate", float("nan"), "should be a finite number, not NaN"),
        ("training", "learning_rate", -1e-4, "should be at least 0, not -0.0001"),
        ("training", "xformers", "false", 'should be true or false, not "false"'),
        ("training", "vae", "a\0", 'should hold no control character, not "a\\u0000"'),
        ("training", "lr_warmup_steps", 100.0, "100.0 would be read as a ratio of the run: write a "
         "whole number"),
        ("training", "mixed_precision", "int", 'unknown value "int": choose from: bf16, fp16, no'),
        ("training", "optimizer_type", "AdamW8bits",
         "unknown optimizer \"AdamW8bits\": did you mean 'AdamW8bit'?"),
        ("training", "lr_scheduler", "Cosine", "unknown value \"Cosine\": did you mean 'cosine'?"),
        ("training", "output_dir", "../x", 'should be a folder in the workspace, not "../x"'),
        ("training", "network_args", "conv_dim=8", 'should be a list, not "conv_dim=8"'),
        ("general", "keep_tokens", -1, "should be at least 0, not -1"),
        ("general", "resolution", [512], "should have at least 2 items, not [512]"),
        ("subsets", "image_dir", "a/b", 'should be a name, whose folder --data NAME=DIR gives, not '
         '"a/b"'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_is_needed(
    section: str, key: str, value: object, wrong: str
) -> None:
    assert said(section, **{key: value}) == f"{key}: {wrong}"


def test_a_wrong_item_of_a_list_is_named_with_its_place() -> None:
    wrong = said("training", text_encoder_lr=[-1.0])
    assert wrong.startswith("text_encoder_lr.1: should be at least 0")


def test_what_the_trainer_takes_passes() -> None:
    assert clean("training", network_alpha=16, text_encoder_lr=[1e-4], learning_rate=0.0)
    assert clean("training", optimizer_type="adamw8bit", text_encoder_lr=5e-5)
    assert clean("training", optimizer_type="bitsandbytes.optim.AdEMAMix8bit", lr_decay_steps=0.1)
    assert clean("training", network_module="lycoris.kohya", network_args=["algo=loha"])
    assert clean("general", resolution=[512, 768], caption_dropout_rate=0)


def test_every_limit_and_rule_and_likeness_is_of_a_real_option() -> None:
    named = {*option_checks.LIMITS, *option_checks.RULES, *option_checks.MEANT.values()}
    assert named <= {name for keys in trainer_options.table().sections.values() for name in keys}


def test_constant_takes_no_warm_up() -> None:
    assert "constant_with_warmup" in said("training", lr_scheduler="constant", lr_warmup_steps=9)


def test_arguments_that_networks_lora_would_ignore_are_refused() -> None:
    def lora(*pairs: str) -> list[str]:
        values = {"network_module": "networks.lora", "network_args": list(pairs)}
        return problems("training", values)

    (ignored,) = lora("conv_dims=8")
    assert ignored.endswith("networks.lora would ignore \"conv_dims\": did you mean 'conv_dim'?")
    assert lora("conv_dim=8", "conv_alpha=4.0", "rank_dropout=0.1") == []


# What does nothing


@pytest.mark.parametrize(
    ("option", "idle", "acting"),
    [
        ("training.learning_rate", {"unet_lr": 1e-4, "text_encoder_lr": [5e-5]}, {"unet_lr": 1e-4}),
        ("training.lr_scheduler_num_cycles", {"lr_scheduler": "cosine"},
         {"lr_scheduler": "cosine_with_restarts"}),
        ("dataset.keep_tokens", {}, {"shuffle_caption": True}),
        ("dataset.keep_tokens", {"shuffle_caption": False}, {"caption_tag_dropout_rate": 0.1}),
    ],
)  # fmt: skip
def test_an_option_without_effect_is_named_where_an_experiment_wrote_it_and_it_is_on(
    option: str, idle: dict[str, Any], acting: dict[str, Any]
) -> None:
    section, _, key = option.partition(".")

    def named(beside: dict[str, Any], value: object = 3, origin: str = "--set") -> bool:
        options = {key: value, **beside}
        both = (options, {}) if section == "training" else ({}, options)
        made = an_experiment({"max_train_epochs": 10, **both[0]}, both[1], origin=origin)
        said = [each.message for each in option_checks.warnings(made)]
        return any(line.startswith(f"{origin}: {key} = {value} has no effect: ") for line in said)

    assert named(idle)
    assert named(idle, origin="experiments/one.toml")
    assert not named(acting)
    assert not named(idle, value=0)
    assert not named(idle, origin="training_config.toml")


def test_a_gate_beyond_the_last_epoch_is_a_warning_and_at_it_none() -> None:
    made = an_experiment({"max_train_epochs": 10})
    for epoch, codes in ((11, ["gate_beyond_last_epoch"]), (10, [])):
        gated = replace(made, gate=GateSettings(epoch=epoch))
        assert [each.code for each in option_checks.warnings(gated)] == codes


# Whatever is written


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
KNOWN = sorted({name for section in SECTIONS for name in trainer_options.table().sections[section]})
KEYS = st.text() | st.sampled_from(KNOWN) | st.sampled_from(sorted(option_checks.MEANT))


@given(section=st.sampled_from(SECTIONS), values=st.dictionaries(KEYS, VALUES))
def test_no_value_of_any_kind_is_a_traceback(section: str, values: dict[str, object]) -> None:
    for line in problems(section, values):
        assert line == " ".join(line.splitlines())
