"""The captured step: what it leaves to the trainer, and that it changes no number."""

from __future__ import annotations

import copy
import importlib
import os
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import toml
from safetensors.numpy import load_file

torch: Any = pytest.importorskip("torch")
pytest.importorskip("bitsandbytes")
with warnings.catch_warnings():
    # The trainer's own, and its packages'.
    warnings.simplefilter("ignore")
    from bespoke.trainer import captured_options, captured_step, flat_adam, replay

    # The trainer's folder is on the path since captured_step is imported.
    lora: Any = importlib.import_module("networks.lora")

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    ),
]
# A block is 256 numbers: whole blocks, a part of one, and too few for 8-bit moments.
SHAPES = ((32, 320), (8, 320, 3, 3), (320, 8, 1, 1), (48, 100, 1, 1), (7, 999), (10,))


def groups(device: str) -> list[dict[str, Any]]:
    """Two groups of the optimizer with a learning rate each, the same in each call."""
    torch.manual_seed(1)
    return [
        {
            "lr": rate,
            "params": [torch.nn.Parameter(torch.randn(size, device=device) / 9) for size in SHAPES],
        }
        for rate in (5e-5, 1e-4)
    ]


def train(optimizer: Any, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
            for parameter in group["params"]:
                parameter.grad = torch.randn_like(parameter) * (10 if step % 3 else 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def pair(device: str) -> tuple[Any, Any]:
    plain = flat_adam.AdamW8bit(groups(device), lr=1e-3)
    return plain, flat_adam.FlatAdamW8bit(groups(device), lr=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_flat_weights_are_updated_to_the_bit_like_single_ones(device: str) -> None:
    plain, flat = pair(device)
    train(plain, range(12))
    train(flat, range(12))
    for one, other in zip(plain.param_groups, flat.param_groups, strict=True):
        assert same(one["params"], other["params"])
    assert same(plain.state_dict(), flat.state_dict())


@pytest.mark.parametrize("device", DEVICES)
def test_each_optimizer_goes_on_from_the_state_of_the_other(device: str) -> None:
    plain, flat = pair(device)
    train(plain, range(7))
    train(flat, range(7))
    states = copy.deepcopy(plain.state_dict()), copy.deepcopy(flat.state_dict())
    flat.load_state_dict(states[0])
    plain.load_state_dict(states[1])
    train(plain, range(7, 14))
    train(flat, range(7, 14))
    assert same(plain.state_dict(), flat.state_dict())


class CLIPAttention(torch.nn.Module):
    """Named as what networks/lora.py trains, with the two kinds of layer that it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(64, 64)
        self.conv = torch.nn.Conv2d(64, 64, 1)

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        return y + self.conv(y.transpose(1, 2)[..., None])[..., 0].transpose(1, 2)


class Transformer2DModel(CLIPAttention):
    pass


class Model(torch.nn.Module):
    """Stands for a text encoder or a UNet."""

    def __init__(self, layer: type[CLIPAttention]) -> None:
        super().__init__()
        self.layer = layer()
        self.requires_grad_(False)

    def forward(self, x: Any, return_dict: bool = True) -> Any:
        y = torch.tanh(self.layer(x))
        return replay.Output((y,)) if return_dict else (y,)


def network(device: str, rank: int = 64) -> tuple[Any, Any, Any]:
    """Text encoder, UNet and the trainer's LoRA applied to both; the same in each call."""
    torch.manual_seed(2)
    text, unet = Model(CLIPAttention).to(device), Model(Transformer2DModel).to(device)
    made = lora.create_network(1.0, rank, rank / 2, None, text, unet)
    made.apply_to(text, unet, True, True)
    for each in made.parameters():
        torch.nn.init.normal_(each, std=0.1)
    return text, unet, made.to(device)


def prepared(optimizer_class: Any, device: str = "cpu") -> tuple[Any, Any, Any, Any, Any]:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # One process keeps one, with the device of the first.
    AcceleratorState._reset_state(reset_partial_state=True)
    text, unet, made = network(device)
    for model in (text, unet):
        # As accelerate wraps a model for mixed precision.
        model._original_forward = model.forward
        if device == "cuda":
            model.forward = torch.autocast("cuda", torch.bfloat16)(model.forward)
    optimizer = optimizer_class(made.prepare_optimizer_params(5e-5, 1e-4, 1e-4)[0], lr=1e-4)
    accelerator = Accelerator(cpu=device == "cpu")
    made, optimizer = accelerator.prepare(made, optimizer)
    return accelerator, text, unet, made, optimizer


def captured(device: str = "cpu") -> tuple[Any, Any, Any, Any, Any, Any]:
    """A captured trainer as it is before the first step, and its parts."""
    parts = prepared(flat_adam.FlatAdamW8bit, device)
    trainer = captured_step.CapturedTrainer()
    trainer.network = parts[3]
    trainer._begin(*parts[:3])
    return trainer, *parts


def step(text: Any, unet: Any, optimizer: Any, batch: int = 4) -> float:
    x = torch.linspace(-1, 1, batch * 5 * 64, device=next(unet.parameters()).device)
    hidden = text(x.view(batch, 5, 64))[0]
    loss = unet(hidden.float()).sample.float().square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss)


def test_a_state_written_by_either_is_whole_and_loaded_by_the_other(tmp_path: Path) -> None:
    plain = prepared(flat_adam.AdamW8bit)
    _, *flat = captured()
    for _, text, unet, _, optimizer in (plain, flat):
        losses = [step(text, unet, optimizer) for _ in range(3)]
        assert losses[2] < losses[0]
    plain[0].save_state(tmp_path / "plain")
    flat[0].save_state(tmp_path / "flat")
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("plain", "flat")]
    # Two alphas and four weights a layer: accelerate drops all but one of what shares a storage.
    assert len(files[0]) == len(files[1]) == 12
    assert all((files[0][key] == files[1][key]).all() for key in files[0])
    fresh, (_, *fresh_flat) = prepared(flat_adam.AdamW8bit), captured()
    fresh[0].load_state(tmp_path / "flat")
    fresh_flat[0].load_state(tmp_path / "plain")
    for _, text, unet, _, optimizer in (plain, fresh, fresh_flat):
        step(text, unet, optimizer)
    wanted = list(plain[3].parameters())
    assert same(wanted, list(fresh[3].parameters()))
    assert same(wanted, list(fresh_flat[3].parameters()))
    assert same(plain[4].state_dict(), fresh_flat[4].state_dict())


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said where there is no GPU")
def test_where_nothing_can_be_recorded_the_models_own_way_is_gone_and_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer, _, text, unet, _, optimizer = captured()
    for each in trainer.replayed:
        each.full_batch = True
    own = prepared(flat_adam.AdamW8bit)
    for batch in (4, 4, 3):
        assert step(text, unet, optimizer, batch) == step(own[1], own[2], own[4], batch)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all("goes the trainer's own way: " in line for line in lines)
    assert sum("not the shape of the first full batch" in line for line in lines) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_replay_is_the_models_own_step(capsys: pytest.CaptureFixture[str]) -> None:
    runs = []
    for flat in (False, True):
        parts = captured("cuda") if flat else (None, *prepared(flat_adam.AdamW8bit, "cuda"))
        trainer, _, text, unet, _, optimizer = parts
        for each in trainer.replayed if trainer else ():
            each.full_batch = True
        torch.cuda.manual_seed(3)
        losses = [step(text, unet, optimizer, batch) for batch in (4, 4, 3, 4)]
        with torch.no_grad():
            picture = unet(torch.ones(2, 5, 64, device="cuda")).sample
            again = unet(torch.ones(2, 5, 64, device="cuda")).sample
        assert torch.equal(picture, again)
        step(text, unet, optimizer)
        with torch.no_grad():
            later = unet(torch.ones(2, 5, 64, device="cuda")).sample
        # The weights that a graph reads are those that are trained.
        assert not torch.equal(picture, later)
        runs.append((losses, picture.float(), later.float(), torch.rand(3, device="cuda")))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-3)
    assert torch.allclose(runs[0][1], runs[1][1], atol=0.02)
    assert torch.allclose(runs[0][2], runs[1][2], atol=0.02)
    assert torch.equal(runs[0][3], runs[1][3]), "recording moved the random stream"
    said = capsys.readouterr().out
    assert said.count("recorded in") == 3
    assert said.count("own way") == 2


def options(**changed: Any) -> Any:
    """The trainer's options as the plan renders them, with these changed."""
    chosen = {"mixed_precision": "bf16", "network_module": "networks.lora", "cache_latents": True}
    arguments = captured_step.train_network.setup_parser().parse_args([])
    for key, value in (chosen | {"optimizer_type": "AdamW8bit"} | changed).items():
        assert hasattr(arguments, key), f"{key} is no option of the trainer"
        setattr(arguments, key, value)
    return arguments


@pytest.mark.parametrize(
    "changed",
    [
        {"gradient_accumulation_steps": 4},
        {"gradient_checkpointing": True},
        {"mixed_precision": "fp16"},
        {"network_module": "lycoris.kohya"},
        {"network_args": ["conv_dim=8", "rank_dropout=0.1"]},
        {"network_dropout": 0.1},
        {"optimizer_type": "AdamW"},
        {"v_parameterization": True},
        {"masked_loss": True},
        {"unet_lr": 0.0},
    ],
)
def test_an_option_that_was_not_tried_is_named(changed: dict[str, Any]) -> None:
    reason = captured_step.reason_against(options(**changed))
    assert reason
    assert next(iter(changed)) in reason
    assert "not tried" in reason


def test_every_option_that_must_be_off_is_one_of_the_trainers() -> None:
    arguments = options()
    assert all(
        hasattr(arguments, name) for name in (*captured_options.OFF, *captured_options.TRIED)
    )


def test_what_the_plan_renders_needs_nothing_but_a_gpu() -> None:
    reason = captured_step.reason_against(options(network_args=["conv_dim=8", "conv_alpha=4"]))
    assert reason == (None if torch.cuda.is_available() else "there is no NVIDIA GPU")


@pytest.mark.trainer
def test_started_without_a_gpu_it_trains_the_trainers_bytes(
    smoke_run: Path, tmp_path: Path
) -> None:
    (rendered,) = smoke_run.glob("logs/*/*/training.toml")
    settings = toml.loads(rendered.read_text()) | {"output_dir": str(tmp_path)}
    training_file = tmp_path / "training.toml"
    training_file.write_text(toml.dumps(settings))
    done = subprocess.run(
        [sys.executable, captured_step.__file__, "--config_file", str(training_file)],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "captured step: left out: " in done.stdout
    # The trainer's last one has no number of its own, and is the second here.
    ours = sorted(tmp_path.glob("*.safetensors"))
    theirs = sorted((smoke_run / "output").glob("*-00000?.safetensors"))
    for one, other in zip(ours, theirs, strict=True):
        rows, wanted = load_file(one), load_file(other)
        assert rows.keys() == wanted.keys()
        assert all((rows[key] == wanted[key]).all() for key in wanted), one.name
