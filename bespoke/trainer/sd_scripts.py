"""The trainer, kohya's sd-scripts, as a run sees it.

Facts marked "tn" were read in train_network.py at v0.10.1.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.experiment.trainer_options import table
from bespoke.files import REPOSITORY, write_whole
from bespoke.trainer import base_model as base_models
from bespoke.trainer import hardware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.experiment.rendering import Rendered
    from bespoke.trainer.job import Job

SUBMODULE = "vendor/sd-scripts"


class SdScripts:
    """kohya's sd-scripts for one run on this machine; `rehearsal.FakeTrainer` has the same shape.

    `base_model` is what the trainer is given, `base_model_name` what it is on any machine: a resume
    is held to that. `lacks` is the option that needs the GPU which is not here.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        name = str(job.experiment.option("pretrained_model_name_or_path"))
        self._base = base_models.locate(name, models=job.models)
        self.commit = table().commit
        self.tokenizer = base_models.tokenizer_folder(job.models)
        self.base_model = self._base.path
        self.base_model_name = self._base.sha256 or Path(self._base.path).name
        self.lacks: str | None = None
        for key, value in (("xformers", True), ("mixed_precision", "fp16")):
            if job.experiment.option(key) == value and not hardware.gpus():
                self.lacks = f"{key} = {json.dumps(value)}"

    def require(self) -> None:
        """Raise a ConfigError where the trainer is not set up here."""
        require_submodule(REPOSITORY)
        if not self._job.request.dry_run:
            require_packages()

    def command(self, rendered: Rendered) -> list[str]:
        script = REPOSITORY / SUBMODULE / "train_network.py"
        if rendered.facts["captured_step"]:
            # The same trainer; it goes its own way where the graphs cannot be recorded.
            script = Path(__file__).with_name("captured_step.py")
        precision = str(self._job.experiment.option("mixed_precision"))
        return command(self._job.folder, rendered.training_file, script=script, precision=precision)

    def prepare(self) -> None:
        """See to all that training needs here."""
        if self.lacks:
            raise ConfigError(
                f"no NVIDIA GPU found, and {self.lacks} needs one. In Docker, add --gpus all; "
                "without a GPU, use --experiment smoke (the real trainer, small) or --rehearse"
            )
        if too_old := next((gpu.too_old for gpu in hardware.gpus() if gpu.too_old), None):
            raise ConfigError(f"{too_old}: use another GPU (CUDA_VISIBLE_DEVICES) or --rehearse")
        base_models.provide(self._base, models=self._job.models, announce=say)


def require_submodule(repository: Path) -> Path:
    """The submodule's folder, or a ConfigError where it is not checked out."""
    folder = repository / SUBMODULE
    if not (folder / "train_network.py").is_file():
        raise ConfigError(
            f"{SUBMODULE}: the trainer is missing. ./start_training.sh, with the same arguments, "
            "fetches it first (or: git submodule update --init); --rehearse needs none"
        )
    return folder


def require_packages() -> None:
    """Raise a ConfigError where this interpreter lacks packages of the trainer; imports none."""
    wanted = ("torch", "accelerate", "diffusers", "transformers", "bitsandbytes", "open_clip")
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"the trainer's packages are missing ({', '.join(missing)}). ./start_training.sh, with "
            "the same arguments, installs them first; --rehearse needs none"
        )


def command(run: Path, training_file: Path, *, script: Path, precision: str) -> list[str]:
    """The launcher's command line, with a launcher file of its own in the run's folder.

    Without it the launcher would take the person's own, perhaps with several processes: each draws
    the same noise (facts, seen in tn). With two threads a CPU's last bits differ each time.
    """
    settings = {"compute_environment": "LOCAL_MACHINE", "distributed_type": "NO"}
    launcher_file = run / "accelerate.json"
    write_whole(launcher_file, json.dumps(settings) + "\n")
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(launcher_file)),
        *("--num_processes", "1", "--num_machines", "1", "--mixed_precision", precision),
        *("--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"),
        str(script),
        *("--config_file", str(training_file)),
    ]


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The trainer's environment: lines at once and in UTF-8, nothing fetched, nothing guessed."""
    settings = {
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        # Off a terminal, bars and rich lines are as wide as this.
        "COLUMNS": "160",
        "TOKENIZERS_PARALLELISM": "false",
        # RunPod's images set it to 1, and huggingface-hub then fails without hf_transfer.
        "HF_HUB_ENABLE_HF_TRANSFER": "0",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }
    kept = {key: value for key, value in inherited.items() if not key.startswith("ACCELERATE_")}
    return kept | settings
