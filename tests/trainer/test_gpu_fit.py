"""A plan fits the machine, keeps the effective batch, leaves what a person wrote, and says so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import toml

from bespoke.experiment import config
from bespoke.trainer import gpu_fit
from bespoke.trainer.hardware import Gpu
from tests.trainer.rehearsals import NAME, REPOSITORY, driver, rehearse

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.experiment.experiment import Experiment

CARDS = {
    "NVIDIA GeForce RTX 3090": (24576, (8, 6)),
    "NVIDIA GeForce RTX 4090": (24564, (8, 9)),
    "NVIDIA GeForce RTX 5090": (32607, (12, 0)),
    "NVIDIA A100-SXM4-80GB": (81920, (8, 0)),
    "NVIDIA L40S": (46068, (8, 9)),
    "NVIDIA H100 80GB HBM3": (81559, (9, 0)),
    "NVIDIA H200": (143771, (9, 0)),
}


def gpu(name: str, memory: int, capability: tuple[int, int], *, used: int = 0) -> Gpu:
    return Gpu(name=name, memory_mib=memory, used_mib=used, capability=capability)


@pytest.fixture(autouse=True)
def _xformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bespoke.trainer.hardware.xformers_loads", lambda: True)


@pytest.fixture(scope="module")
def experiment(repository: Path) -> Experiment:
    return config.load("keep_tokens_3", repository=repository)


def planned(
    experiment: Experiment, on: Gpu, begun: dict[str, object] | None = None
) -> dict[str, object]:
    changes, _ = gpu_fit.plan(on, experiment, begun)
    fitted = gpu_fit.apply(changes, experiment)
    return {key: fitted.option(key) for key in gpu_fit.KEYS}


@pytest.mark.parametrize("card", CARDS)
def test_a_card_of_24_gb_and_more_takes_the_whole_batch_at_once_in_bf16(
    experiment: Experiment, card: str
) -> None:
    assert planned(experiment, gpu(card, *CARDS[card])) == {
        "train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False,
        "mixed_precision": "bf16",
        # The captured step was tried with sdpa.
        "xformers": False,
        "sdpa": True,
        "highvram": True,
        "vae_batch_size": 16,
    }


@pytest.mark.parametrize(
    ("card", "pin", "reason"),
    [
        ((24576, (8, 6)), "training.seed=1", None),
        ((81559, (9, 0)), 'training.network_args=["conv_dim=8", "conv_alpha=4"]', None),
        ((16384, (8, 6)), "training.seed=1", "it takes 14090 MiB and a margin"),
        ((24576, (7, 5)), "training.seed=1", "mixed_precision = 'fp16' was not tried"),
        ((24576, (8, 6)), "training.xformers=true", "xformers was not tried"),
        ((24576, (8, 6)), "training.train_batch_size=2", "only a batch of 4 was tried"),
        ((24576, (8, 6)), 'training.optimizer_type="AdamW"', "'AdamW' was not tried"),
    ],
)
def test_the_step_is_captured_where_that_was_tried(
    repository: Path, card: tuple[int, tuple[int, int]], pin: str, reason: str | None
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository, overrides=[pin])
    _, against = gpu_fit.plan(gpu("a card", *card), experiment)
    assert against is None if reason is None else reason in str(against)


def test_a_variable_leaves_the_captured_step_out(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BESPOKE_CAPTURE", "0")
    changes, reason = gpu_fit.plan(gpu("NVIDIA H100", 81559, (9, 0)), experiment)
    assert reason == "BESPOKE_CAPTURE is 0"
    assert "xformers" not in changes


def test_a_card_before_ampere_keeps_fp16(experiment: Experiment) -> None:
    chosen = planned(experiment, gpu("Tesla T4", 15360, (7, 5)))
    assert chosen["mixed_precision"] == "fp16"
    assert chosen["train_batch_size"] == 4


@pytest.mark.parametrize(
    ("memory", "batch", "checkpointing"),
    [(16384, 4, False), (12288, 4, False), (8192, 2, False), (6144, 4, True), (4096, 1, True)],
)
def test_a_smaller_card_gets_what_fits_with_a_margin_at_the_same_product(
    experiment: Experiment, memory: int, batch: int, checkpointing: bool
) -> None:
    chosen = planned(experiment, gpu("small", memory, (8, 6)))
    assert (chosen["train_batch_size"], chosen["gradient_checkpointing"]) == (batch, checkpointing)
    assert chosen["gradient_accumulation_steps"] == 4 // batch


def test_memory_that_others_use_is_not_planned_with(experiment: Experiment) -> None:
    chosen = planned(experiment, gpu("shared", 24564, (8, 6), used=17000))
    assert chosen["train_batch_size"] == 2


@pytest.mark.parametrize(
    ("pin", "kept"),
    [
        ("training.train_batch_size=1", {"train_batch_size": 1, "gradient_accumulation_steps": 4}),
        ("training.gradient_accumulation_steps=4", {"train_batch_size": 1}),
        ("training.gradient_checkpointing=true", {"gradient_checkpointing": True}),
        ("training.mixed_precision=fp16", {"mixed_precision": "fp16"}),
        ("training.highvram=false", {"highvram": False}),
        ("training.vae_batch_size=2", {"vae_batch_size": 2}),
    ],
)
def test_what_a_person_wrote_is_never_changed(
    repository: Path, pin: str, kept: dict[str, object]
) -> None:
    pinned = config.load("keep_tokens_3", repository=repository, overrides=[pin])
    chosen = planned(pinned, gpu("NVIDIA H100", 81559, (9, 0)))
    assert {key: chosen[key] for key in kept} == kept
    product = int(str(chosen["train_batch_size"])) * int(str(chosen["gradient_accumulation_steps"]))
    assert product == 4


def test_an_experiments_own_file_pins_too(repository: Path) -> None:
    smoke = config.load("smoke", repository=repository)
    changes, _ = gpu_fit.plan(gpu("NVIDIA H100", 81559, (9, 0)), smoke)
    assert set(changes) == {"highvram", "vae_batch_size"}


def test_an_interrupted_run_keeps_its_plan_on_another_card(experiment: Experiment) -> None:
    large = planned(experiment, gpu("NVIDIA H100", 81559, (9, 0)))
    begun = {f"training.{key}": value for key, value in large.items()}
    resumed = planned(experiment, gpu("Quadro RTX 8000", 8192, (7, 5)), begun)
    assert {key: resumed[key] for key in gpu_fit.KEPT} == {key: large[key] for key in gpu_fit.KEPT}
    # How latents are made is no part of the run.
    assert resumed["vae_batch_size"] == 8


# --- Through the command line, with a driver that answers as the real one would ------------------


H100 = "NVIDIA H100 80GB HBM3, 81559, 0, 9.0, GPU-1"
SMALL = "NVIDIA GeForce RTX 3070, 8192, 0, 8.6, GPU-2"
OLD = "NVIDIA GeForce GTX 1060, 6144, 0, 6.1, GPU-3"


def receipt(place: Path) -> dict[str, dict[str, object]]:
    newest = max((place / "rehearsal" / "logs" / NAME).iterdir())
    rows: dict[str, dict[str, object]] = toml.loads((newest / "receipt.toml").read_text())[
        "training"
    ]
    return rows


def test_the_receipt_names_every_changed_key_and_as_written_changes_none(
    drawn: Path, tmp_path: Path
) -> None:
    environment = driver(tmp_path / "h100", H100)
    done = rehearse(tmp_path / "auto", drawn, epochs=2, **environment)
    assert done.returncode == 0, done.stderr
    rows = receipt(tmp_path / "auto")
    changed = {key for key, row in rows.items() if row["from"] == "plan"}
    assert changed >= {"train_batch_size", "mixed_precision", "gradient_checkpointing", "highvram"}
    assert all(rows[key]["why"] for key in changed)
    assert rows["train_batch_size"]["was"] == 1
    assert rows["xformers"]["why"] == "the captured step"
    lines = done.stdout.splitlines()
    first = next(n for n, line in enumerate(lines) if "plan for NVIDIA H100" in line)
    assert "the step is captured" in lines[first]
    assert "train_batch_size 1 -> 4" in lines[first + 1]
    assert "effective batch 4 as before" in lines[first + 1]
    assert re.search(r"1016 steps and \d+ test pictures: about [23] minutes", lines[first + 2])
    written = rehearse(tmp_path / "w", drawn, "--plan", "as-written", epochs=2, **environment)
    assert written.returncode == 0, written.stderr
    assert [key for key, row in receipt(tmp_path / "w").items() if row["from"] == "plan"] == []


@pytest.mark.parametrize(("variable", "script"), [("1", "captured_step"), ("0", "train_network")])
@pytest.mark.usefixtures("sd_scripts")
def test_the_command_starts_the_captured_step_or_the_trainers_own(
    drawn: Path, tmp_path: Path, variable: str, script: str
) -> None:
    run = (sys.executable, "-m", "bespoke.run", "--experiment", "keep_tokens_3", "--dry-run")
    done = subprocess.run(
        [*run, "--data", str(drawn), "--workspace", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, **driver(tmp_path / "h100", H100), "BESPOKE_CAPTURE": variable},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"/{script}.py --config_file" in done.stdout
    (file,) = tmp_path.glob("logs/*/dry_run/receipt.toml")
    assert toml.loads(file.read_text())["captured_step"] is (variable == "1")


def test_a_card_that_torch_cannot_use_is_not_planned_for(drawn: Path, tmp_path: Path) -> None:
    done = rehearse(tmp_path, drawn, "--dry-run", epochs=2, **driver(tmp_path / "old", OLD))
    assert "6.1, and torch 2.10 needs 7.0 or newer, so no option is changed" in done.stdout


def test_xformers_that_does_not_load_gives_way_to_sdpa(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bespoke.trainer.hardware.xformers_loads", lambda: False)
    chosen = planned(experiment, gpu("NVIDIA L40S", 46068, (8, 9)))
    assert (chosen["xformers"], chosen["sdpa"]) == (False, True)


def test_larger_pictures_than_were_measured_are_not_planned_for(
    drawn: Path, tmp_path: Path
) -> None:
    larger = ("--set", "dataset.resolution=768", "--dry-run")
    done = rehearse(tmp_path, drawn, *larger, epochs=2, **driver(tmp_path / "h100", H100))
    assert "plan: memory is measured for pictures up to 512 px" in done.stdout


def test_a_run_resumes_elsewhere_with_the_plan_it_began_with(drawn: Path, tmp_path: Path) -> None:
    begun = driver(tmp_path / "h100", H100) | {"BESPOKE_FAKE_TRAINER_FAULT": "fail@600"}
    place = tmp_path / "place"
    assert rehearse(place, drawn, epochs=2, **begun).returncode == 4
    large = receipt(place)
    done = rehearse(place, drawn, epochs=2, **driver(tmp_path / "small", SMALL))
    assert done.returncode == 0, done.stderr
    assert "resuming after epoch 1" in done.stdout
    small = receipt(place)
    for key in (*gpu_fit.SPLIT, "mixed_precision"):
        assert small[key]["value"] == large[key]["value"]
    assert (large["vae_batch_size"]["value"], small["vae_batch_size"]["value"]) == (16, 8)
