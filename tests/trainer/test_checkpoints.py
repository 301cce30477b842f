"""What the trainer leaves is complete, or it is said what is not."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bespoke.errors import ConfigError, TrainerError
from bespoke.trainer import checkpoints

if TYPE_CHECKING:
    from pathlib import Path


def checkpoint(folder: Path, name: str, epoch: int | str = 1, tensors: int = 1) -> Path:
    path = folder / name
    rows = {f"lora_{i}.weight": np.ones((4, 4), np.float16) for i in range(tensors)}
    metadata = {"ss_epoch": str(epoch), "ss_network_dim": "32", "ss_network_alpha": "16"}
    save_file(rows, path, metadata if epoch != "" else None)
    return path


def test_complete_checkpoints_of_the_right_epochs_have_no_problem(tmp_path: Path) -> None:
    checkpoint(tmp_path, "a-000001.safetensors", 1)
    checkpoint(tmp_path, "a.safetensors", 2)
    checkpoints.number_last(tmp_path, "a", 2)
    assert [checkpoints.problem(tmp_path, "a", epoch) for epoch in (1, 2)] == [None, None]
    assert not (tmp_path / "a.safetensors").exists()


def test_what_is_wrong_with_a_checkpoint_is_said(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, "a-000001.safetensors", 1)
    whole.write_bytes(whole.read_bytes()[:-1])
    checkpoint(tmp_path, "a-000002.safetensors", 7)
    checkpoint(tmp_path, "a-000003.safetensors", "")
    (tmp_path / "a-000004.safetensors").write_bytes(b"")
    said = [checkpoints.problem(tmp_path, "a", epoch) or "" for epoch in range(1, 6)]
    assert said[0].startswith("a-000001.safetensors: incomplete or damaged")
    assert said[1] == "a-000002.safetensors: carries epoch 7"
    assert said[2].startswith("a-000003.safetensors: no epoch in its metadata")
    assert said[3].startswith("a-000004.safetensors: incomplete or damaged")
    assert said[4] == "a-000005.safetensors: there is no such file"


def test_numbering_the_last_never_overwrites(tmp_path: Path) -> None:
    numbered = checkpoint(tmp_path, "a-000003.safetensors", 3)
    checkpoint(tmp_path, "a.safetensors", 3, tensors=2)
    before = numbered.read_bytes()
    checkpoints.number_last(tmp_path, "a", 3)
    assert numbered.read_bytes() == before


def test_only_files_of_this_very_name_are_an_earlier_runs(tmp_path: Path) -> None:
    mine = ["a-000001.safetensors", "a.safetensors", "a-000001-state", "a-state"]
    others = ["ab-000001.safetensors", "a_b.safetensors", "a-000001.txt", "a-fine.safetensors"]
    for name in (*mine, *others):
        (tmp_path / name).touch()
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample" / "a_e000001_00_20260101000000_42.png").touch()
    (tmp_path / "sample" / "ab_e000001_00_20260101000000_42.png").touch()
    left = checkpoints.left_by(tmp_path, "a")
    assert {path.name for path in left} == {*mine, "a_e000001_00_20260101000000_42.png"}


# What a checkpoint is, by its content


TE = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
UNET = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(
    folder: Path,
    name: str,
    *,
    epoch: int | None = None,
    rank: int = 32,
    modules: tuple[str, ...] = (TE, UNET),
    value: float = 1.0,
    **told: str,
) -> Path:
    """A small LoRA under the trainer's names; `told` becomes metadata, with ss_ before."""
    rows = {}
    for module in modules:
        rows[f"{module}.lora_down.weight"] = np.full((rank, 768), value, np.float16)
        rows[f"{module}.lora_up.weight"] = np.ones((320, rank), np.float16)
        rows[f"{module}.alpha"] = np.array(rank / 2, np.float16)
    metadata = {f"ss_{key}": text for key, text in told.items()}
    if epoch is not None:
        metadata["ss_epoch"] = str(epoch)
    save_file(rows, folder / name, metadata or None)
    return folder / name


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    path = lora(tmp_path, "mine-000004.safetensors", epoch=7, output_name="theirs", clip_skip="2")
    read = checkpoints.identify(path)
    assert (read.name, read.epoch, read.clip_skip) == ("theirs", 7, 2)
    step = lora(tmp_path, "mine-step00000500.safetensors", epoch=1)
    assert checkpoints.identify(step).epoch is None
    bare = checkpoints.identify(lora(tmp_path, "a-2024-000010.safetensors"))
    assert (bare.name, bare.epoch, bare.clip_skip) == ("a-2024", 10, None)


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        (("lora_te1_text_model_encoder_layers_0_mlp_fc1", UNET), "it holds lora_te1_"),
        (("unet.down_blocks.0.lora_A",), "it holds unet.down_blocks"),
        (("model.diffusion_model.input_blocks.0.0",), "it holds model.diffusion_model"),
        ((), "it holds no weights"),
    ],
)
def test_a_file_for_something_else_is_refused_by_what_it_holds(
    tmp_path: Path, modules: tuple[str, ...], told: str
) -> None:
    path = lora(tmp_path, "a.safetensors", modules=modules)
    with pytest.raises(ConfigError, match=f"not a LoRA of networks.lora .*{re.escape(told)}"):
        checkpoints.identify(path)


def test_a_diverged_checkpoint_is_refused_for_it_would_spoil_those_beside_it(
    tmp_path: Path,
) -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(ConfigError, match=r"training diverged: .* holds NaN or infinity"):
            checkpoints.identify(lora(tmp_path, "a.safetensors", value=value))
    checkpoints.identify(lora(tmp_path, "a.safetensors", value=65504))


def test_a_file_that_is_missing_or_no_safetensors_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").write_text("<html>not found</html>")
    for name, why in (("b", "incomplete or damaged"), ("c", "there is no such file")):
        with pytest.raises(ConfigError, match=rf"{name}\.safetensors: {why}"):
            checkpoints.identify(tmp_path / f"{name}.safetensors")


def state(folder: Path, *, scaled: bool) -> Path:
    """A state as accelerate writes it, small."""
    folder.mkdir()
    (folder / "train_state.json").write_text('{"current_epoch": 3, "current_step": 9}')
    save_file({"x": np.ones(4, np.float32)}, folder / checkpoints.WEIGHTS)
    names = ["optimizer.bin", "scheduler.bin", "random_states_0.pkl"]
    for name in [*names, *(["scaler.pt"] if scaled else [])]:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("data.pkl", b"content" * 9)
    return folder


def test_a_state_without_its_scaler_is_corrupt_in_fp16_alone(tmp_path: Path) -> None:
    complete, without = state(tmp_path / "a", scaled=True), state(tmp_path / "b", scaled=False)
    assert checkpoints.corruption(complete, scaled=True) is None
    assert checkpoints.corruption(without) is None
    assert "scaler.pt" in (checkpoints.corruption(without, scaled=True) or "")


def test_no_flipped_byte_of_a_state_is_more_than_a_corrupt_state(tmp_path: Path) -> None:
    folder = state(tmp_path / "a", scaled=True)
    for name in ("optimizer.bin", "train_state.json", checkpoints.WEIGHTS):
        content = (folder / name).read_bytes()
        for at in range(len(content)):
            changed = bytearray(content)
            changed[at] ^= 0xFF
            (folder / name).write_bytes(changed)
            why = checkpoints.corruption(folder)
            assert why is None or name in why
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("epoch", ["9" * 5000, "٣", "-1", ""])
def test_an_epoch_that_no_run_can_have_is_none(tmp_path: Path, epoch: str) -> None:
    path = tmp_path / "a.safetensors"
    rows = load_file(lora(tmp_path, "a.safetensors"))
    save_file(rows, path, {"ss_epoch": epoch})
    assert checkpoints.identify(path).epoch is None
    with pytest.raises(TrainerError, match="no epoch in its metadata"):
        checkpoints.read_epoch(path)
