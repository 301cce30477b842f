"""The trainer as a run sees it: its shape, and the real one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bespoke.console import say
from bespoke.errors import ConfigError
from bespoke.experiment.options import table
from bespoke.files import REPOSITORY
from bespoke.trainer import base_model as base_models
from bespoke.trainer import hardware, launch

if TYPE_CHECKING:
    from bespoke.experiment.rendering import Rendered
    from bespoke.trainer.job import Job


class Trainer(Protocol):
    """What a run asks of a trainer, real or fake."""

    @property
    def commit(self) -> str | None: ...

    @property
    def tokenizer(self) -> Path | None: ...

    @property
    def base_model(self) -> str:
        """The base model as the trainer is given it."""

    @property
    def base_model_name(self) -> str:
        """What the base model is, wherever this machine keeps it: a resume is held to it."""

    @property
    def lacks(self) -> str | None:
        """The option that needs the GPU which is not here."""

    def command(self, rendered: Rendered) -> list[str]: ...

    def prepare(self) -> bool:
        """See to all that training needs here; returns whether it may stay offline."""


class SdScripts:
    """kohya's sd-scripts for one run on this machine.

    Raises:
        ConfigError: where it, or for more than a dry run its packages, are not set up here.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        launch.require_submodule(REPOSITORY)
        if not job.request.dry_run:
            launch.require_packages()

    @property
    def commit(self) -> str | None:
        return table().commit

    @property
    def tokenizer(self) -> Path | None:
        return base_models.tokenizer_folder(self._job.models)

    @property
    def base_model(self) -> str:
        return self._located().path

    @property
    def base_model_name(self) -> str:
        base = self._located()
        return base.sha256 or Path(base.path).name

    @property
    def lacks(self) -> str | None:
        options = {key: setting.value for key, setting in self._job.experiment.training.items()}
        reason = launch.needs_gpu(options)
        return reason if reason and not hardware.gpus() else None

    def command(self, rendered: Rendered) -> list[str]:
        script = launch.require_submodule(REPOSITORY) / "train_network.py"
        if hardware.gpus():
            # The same trainer, which leaves itself out where it does not fit the options.
            script = Path(__file__).with_name("captured_step.py")
        return launch.command(
            self._job.folder,
            rendered.training_file,
            script=script,
            precision=str(rendered.option("mixed_precision", "no")),
        )

    def prepare(self) -> bool:
        """See to all that training needs here; returns whether it may stay offline.

        What is missing is said before anything large is fetched.

        Raises:
            ConfigError: where something is missing that cannot be fetched.
            TrainerError: where a download fails.
        """
        if self.lacks:
            raise ConfigError(
                f"no NVIDIA GPU found, and {self.lacks} needs one. In Docker, add --gpus all; "
                "without a GPU, use --experiment smoke (the real trainer, small) or --rehearse"
            )
        if too_old := next((gpu.too_old for gpu in hardware.gpus() if gpu.too_old), None):
            raise ConfigError(f"{too_old}: use another GPU (CUDA_VISIBLE_DEVICES) or --rehearse")
        models = self._job.models
        return not base_models.provide(self._located(), models=models, announce=say).hub

    def _located(self) -> base_models.BaseModel:
        name = str(self._job.experiment.option("pretrained_model_name_or_path"))
        return base_models.locate(name, models=self._job.models)
