"""The trainer as a run sees it: its shape, and the real one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.experiment.trainer_options import table
from bespoke.files import REPOSITORY
from bespoke.trainer import base_model as base_models
from bespoke.trainer import hardware, launch

if TYPE_CHECKING:
    from bespoke.experiment.rendering import Rendered
    from bespoke.trainer.job import Job


class Trainer(Protocol):
    """What a run asks of a trainer, real or fake.

    `base_model` is what the trainer is given, `base_model_name` what it is on any machine: a resume
    is held to that. `lacks` is the option that needs the GPU which is not here.
    """

    @property
    def commit(self) -> str | None: ...
    @property
    def tokenizer(self) -> Path | None: ...
    @property
    def base_model(self) -> str: ...
    @property
    def base_model_name(self) -> str: ...
    @property
    def lacks(self) -> str | None: ...

    def command(self, rendered: Rendered) -> list[str]: ...

    def require(self) -> None:
        """Raise a ConfigError where the trainer is not set up here."""

    def prepare(self) -> None:
        """See to all that training needs here."""


class SdScripts:
    """kohya's sd-scripts for one run on this machine."""

    def __init__(self, job: Job) -> None:
        self._job = job
        name = str(job.experiment.option("pretrained_model_name_or_path"))
        self._base = base_models.locate(name, models=job.models)
        self.commit = table().commit
        self.tokenizer = base_models.tokenizer_folder(job.models)
        self.base_model = self._base.path
        self.base_model_name = self._base.sha256 or Path(self._base.path).name

    @property
    def lacks(self) -> str | None:
        option = self._job.experiment.option
        needs = (("mixed_precision", "fp16"), ("xformers", True))
        wanted = [f"{key} = {json.dumps(value)}" for key, value in needs if option(key) == value]
        return wanted[0] if wanted and not hardware.gpus() else None

    def require(self) -> None:
        launch.require_submodule(REPOSITORY)
        if not self._job.request.dry_run:
            launch.require_packages()

    def command(self, rendered: Rendered) -> list[str]:
        script = REPOSITORY / launch.SUBMODULE / "train_network.py"
        if rendered.facts["captured_step"]:
            # The same trainer; it goes its own way where the graphs cannot be recorded.
            script = Path(__file__).with_name("captured_step.py")
        precision = str(rendered.option("mixed_precision", "no"))
        return launch.command(
            self._job.folder, rendered.training_file, script=script, precision=precision
        )

    def prepare(self) -> None:
        if self.lacks:
            raise ConfigError(
                f"no NVIDIA GPU found, and {self.lacks} needs one. In Docker, add --gpus all; "
                "without a GPU, use --experiment smoke (the real trainer, small) or --rehearse"
            )
        if too_old := next((gpu.too_old for gpu in hardware.gpus() if gpu.too_old), None):
            raise ConfigError(f"{too_old}: use another GPU (CUDA_VISIBLE_DEVICES) or --rehearse")
        base_models.provide(self._base, models=self._job.models, announce=say)
