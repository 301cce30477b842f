"""How kohya's train_network.py is started.

Facts marked "tn" were read in train_network.py at v0.10.1.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING

from bespoke.errors import ConfigError
from bespoke.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SUBMODULE = "vendor/sd-scripts"


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
