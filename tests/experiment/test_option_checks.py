"""The committed option table against the real trainer, and each sentence about a wrong value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.experiment import option_checks, trainer_options
from bespoke.experiment.trainer_options import Setting

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
    settings = {key: Setting(value=value, origin="a") for key, value in values.items()}
    return option_checks.problems(section, settings)


def said(section: str, **values: object) -> str:
    """The one line about these values, without where they were written."""
    (line,) = problems(section, values)
    return line.removeprefix("a: ")


def clean(section: str, **values: object) -> bool:
    return problems(section, values) == []


# The table


def scanned(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """A scan in a process of its own, which is left with stubs for its packages."""
    command = [sys.executable, "tools/options_scan.py", str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_the_committed_table_is_what_the_source_says(sd_scripts: Path, tmp_path: Path) -> None:
    done = scanned(sd_scripts, tmp_path / "table.json")
    assert done.returncode == 0, done.stderr[-3000:]
    found = (tmp_path / "table.json").read_text()
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
            "many": option.many,
            "flags": [f"--{name}"],
        }
        for name, option in trainer_options.table().training.items()
    }
    assert recorded == live["training"]


@pytest.mark.trainer
@pytest.mark.parametrize("section", ["general", "subsets"])
def test_the_table_holds_every_key_of_the_live_dataset_schema(
    live: dict[str, Any], section: str
) -> None:
    assert {*trainer_options.table().sections[section]} == {*live[section]} - {"batch_size"}


@pytest.mark.trainer
def test_the_trainer_builds_every_optimizer_that_passes(live: dict[str, Any]) -> None:
    for name, failure in live["optimizers"].items():
        assert clean("training", optimizer_type=name) == (not failure), (name, failure)


@pytest.mark.trainer
def test_the_trainer_builds_every_scheduler_that_passes(live: dict[str, Any]) -> None:
    # These need other options beside them.
    needing = {"adafactor", "piecewise_constant", "cosine_with_min_lr"}
    for name in live["schedulers"].keys() - needing:
        failure = live["schedulers"][name]
        assert clean("training", lr_scheduler=name) == (not failure), (name, failure)


def test_dataset_keys_are_recorded_and_fall_back_on_the_training_default() -> None:
    training = trainer_options.table().training
    twins = {name: option.dataset_key for name, option in training.items() if option.dataset_key}
    assert twins["dataset_repeats"] == "num_repeats"
    assert not {"train_batch_size", "max_token_length", "prior_loss_weight"} & twins.keys()
    sections = trainer_options.table().sections
    assert sections["general"]["caption_extension"].default == ".caption"
    assert "batch_size" not in {*sections["general"], *sections["subsets"]}


def test_source_of_another_shape_is_an_error(sd_scripts: Path, tmp_path: Path) -> None:
    for entry in sd_scripts.iterdir():
        if entry.name not in ("train_network.py", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    source = (sd_scripts / "train_network.py").read_text()
    old = "add_logging_arguments(parser)"
    assert old in source
    changed = source.replace(old, "parser.add_argument('--x', action='count')")
    (tmp_path / "train_network.py").write_text(changed)
    done = scanned(tmp_path, tmp_path / "table.json")
    assert done.returncode == 2
    assert f"{tmp_path}: cannot be read as the trainer's source" in done.stderr
    assert not (tmp_path / "table.json").exists()


def test_checking_options_imports_nothing_heavy(repository: Path) -> None:
    program = (
        "import sys; from bespoke.experiment import option_checks as o;"
        "o.problems('training', {});"
        "print(*sys.modules.keys() & {'torch', 'numpy', 'tools'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


# Names


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("training", "lr", "learning_rate"),
        ("training", "rank", "network_dim"),
        ("training", "--learning-rate", "learning_rate"),
        ("training", "Seed", "seed"),
        ("training", "keep_token", "keep_tokens"),
        ("general", "keep_token", "keep_tokens"),
        ("subsets", "image_dirs", "image_dir"),
    ],
)
def test_an_unknown_name_leads_to_the_nearest_known_one(section: str, key: str, meant: str) -> None:
    wanted = f"{key}: the trainer has no such option: did you mean {meant!r}?"
    assert said(section, **{key: 1}) == wanted


def test_every_false_friend_leads_to_a_real_option() -> None:
    assert set(option_checks.MEANT.values()) <= trainer_options.table().training.keys()


@pytest.mark.parametrize(
    ("section", "key", "place"),
    [
        ("training", "keep_tokens", "keep_tokens in dataset_config.toml under [general]"),
        ("training", "image_dir", "image_dir in dataset_config.toml under [[datasets.subsets]]"),
        ("training", "dataset_repeats", "num_repeats in dataset_config.toml"),
        ("general", "seed", "seed in training_config.toml"),
        ("general", "image_dir", "image_dir in dataset_config.toml under [[datasets.subsets]]"),
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
        ("training", "network_dim", 32.0, "should be a whole number, not 32.0"),
        ("training", "learning_rate", "1e-4", 'should be a number, not "1e-4"'),
        ("training", "learning_rate", float("nan"), "should be a finite number, not NaN"),
        ("training", "learning_rate", -1e-4, "should be at least 0, not -0.0001"),
        ("training", "xformers", "false", 'should be true or false, not "false"'),
        ("training", "vae", "a\0", 'should hold no control character, not "a\\u0000"'),
        ("training", "lr_warmup_steps", 100.0, "100.0 would be read as a ratio of the run: write a "
         "whole number"),
        ("training", "mixed_precision", "int", 'unknown value "int": choose from: bf16, fp16, no'),
        ("training", "max_token_length", 200, "unknown value 200: choose from: 150, 225, 75"),
        ("training", "save_model_as", "ckpt", 'unknown value "ckpt": choose from: safetensors'),
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


@pytest.mark.parametrize(
    ("key", "value", "wrong"),
    [
        ("text_encoder_lr", [-1.0], "text_encoder_lr.1: should be at least 0, not -1.0"),
        ("network_args", [8], "network_args.1: should be text in quotes, not 8"),
        ("network_args", ["a = 8"], 'network_args.1: should be "key=value" without'),
    ],
)
def test_a_wrong_item_of_a_list_is_named_with_its_place(
    key: str, value: object, wrong: str
) -> None:
    assert said("training", **{key: value}).startswith(wrong)


def test_what_the_trainer_takes_passes() -> None:
    assert clean("training", network_alpha=16, text_encoder_lr=[1e-4], learning_rate=0.0)
    assert clean("training", optimizer_type="adamw8bit", text_encoder_lr=5e-5)
    assert clean("training", optimizer_type="bitsandbytes.optim.AdEMAMix8bit", lr_decay_steps=0.1)
    assert clean("training", network_module="lycoris.kohya", network_args=["algo=loha"])
    assert clean("general", resolution=[512, 768], caption_dropout_rate=0)


def test_every_problem_is_said_with_where_it_was_written() -> None:
    lines = problems("training", {"lr": 1, "network_dim": "32", "seed": -1, "vae": "x"})
    assert [line.split(": ")[1] for line in lines] == ["lr", "network_dim", "seed"]
    assert all(line.startswith("a: ") for line in lines)


def test_every_limit_and_rule_is_of_a_real_option() -> None:
    known = {name for section in SECTIONS for name in trainer_options.table().sections[section]}
    assert set(option_checks.LIMITS) | set(option_checks.RULES) <= known


def test_constant_takes_no_warm_up() -> None:
    assert "constant_with_warmup" in said("training", lr_scheduler="constant", lr_warmup_steps=9)
    assert clean("training", lr_scheduler="constant", lr_warmup_steps=0)


def test_arguments_that_networks_lora_would_ignore_are_refused() -> None:
    def lora(*pairs: str) -> list[str]:
        values = {"network_module": "networks.lora", "network_args": list(pairs)}
        return problems("training", values)

    (ignored,) = lora("conv_dims=8")
    assert ignored.endswith("networks.lora would ignore \"conv_dims\": did you mean 'conv_dim'?")
    assert lora("conv_dim=8", "conv_alpha=4.0", "rank_dropout=0.1") == []


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
