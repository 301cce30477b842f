"""The committed option table against the real trainer, and each sentence about a wrong value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bespoke.experiment import option_rules, options

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
SECTIONS = ("training", "general", "datasets", "subsets")
SAMPLES: list[Any] = [
    *(True, False, 0, 3, 0.5, 3.0, "", "text", [], [1, 2], [1.0, 2.0], [1, 2.0], [1, 2, 3]),
    *(["a", "b"], {}, {"a": 1}, None),
]

# Run beside the trainer's source.
LIVE = """
import argparse
import torch, voluptuous
import train_network
from library import config_util, train_util

def kind(action):
    if isinstance(action, (argparse._StoreTrueAction, argparse._StoreFalseAction)):
        return "bool"
    return action.type.__name__ if action.type else "str"

def accepts(schema, value):
    try:
        voluptuous.Schema(schema)(value)
    except voluptuous.Invalid:
        return False
    return True

def keys(schema):
    return {str(key): [accepts(wanted, v) for v in samples] for key, wanted in schema.items()}

def builds(optimizer_type, lr_scheduler, lr_scheduler_args=None, optimizer_args=None):
    args = train_network.setup_parser().parse_args([])
    args.optimizer_type, args.lr_scheduler = optimizer_type, lr_scheduler
    args.lr_scheduler_args, args.optimizer_args = lr_scheduler_args, optimizer_args
    weights = [{"params": [torch.nn.Parameter(torch.zeros(2, 2))]}]
    try:
        train_util.get_scheduler_fix(args, train_util.get_optimizer(args, weights)[-1], 1)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""

samples = asked["samples"]
sanitizer = config_util.ConfigSanitizer(True, True, False, True)
answer = {
    "training": {
        a.dest: {
            "kind": kind(a), "default": a.default, "choices": a.choices,
            "many": a.nargs in ("*", "+"), "flags": a.option_strings,
        }
        for a in train_network.setup_parser()._actions if a.dest != "help"
    },
    "general": keys(sanitizer.general_schema),
    "datasets": keys(sanitizer.db_dataset_schema),
    "subsets": keys({**sanitizer.ft_subset_schema, **sanitizer.db_subset_schema}),
    "fine_tuning": sorted(map(str, sanitizer.ft_dataset_schema)),
    "optimizers": {n: builds(n, "linear") for n in asked["optimizers"]},
    "schedulers": {n: builds("AdamW", n) for n in asked["schedulers"]},
    "with_more": {
        "adafactor": builds("Adafactor", "adafactor"),
        "piecewise_constant": builds("AdamW", "piecewise_constant", ['step_rules="1:10,0.1"']),
        "cosine_with_min_lr": builds("AdamW", "cosine_with_min_lr", ["min_lr=1e-6"]),
    },
}
"""


@pytest.fixture(scope="module")
def live(ask_trainer: Callable[[str, Any], Any]) -> dict[str, Any]:
    """What the real trainer says, asked once for the module."""
    known = options.table().optimizers
    asked = {
        "samples": SAMPLES,
        "optimizers": [*known, *map(str.lower, known), *option_rules.TORCH_OPTIMIZERS, "adam"],
        "schedulers": [*option_rules.SCHEDULERS, "reduce_lr_on_plateau", "cosine_with_restart"],
    }
    return dict(ask_trainer(LIVE, asked))


def said(section: str, **values: object) -> str:
    """The one sentence about these values."""
    (sentence,) = option_rules.problems(section, values)
    return sentence


def clean(section: str, **values: object) -> bool:
    return option_rules.problems(section, values) == []


# The table


def scanned(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """A scan in a process of its own, which is left with stubs for its packages."""
    command = [sys.executable, "tools/options_scan.py", str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_the_committed_table_is_what_the_source_says(sd_scripts: Path, tmp_path: Path) -> None:
    done = scanned(sd_scripts, tmp_path / "table.json")
    assert done.returncode == 0, done.stderr[-3000:]
    found = (tmp_path / "table.json").read_text()
    committed = options.TABLE_FILE.read_text()
    if not (sd_scripts / ".git").exists():  # a copy of the working tree without git
        found = found.replace('"commit": ""', f'"commit": "{options.table().commit}"')
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
        for name, option in options.table().training.items()
    }
    assert recorded == live["training"]


@pytest.mark.trainer
@pytest.mark.parametrize("section", ["general", "datasets", "subsets"])
def test_the_table_holds_every_key_of_the_live_dataset_schema(
    live: dict[str, Any], section: str
) -> None:
    assert set(options.table().section(section)) == set(live[section])
    assert set(live["fine_tuning"]) <= set(options.table().datasets)


@pytest.mark.trainer
@pytest.mark.parametrize("section", ["general", "datasets", "subsets"])
def test_each_kind_takes_what_voluptuous_takes_but_no_bool_for_a_number(
    live: dict[str, Any], section: str
) -> None:
    for name, option in options.table().section(section).items():
        if name == "subsets":  # its entries are checked as a section of their own
            continue
        for sample, accepted in zip(SAMPLES, live[section][name], strict=True):
            right = accepted and (option.kind == "bool" or not isinstance(sample, bool))
            assert option_rules.fits(option.kind, sample) == right, (name, sample)


@pytest.mark.trainer
def test_the_trainer_builds_every_optimizer_that_passes(live: dict[str, Any]) -> None:
    for name, failure in live["optimizers"].items():
        assert clean("training", optimizer_type=name) == (not failure), (name, failure)


@pytest.mark.trainer
def test_the_trainer_builds_every_scheduler_that_passes(live: dict[str, Any]) -> None:
    for name, failure in live["schedulers"].items():
        if name not in live["with_more"]:  # these need other options beside them
            assert clean("training", lr_scheduler=name) == (not failure), (name, failure)
    assert live["with_more"] == {
        "adafactor": "",
        "piecewise_constant": "",
        "cosine_with_min_lr": "",
    }


def test_dataset_twins_are_recorded_and_the_trainers_own_are_not() -> None:
    training = options.table().training
    twins = {name: option.dataset_key for name, option in training.items() if option.dataset_key}
    assert twins["keep_tokens"] == "keep_tokens"
    assert twins["dataset_repeats"] == "num_repeats"
    own = {"train_batch_size", "max_token_length", "prior_loss_weight", "debug_dataset"}
    assert not own & twins.keys()
    schema = options.table().general.keys() | options.table().subsets.keys()
    assert set(twins.values()) <= schema


def test_dataset_keys_fall_back_on_the_training_default() -> None:
    assert options.table().general["caption_extension"].default == ".caption"
    assert options.table().general["batch_size"].default == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("add_logging_arguments(parser)", "parser.add_argument('-x')"),
        ("add_logging_arguments(parser)", "parser.add_argument('--x', action='count')"),
        ("def setup_parser(", "def parser_of_another_version("),
    ],
)
def test_source_of_another_shape_is_an_error(
    sd_scripts: Path, tmp_path: Path, old: str, new: str
) -> None:
    for entry in sd_scripts.iterdir():
        if entry.name not in ("train_network.py", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    source = (sd_scripts / "train_network.py").read_text()
    assert old in source
    (tmp_path / "train_network.py").write_text(source.replace(old, new))
    done = scanned(tmp_path, tmp_path / "table.json")
    assert done.returncode == 2
    assert f"{tmp_path}: cannot be read as the trainer's source" in done.stderr
    assert not (tmp_path / "table.json").exists()


def test_a_table_is_not_written_of_source_without_its_commit(
    sd_scripts: Path, tmp_path: Path
) -> None:
    for entry in sd_scripts.iterdir():
        if entry.name != ".git":
            (tmp_path / entry.name).symlink_to(entry)
    before = options.TABLE_FILE.read_bytes()
    command = [sys.executable, "tools/options_scan.py", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert "must name the commit" in done.stderr
    assert options.TABLE_FILE.read_bytes() == before


def test_folders_that_hold_no_trainer_are_named(tmp_path: Path) -> None:
    done = scanned(tmp_path, tmp_path / "table.json")
    assert done.returncode == 2
    assert f"{tmp_path}: holds no train_network.py" in done.stderr


def test_checking_options_imports_nothing_heavy(repository: Path) -> None:
    program = (
        "import sys; from bespoke.experiment import option_rules as o;"
        "o.problems('training', {'seed': 1});"
        "print(*sys.modules.keys() & {'torch', 'numpy', 'difflib', 'tools'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_numbers_too_long_to_print_are_no_traceback() -> None:
    long = 10**5000
    for section in SECTIONS:
        for name in options.table().section(section):
            for value in (long, -long, [long], {"a": long}):
                option_rules.problems(section, {name: value})


# The options of record


RECORD: dict[str, object] = {
    "network_module": "networks.lora",
    "network_dim": 32,
    "network_alpha": 16,
    "network_train_unet_only": False,
    "network_args": ["conv_dim=8", "conv_alpha=4"],
    "max_train_epochs": 10,
    "train_batch_size": 1,
    "gradient_accumulation_steps": 4,
    "mixed_precision": "fp16",
    "xformers": True,
    "gradient_checkpointing": True,
    "cache_latents": True,
    "optimizer_type": "AdamW8bit",
    "optimizer_args": ["weight_decay=0.01", "betas=0.9,0.999"],
    "learning_rate": 1e-4,
    "unet_lr": 1e-4,
    "text_encoder_lr": 5e-5,
    "lr_scheduler": "cosine_with_restarts",
    "lr_scheduler_num_cycles": 3,
    "lr_warmup_steps": 100,
    "max_token_length": 225,
    "prior_loss_weight": 1.0,
    "min_snr_gamma": 5.0,
    "noise_offset": 0.05,
    "multires_noise_iterations": 6,
    "multires_noise_discount": 0.3,
    "seed": 42,
    "save_every_n_epochs": 1,
    "save_model_as": "safetensors",
    "save_precision": "fp16",
    "save_state": True,
    "logging_dir": "logs",
    "log_prefix": "keep_tokens_3_experiment",
    "output_dir": "output",
    "pretrained_model_name_or_path": "base.safetensors",
}
DATASET_RECORD: dict[str, object] = {
    "resolution": 512,
    "enable_bucket": True,
    "min_bucket_reso": 256,
    "max_bucket_reso": 1024,
    "bucket_reso_steps": 64,
    "bucket_no_upscale": True,
    "shuffle_caption": True,
    "caption_extension": ".txt",
    "keep_tokens": 3,
    "caption_dropout_rate": 0.05,
}


def test_the_options_of_record_are_clean() -> None:
    assert option_rules.problems("training", RECORD) == []
    assert option_rules.problems("general", DATASET_RECORD) == []
    assert option_rules.problems("datasets", {**DATASET_RECORD, "subsets": [{}]}) == []
    assert option_rules.problems("subsets", {"image_dir": "x", "num_repeats": 10}) == []


def test_every_problem_is_told_and_names_its_key_first() -> None:
    found = option_rules.problems(
        "training", {"lr": 1, "network_dim": "32", "seed": -1, "vae": "x"}
    )
    assert [sentence.split(":")[0] for sentence in found] == ["lr", "network_dim", "seed"]


# Names


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("training", "lr", "learning_rate"),
        ("training", "batch_size", "train_batch_size"),
        ("training", "epochs", "max_train_epochs"),
        ("training", "gradient_accumulation", "gradient_accumulation_steps"),
        ("training", "rank", "network_dim"),
        ("training", "alpha", "network_alpha"),
        ("training", "learning-rate", "learning_rate"),
        ("training", "--learning-rate", "learning_rate"),
        ("training", "Seed", "seed"),
        ("training", "learnin_rate", "learning_rate"),
        ("training", "bucket_resolution", "bucket_reso_steps (in dataset_config.toml under"),
        ("training", "keep-tokens", "keep_tokens (in dataset_config.toml under [general]"),
        ("training", "keep_token", "keep_tokens (in dataset_config.toml under [general]"),
        ("general", "bucket_resolution", "bucket_reso_steps"),
        ("general", "keep_token", "keep_tokens"),
        ("general", "learning-rate", "learning_rate (in training_config.toml"),
        ("general", "repeats", "num_repeats"),
        ("subsets", "image_dirs", "image_dir"),
        ("subsets", "enable_buckets", "enable_bucket (in dataset_config.toml under [general]"),
    ],
)
def test_an_unknown_name_leads_to_the_nearest_known_one(section: str, key: str, meant: str) -> None:
    assert said(section, **{key: 1}).startswith(
        f"{key}: the trainer has no such option; did you mean {meant}"
    )


def test_a_name_like_no_other_is_refused_without_a_guess() -> None:
    assert said("training", zzzzqqq=1).endswith("and none with a name like it")


def test_every_false_friend_leads_to_a_real_option() -> None:
    known = {name for section in SECTIONS for name in options.table().section(section)}
    for wrong, meant in options._MEANT.items():
        assert meant in known, wrong
        for section in SECTIONS:
            if wrong not in options.table().section(section):
                assert meant in said(section, **{wrong: 1}) or wrong == "batch_size"


def test_a_dataset_option_in_the_training_file_is_sent_to_the_dataset_file() -> None:
    assert said("training", keep_tokens=3) == (
        "keep_tokens: a dataset option: write it in dataset_config.toml under"
        " [general], or the experiment's [dataset]"
    )
    assert "[[datasets.subsets]]" in said("training", alpha_mask=True)
    assert "[[datasets.subsets]]" in said("training", image_dir="x")
    assert "write num_repeats in dataset_config.toml" in said("training", dataset_repeats=10)
    assert "write caption_extension in" in said("training", caption_extention=".txt")


def test_a_training_option_in_the_dataset_file_is_sent_to_the_training_file() -> None:
    assert "a training option: write it in training_config.toml" in said("general", seed=1)
    assert "write num_repeats in" in said("general", dataset_repeats=10)
    assert "train_batch_size (in training_config.toml" in said("general", batch_size=4)


def test_a_key_at_the_wrong_level_of_the_dataset_file_is_sent_to_its_own() -> None:
    assert "under [general]" in said("subsets", resolution=512)
    assert "under [[datasets.subsets]]" in said("general", image_dir="x")
    assert "under [[datasets]]" in said("general", subsets=[])


def test_the_validation_seed_acts_in_both_files() -> None:
    assert clean("training", validation_seed=1)
    assert clean("general", validation_seed=1)


@pytest.mark.parametrize("key", sorted(options.REFUSED))
def test_what_nobody_may_set_is_refused_with_the_way_out(key: str) -> None:
    assert said("training", **{key: "x"}) == f"{key}: {options.REFUSED[key]}"
    assert said("general", **{key: "x"}) == f"{key}: {options.REFUSED[key]}"


# Types


def test_text_for_a_number_is_refused() -> None:
    assert said("training", network_dim="32") == (
        'network_dim: a whole number is needed, not "32" (the trainer would take it unconverted)'
    )
    assert "a number is needed" in said("training", learning_rate="1e-4")
    assert said("general", keep_tokens="3") == ('keep_tokens: a whole number is needed, not "3"')


def test_text_for_true_or_false_is_refused() -> None:
    assert said("training", xformers="false") == (
        'xformers: true or false is needed, not "false" (the trainer would read it as true)'
    )
    assert "would read it as false" in said("training", xformers="")
    assert "not 1" in said("training", xformers=1)


def test_true_is_no_number() -> None:
    assert "not true" in said("training", network_dim=True)
    assert "not false" in said("general", keep_tokens=False)


def test_a_whole_number_does_for_a_float_but_not_the_other_way() -> None:
    assert clean("training", network_alpha=16)
    assert said("training", network_dim=32.0) == (
        "network_dim: a whole number is needed, not 32.0: write 32"
    )
    assert said("training", network_dim=32.5).endswith("not 32.5")


def test_the_dataset_schema_wants_some_numbers_with_a_point() -> None:
    assert said("general", validation_split=0).endswith("not 0: write 0.0")
    assert clean("general", validation_split=0.0)
    assert clean("general", caption_dropout_rate=0)


@pytest.mark.parametrize("key", ["lr_warmup_steps", "lr_decay_steps"])
def test_steps_written_as_a_float_would_be_a_ratio(key: str) -> None:
    assert said("training", **{key: 100.0}) == (
        f"{key}: 100.0 would be read as a ratio, 100 times the whole run: write 100"
    )
    assert "write 1" in said("training", **{key: 1.0})
    assert "a whole number of steps" in said("training", **{key: 100.5})
    for steps in (0, 0.0, 0.1, 100):
        assert clean("training", lr_scheduler="linear", **{key: steps})
    assert 'not "10%"' in said("training", **{key: "10%"})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_only_finite_numbers_pass(value: float) -> None:
    assert "a finite number is needed" in said("training", learning_rate=value)
    assert "a finite number is needed" in said("training", lr_warmup_steps=value)
    assert "a finite number is needed" in said("training", text_encoder_lr=[1e-4, value])
    assert "a finite number is needed" in said("general", caption_dropout_rate=value)


@pytest.mark.parametrize(
    ("section", "key", "bad", "good"),
    [
        ("training", "learning_rate", -1e-4, 0.0),
        ("training", "text_encoder_lr", [-1e-4], [0.0]),
        ("training", "train_batch_size", 0, 1),
        ("training", "max_train_epochs", 0, 1),
        ("training", "seed", 2**32, 2**32 - 1),
        ("general", "caption_dropout_rate", 5, 0.05),
        ("general", "keep_tokens", -1, 0),
        ("subsets", "num_repeats", 0, 1),
        ("general", "resolution", [512, 0], [512, 768]),
    ],
)
def test_sizes_that_cannot_be_meant_are_refused(
    section: str, key: str, bad: object, good: object
) -> None:
    assert "is not between" in said(section, **{key: bad})
    assert clean(section, **{key: good})


def test_every_limit_is_of_a_real_option() -> None:
    known = {name for section in SECTIONS for name in options.table().section(section)}
    assert set(option_rules.LIMITS) <= known


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_within_the_limits(section: str) -> None:
    values = {
        name: option.default
        for name, option in options.table().section(section).items()
        if option.default is not None and name != "batch_size"
    }
    found = option_rules.problems(section, values)
    if section == "training":  # dataset keys, and what bespoke refuses for its own reasons
        found = [
            s for s in found if "dataset option" not in s and s.split(":")[0] not in options.REFUSED
        ]
    assert found == []


# Choices


def test_a_value_outside_the_choices_is_refused_with_the_list() -> None:
    assert said("training", mixed_precision="fp32") == (
        'mixed_precision: "fp32" is not one of no, fp16, bf16'
    )
    assert "did you mean safetensors?" in said("training", save_model_as="safetensor")
    assert "is not one of lanczos" in said("general", resize_interpolation="pixel")
    assert clean("general", resize_interpolation="box")


@pytest.mark.parametrize("length", [75, 150, 225])
def test_the_token_lengths_that_the_trainer_cuts_rightly_pass(length: int) -> None:
    assert clean("training", max_token_length=length)


@pytest.mark.parametrize("length", [0, 77, 200, 300])
def test_other_token_lengths_are_refused(length: int) -> None:
    assert said("training", max_token_length=length) == (
        f"max_token_length: {length} is not one of 150, 225, 75"
    )


def test_misspelt_optimizers_are_refused_with_the_nearest() -> None:
    assert "AdamW8bit" in said("training", optimizer_type="AdamW8bits")
    assert "did you mean" in said("training", optimizer_type="adam")  # torch.optim keeps its case
    assert "knows no optimizer" in said("training", optimizer_type="DAdaptAdam")
    for name in ("adamw8bit", "AdamW", "Adam", "", "bitsandbytes.optim.AdEMAMix8bit"):
        assert clean("training", optimizer_type=name), name


def test_misspelt_schedulers_are_refused_with_the_nearest() -> None:
    found = said("training", lr_scheduler="cosine_with_restart")
    assert found.endswith("did you mean cosine_with_restarts?")
    assert "is not one of" in said("training", lr_scheduler="Cosine")


def test_constant_takes_no_warm_up() -> None:
    assert "constant_with_warmup" in said("training", lr_scheduler="constant", lr_warmup_steps=9)
    assert "constant_with_warmup" in said("training", lr_warmup_steps=9)  # the default
    assert clean("training", lr_scheduler="constant", lr_warmup_steps=0)
    misspelt = said("training", lr_scheduler="linaer", lr_warmup_steps=9)
    assert misspelt.startswith("lr_scheduler")
    free = {"optimizer_type": "AdamWScheduleFree", "lr_scheduler": "constant"}
    assert clean("training", **free, lr_warmup_steps=9)


# Lists


def test_list_options_need_lists_and_say_how_to_write_them() -> None:
    assert said("training", network_args="conv_dim=8 conv_alpha=4") == (
        "network_args: a list of texts is needed, not"
        ' "conv_dim=8 conv_alpha=4": write ["conv_dim=8", "conv_alpha=4"]'
    )
    assert said("training", optimizer_args={"weight_decay": 0.01}) == (
        "optimizer_args: a list of texts is needed, not a table"
    )
    assert "in its list, text is needed, not 8" in said("training", network_args=[8])
    assert "a list of numbers" in said("training", base_weights_multiplier=1.0)


@pytest.mark.parametrize("item", ["conv_dim", "=8", "conv_dim = 8"])
def test_pairs_are_key_value_without_spaces(item: str) -> None:
    assert '"key=value"' in said("training", network_args=[item])


def lora(*pairs: str) -> list[str]:
    return option_rules.problems(
        "training", {"network_module": "networks.lora", "network_args": pairs}
    )


def test_arguments_that_networks_lora_would_ignore_are_refused() -> None:
    assert lora("conv_dims=8") == [
        "network_args: networks.lora would ignore \"conv_dims\": did you mean 'conv_dim'?"
    ]
    assert lora("dropout=0.1") == [
        "network_args: networks.lora ignores dropout: write the option network_dropout instead"
    ]
    assert lora("conv_alpha=4") == [
        "network_args: networks.lora ignores conv_alpha without conv_dim"
    ]
    assert "choose from: block_alphas, " in lora("zzz=1")[0]
    assert lora("conv_dim=8", "conv_alpha=4.0", "rank_dropout=0.1", "module_dropout=0.1") == []


def test_numbers_for_networks_lora_must_be_numbers() -> None:
    assert "a whole number is needed after the =" in lora("conv_dim=8.0")[0]
    assert "a number is needed after the =" in lora("conv_dim=8", "conv_alpha=half")[0]


def test_other_network_modules_have_arguments_of_their_own() -> None:
    assert clean("training", network_module="lycoris.kohya", network_args=["algo=loha"])


# Resolution and buckets


def test_a_resolution_is_a_number_or_two() -> None:
    assert clean("general", resolution=512)
    assert clean("datasets", resolution=[512, 768])
    for wrong in ("512,512", [512], [512, 512, 512], [512, 512.0]):
        assert "a list of two (width, height)" in said("general", resolution=wrong)
    assert said("general", resolution=512.0).endswith("write 512")


def test_bucket_steps_are_multiples_of_64() -> None:
    assert "a multiple of 64" in said("general", bucket_reso_steps=32)
    assert "a multiple of 64" in said("general", bucket_reso_steps=0)
    assert clean("general", bucket_reso_steps=128)


# Whatever is written


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6
)
KNOWN = sorted({name for section in SECTIONS for name in options.table().section(section)})
KEYS = st.text() | st.sampled_from(KNOWN) | st.sampled_from(sorted(options._MEANT))
PAIRS = st.lists(st.builds("{}={}".format, st.sampled_from(options.table().lora_args), st.text()))


@given(section=st.sampled_from(SECTIONS), values=st.dictionaries(KEYS, VALUES))
def test_no_value_of_any_kind_is_a_traceback(section: str, values: dict[str, object]) -> None:
    for sentence in option_rules.problems(section, values):
        assert sentence == " ".join(sentence.splitlines())


@given(section=st.sampled_from(SECTIONS), key=st.sampled_from(KNOWN), value=VALUES)
def test_no_value_of_a_known_option_is_a_traceback(section: str, key: str, value: object) -> None:
    assert all(s.startswith(f"{key}: ") for s in option_rules.problems(section, {key: value}))


@given(pairs=PAIRS, literals=st.lists(st.text()))
def test_no_pair_is_a_traceback(pairs: list[str], literals: list[str]) -> None:
    written = [f"k={text}" for text in literals]
    values = {"network_module": "networks.lora", "network_args": pairs, "optimizer_args": written}
    assert len(option_rules.problems("training", values)) <= len(pairs) + len(written) + 1
