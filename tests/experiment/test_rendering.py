"""The two TOMLs mean to the live trainer what was meant, and the receipt says where from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import toml

from bespoke.experiment import config
from bespoke.experiment.rendering import Places, Rendered, render
from bespoke.experiment.toml_files import parsed, toml_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Of the options of record, as the collection's owner gave them, those that the project is about.
TRAINING_OF_RECORD: dict[str, Any] = {
    "network_dim": 32,
    "network_alpha": 16,
    "network_train_unet_only": False,
    "max_train_epochs": 10,
    "optimizer_type": "AdamW8bit",
    "unet_lr": 1e-4,
    "text_encoder_lr": 5e-5,
    "lr_scheduler": "cosine_with_restarts",
    "max_token_length": 225,
    "seed": 42,
    "log_prefix": "keep_tokens_3_experiment",
    "output_name": "bespoke_baby_sd15_lora_keep_tokens_3",
}
DATASET_OF_RECORD: dict[str, Any] = {
    "resolution": [512, 512],
    "min_bucket_reso": 256,
    "batch_size": 1,
    "num_repeats": 10,
    "shuffle_caption": True,
    "keep_tokens": 3,
    "caption_dropout_rate": 0.05,
}
# Run beside the trainer's source: what its own parser and loader make of them.
LIVE = """
import sys
sys.argv = ["train_network.py", "--config_file", asked]
import train_network
from library import config_util, train_util
parser = train_network.setup_parser()
args = train_util.read_config_from_file(parser.parse_args(), parser)
known = {action.dest for action in parser._actions}
train_util.verify_training_args(args)
train_util.prepare_dataset_args(args, True)
sanitizer = config_util.ConfigSanitizer(True, True, args.masked_loss, True)
document = config_util.load_user_config(args.dataset_config)
blueprint = config_util.BlueprintGenerator(sanitizer).generate(document, args)
entry = blueprint.dataset_group.datasets[0]
subset = entry.subsets[0]
group, _ = config_util.generate_dataset_group_by_blueprint(blueprint.dataset_group)
answer = {
    "training": vars(args), "unknown": sorted(set(vars(args)) - known),
    "dataset": vars(entry.params), "subset": vars(subset.params),
    "images": group.num_train_images, "datasets": len(blueprint.dataset_group.datasets),
}
"""


def rendered(repository: Path, tmp_path: Path, data: Path, *overrides: str) -> Rendered:
    run = tmp_path / "run"
    run.mkdir()
    experiment = config.load("keep_tokens_3", repository=repository, overrides=overrides)
    places = Places(
        workspace=tmp_path,
        run=run,
        data={"training_data": data},
        base_model=str(tmp_path / "models" / "v1-5.safetensors"),
        tokenizer=tmp_path / "models" / "tokenizer",
    )
    return render(experiment, places, {"started": "2026-01-01T00:00:00+00:00", "none": None})


@pytest.mark.trainer
def test_the_live_parser_and_loader_read_the_options_of_record(
    repository: Path, tmp_path: Path, ask_trainer: Callable[[str, Any], Any], drawn: Path
) -> None:
    files = rendered(repository, tmp_path, drawn)
    live = ask_trainer(LIVE, str(files.training_file))

    assert live["unknown"] == []
    written = toml.loads(files.training_file.read_text(encoding="utf-8"))
    assert {key: live["training"][key] for key in written} == written
    assert TRAINING_OF_RECORD.items() <= live["training"].items()
    assert live["training"]["output_dir"] == str(tmp_path / "output")
    assert live["training"]["logging_dir"] == str(tmp_path / "logs")
    both = {**live["dataset"], **live["subset"]}
    assert {key: both[key] for key in DATASET_OF_RECORD} == DATASET_OF_RECORD
    assert live["subset"]["image_dir"] == str(drawn)
    assert (live["datasets"], live["images"]) == (1, 2030)


def test_the_receipt_says_of_every_value_where_it_came_from_and_what_it_replaced(
    repository: Path, tmp_path: Path
) -> None:
    files = rendered(repository, tmp_path, tmp_path / "pictures", "training.learning_rate=5e-5")
    receipt, training, dataset = (
        toml.loads(file.read_text(encoding="utf-8"))
        for file in (files.receipt_file, files.training_file, files.dataset_file)
    )
    general = receipt["dataset"]["general"]
    assert {key: row["value"] for key, row in receipt["training"].items()} == training
    assert {key: row["value"] for key, row in general.items()} == dataset["general"]
    assert receipt["experiment"] == "keep_tokens_3"
    assert receipt["lineage"] == ["final_corrected_captions"]
    assert "none" not in receipt
    before = {"was": 1e-4, "was_from": "training_config.toml"}
    assert receipt["training"]["learning_rate"] == {"value": 5e-5, "from": "--set", **before}
    assert receipt["training"]["seed"] == {"value": 42, "from": "training_config.toml"}
    assert receipt["training"]["output_dir"]["was"] == "output"
    assert general["keep_tokens"]["was"] == 1
    folder = receipt["dataset"]["1"]["subset_1"]["image_dir"]
    assert (folder["value"], folder["from"]) == (str(tmp_path / "pictures"), "path")


@pytest.mark.parametrize(
    "text", ["a\u00a0b", "C:\\x41", "\\", "a'b", "\u2028", "é#=[]", "x" * 1500]
)
def test_a_text_reaches_the_trainer_as_it_was_written(
    repository: Path, tmp_path: Path, text: str
) -> None:
    files = rendered(repository, tmp_path, tmp_path / text[:20], f"training.vae={toml_value(text)}")
    for loads in (toml.loads, parsed):
        training = loads(files.training_file.read_text(encoding="utf-8"))
        assert training["vae"] == text
        document = loads(files.dataset_file.read_text(encoding="utf-8"))
        assert document["datasets"][0]["subsets"][0]["image_dir"] == str(tmp_path / text[:20])
