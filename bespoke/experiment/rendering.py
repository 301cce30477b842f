"""An experiment and a machine's paths to the trainer's two TOMLs, and the receipt beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke.experiment.toml_files import toml_lines
from bespoke.experiment.trainer_options import Setting, Settings, put
from bespoke.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bespoke.experiment.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where this machine keeps what the TOMLs name: `data` by each subset's name."""

    workspace: Path
    run: Path
    data: Mapping[str, Path]
    base_model: str
    tokenizer: Path | None
    prompts: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """What the trainer is given, and the settings it was made from, each with its origin."""

    training_file: Path
    dataset_file: Path
    receipt_file: Path
    training: Settings
    general: Settings
    subsets: tuple[Settings, ...]
    facts: Mapping[str, object]

    def receipt(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By section and option: value, from, and was, was_from, why where they are."""
        sections = {"training": self.training, "dataset.general": self.general}
        for number, subset in enumerate(self.subsets, start=1):
            sections[f"dataset.1.subset_{number}"] = subset
        return {
            title: {key: _cells(setting) for key, setting in settings.items()}
            for title, settings in sections.items()
        }


def render(experiment: Experiment, places: Places, facts: Mapping[str, object]) -> Rendered:
    """Write `training.toml`, `dataset.toml` and `receipt.toml`, which `facts` head."""
    subsets = tuple(dict(subset) for subset in experiment.subsets)
    for subset in subsets:
        folder = str(places.data[subset["image_dir"].value])
        put(subset, "image_dir", folder, "path", "the folder found for this name")
    rendered = Rendered(
        training_file=places.run / "training.toml",
        dataset_file=places.run / "dataset.toml",
        receipt_file=places.run / "receipt.toml",
        training=_placed_training(experiment, places),
        general=experiment.general,
        subsets=subsets,
        facts=facts,
    )
    return rewrite(rendered, experiment)


def rewrite(rendered: Rendered, experiment: Experiment) -> Rendered:
    """Write the files of these settings, which may have changed while the run went on."""
    dataset = ["[general]", *_lines(rendered.general), "", "[[datasets]]"]
    for subset in rendered.subsets:
        dataset += ["", "[[datasets.subsets]]", *_lines(subset)]
    head = {
        "experiment": experiment.name,
        "lineage": list(experiment.lineage),
        "run_name": experiment.run_name,
        "hypothesis": experiment.hypothesis,
        **rendered.facts,
    }
    receipt = toml_lines({key: value for key, value in head.items() if value is not None})
    for title, cells in rendered.receipt().items():
        receipt += ["", f"[{title}]", *toml_lines(cells)]
    header = f"# Rendered by bespoke for {experiment.run_name}. receipt.toml says where from."
    files = {
        rendered.training_file: [header, "", *_lines(rendered.training)],
        rendered.dataset_file: [header, "", *dataset],
        rendered.receipt_file: ["# Every option: its value, and where it was written.", *receipt],
    }
    for file, lines in files.items():
        write_whole(file, "\n".join(lines) + "\n")
    return rendered


def _cells(setting: Setting) -> dict[str, Any]:
    cells = {"value": setting.value, "from": setting.origin}
    if setting.before is not None:
        cells |= {"was": setting.before.value, "was_from": setting.before.origin}
    return cells | ({"why": setting.why} if setting.why else {})


def _lines(settings: Settings) -> list[str]:
    return toml_lines({key: setting.value for key, setting in settings.items()})


def _placed_training(experiment: Experiment, places: Places) -> Settings:
    training = dict(experiment.training)
    for key in ("output_dir", "logging_dir"):
        if key in training:
            folder = places.workspace / str(training[key].value)
            put(training, key, str(folder), "path", "taken from the workspace")
    base = "pretrained_model_name_or_path"
    put(training, base, places.base_model, "path", "the checked local copy")
    put(training, "output_name", experiment.output_name, "experiment")
    if "log_prefix" not in training:
        put(training, "log_prefix", experiment.log_prefix, "experiment", "TensorBoard's folder")
    put(training, "dataset_config", str(places.run / "dataset.toml"), "path")
    if places.prompts is not None:
        # One picture of each prompt and seed for each checkpoint.
        every = experiment.option("save_every_n_epochs") or experiment.option("max_train_epochs")
        put(training, "sample_prompts", str(places.prompts), "path", "each epoch is tested")
        put(training, "sample_every_n_epochs", every, "bespoke", "each checkpoint is tested")
    if places.tokenizer is not None:
        put(training, "tokenizer_cache_dir", str(places.tokenizer), "path", "no download needed")
    why = "plain lines in the log; rich's would also draw from the run's random numbers"
    put(training, "console_log_simple", True, "bespoke", why)
    put(training, "training_comment", f"bespoke {experiment.run_name}", "bespoke")
    return training
