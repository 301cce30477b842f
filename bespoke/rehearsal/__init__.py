"""The whole way without a GPU: drawn pictures, and a fake trainer as a run sees it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bespoke.experiment.rendering import Rendered


class FakeTrainer:
    """Needs no GPU, no base model and no download."""

    commit: str | None = None
    tokenizer: Path | None = None
    base_model: str = "REHEARSAL"
    base_model_name: str = "REHEARSAL"
    lacks: str | None = None

    def command(self, rendered: Rendered) -> list[str]:
        script = Path(__file__).parent / "fake_trainer.py"
        return [sys.executable, str(script), "--config_file", str(rendered.training_file)]

    def require(self) -> None:
        """Do nothing: it is always there, and needs no model."""

    prepare = require
