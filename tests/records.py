"""Runs, results and decisions as the tests of the record make them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bespoke.evaluation.epoch_result import EpochResult, PictureResult
from bespoke.evaluation.gate import Decision
from bespoke.evaluation.scoring import Scores
from bespoke.files import document_path
from bespoke.record.run_record import RunRecord
from bespoke.record.store import RunFile

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.record.run_record import Send

HOSTILE = "R'\"; DROP TABLE training_runs; --\n<b>[red]\u202e$(id) \u00e9\U0001f3a8"


def scores(*three: int | None) -> Scores:
    visual, style, adherence = three
    return Scores(visual_quality=visual, style_match=style, prompt_adherence=adherence)


def a_run(name: str = "KEEP_3", **known: Any) -> RunRecord:
    settings = {
        "training.unet_lr": {"value": 1e-4, "from": "training_config.toml"},
        "training.seed": {"value": 42, "from": "training_config.toml"},
        "training.output_name": {"value": "keep_3", "from": "experiments/keep_tokens_3.toml"},
        "training.noise_offset": {"value": 0.0, "from": "--set"},
        "dataset.general.keep_tokens": {
            "value": 3,
            "from": "experiments/keep_tokens_3.toml",
            "was": 1,
            "was_from": "dataset_config.toml",
        },
        "dataset.general.resolution": {"value": 512, "from": "dataset_config.toml"},
    }
    made = {
        "experiment": "keep_tokens_3",
        "settings": settings,
        "started": "2026-11-25T10:00:00+00:00",
        "facts": {"num_images": 203, "gpu_type": "RTX 4090", "price_per_hour": 0.5},
        "preflight": {"verdict": "goes", "findings": []},
        "expected": ("green background by epoch 3 to 4",),
        **known,
    }
    return RunRecord(name=name, **made)


def a_result(
    run: str = "KEEP_3",
    epoch: int | None = 1,
    given: Scores | None = None,
    *,
    backgrounds: tuple[str, ...] = ("match", "mismatch", "match"),
    **known: Any,
) -> EpochResult:
    given = given or scores(7, 7, 8)
    pictures = tuple(
        PictureResult(
            prompt=f"lady_{number}",
            text=f"pixel art, {HOSTILE}",
            seed=2**40 + number,
            file=f"{number}.png",
            sha256=f"{number:064}",
            measured={"background": {"verdict": verdict, "distance": 0.1}},
        )
        for number, verdict in enumerate(backgrounds)
    )
    made = {
        "checkpoint": f"output/x-{epoch or 0:06}.safetensors",
        "checkpoint_sha256": f"{epoch or 0:064}",
        "checkpoint_size": 37_863_000,
        "folder": f"tests/x-{epoch}",
        "metrics_version": 1,
        "pictures": pictures,
        "scores": given,
        "scored_by": "metrics",
        "tested": "2026-11-25T11:00:00+00:00",
        **known,
    }
    return EpochResult(run=run, epoch=epoch, **made)


def a_decision(epoch: int = 1, outcome: Any = "GO", **known: Any) -> Decision:
    made = {"reason": "the background is right", "evidence": {"match": 2}, **known}
    return Decision(epoch=epoch, outcome=outcome, **made)


def a_file(workspace: Path, name: str = "KEEP_3", send: Send | None = None) -> RunFile:
    """The file in which a run of this name is recorded."""
    return RunFile(workspace, document_path(workspace / "output", name), send)


def a_recorded(workspace: Path, run: RunRecord, *results: EpochResult) -> RunFile:
    """A run that has begun, and its epochs' results, in the record."""
    kept = a_file(workspace, run.name)
    kept.begin(run)
    for result in results:
        kept.epoch(result, None)
    return kept
