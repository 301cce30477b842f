"""The stand-in's weights, and the checkpoint and state files that the trainer would write of them.

The weights are few but carry the names, shapes and types of networks.lora for Stable Diffusion 1.5.
They walk at random, one stride an epoch, drawn from a generator whose state is part of the saved
state: a resume that did not really load it ends in other weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.numpy

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

# Module, inputs, outputs, kernel of a Conv2d (0: a Linear).
_MODULES = (
    ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 768, 768, 0),
    ("lora_unet_down_blocks_0_attentions_0_proj_in", 320, 320, 1),
    ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q", 320, 320, 0),
    ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 768, 640, 0),
)
# Only with conv_dim among the network_args.
_CONV_MODULE = ("lora_unet_down_blocks_0_resnets_0_conv1", 320, 320, 3)

_DTYPES: dict[str, type[np.floating[Any]]] = {"fp16": np.float16, "float": np.float32}

# Options that the metadata holds as "ss_" and their name (train_network.py:1003 at v0.10.1).
_IN_METADATA = """
cache_latents caption_dropout_rate clip_skip gradient_accumulation_steps gradient_checkpointing
learning_rate lr_scheduler lr_warmup_steps max_grad_norm max_token_length max_train_steps
min_snr_gamma mixed_precision multires_noise_discount multires_noise_iterations network_alpha
network_dim network_dropout network_module noise_offset output_name prior_loss_weight
scale_weight_norms seed text_encoder_lr unet_lr
"""

_MARK = "REHEARSAL"


class Network:
    """The one changing thing: weights in fp32 and their generator.

    Fresh weights have a lora_up of zeros, as in networks/lora.py, and rank 4 where none is given.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.rng = np.random.default_rng(args.seed)
        self.weights: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}
        for module in _MODULES:
            self._add(*module, args.network_dim or 4, args.network_alpha)
        extra = network_args(args)
        if "conv_dim" in extra:
            self._add(*_CONV_MODULE, int(extra["conv_dim"]), float(extra.get("conv_alpha", 1)))

    def _add(
        self, name: str, inputs: int, outputs: int, kernel: int, rank: int, alpha: float
    ) -> None:
        tail, ones = ((kernel, kernel), (1, 1)) if kernel else ((), ())
        down = self.rng.standard_normal((rank, inputs, *tail), dtype=np.float32)
        self.weights[f"{name}.lora_down.weight"] = down * np.float32(0.02)
        self.weights[f"{name}.lora_up.weight"] = np.zeros((outputs, rank, *ones), np.float32)
        self.weights[f"{name}.alpha"] = np.array(alpha, np.float32)

    def walk(self, steps: int) -> None:
        """Train for `steps` optimizer steps, an epoch."""
        for name in sorted(self.weights):
            if not name.endswith(".alpha"):
                stride = self.rng.standard_normal(self.weights[name].shape, dtype=np.float32)
                self.weights[name] = self.weights[name] + stride * np.float32(1e-5 * steps)


def network_args(args: argparse.Namespace) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in args.network_args or ())


def checkpoint_bytes(network: Network, args: argparse.Namespace, facts: dict[str, Any]) -> bytes:
    """A .safetensors file in `save_precision`, but bf16 as fp32: numpy has no bfloat16.

    `facts` are the metadata that are counted and not copied from an option.
    """
    dtype = _DTYPES.get(args.save_precision, np.float32)
    tensors = {name: value.astype(dtype) for name, value in network.weights.items()}
    digest = hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors)))
    comment = f"{_MARK}: weights of a stand-in, nothing was trained. {args.training_comment or ''}"
    header = {
        **{f"ss_{name}": getattr(args, name) for name in _IN_METADATA.split()},
        **{f"ss_{name}": value for name, value in facts.items()},
        "ss_training_comment": comment.strip(),
        "ss_optimizer": args.optimizer_type or "AdamW",
        "ss_base_model_version": "sd_v1",
        "modelspec.title": f"{_MARK} {args.output_name}",
        "sshs_model_hash": digest.hexdigest(),
    }
    if args.network_args:
        header["ss_network_args"] = json.dumps(network_args(args))
    return safetensors.numpy.save(tensors, {key: str(value) for key, value in header.items()})


def state_files(network: Network, told: dict[str, int], *, scaled: bool) -> dict[str, bytes]:
    """A state folder's files in the order in which accelerate 1.6 writes them."""
    files = {
        "train_state.json": json.dumps(told).encode(),
        "model.safetensors": safetensors.numpy.save(network.weights, {"format": "pt"}),
        "optimizer.bin": _archive("optimizer", {}),
        "scheduler.bin": _archive("scheduler", {}),
    }
    if scaled:
        files["scaler.pt"] = _archive("scaler", {})
    generator = {"generator": network.rng.bit_generator.state}
    return files | {"random_states_0.pkl": _archive("random_states_0", generator)}


def load_state(folder: Path, network: Network, *, scaled: bool) -> dict[str, int]:
    """Put a state's content into `network`; returns what its train_state.json says.

    Raises:
        Exception: of whatever kind a torn, missing or foreign file leads to.
    """
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    shapes = {name: value.shape for name, value in network.weights.items()}
    if {name: value.shape for name, value in weights.items()} != shapes:
        raise RuntimeError("Error(s) in loading state_dict for LoRANetwork: size mismatch")
    for name in ("optimizer.bin", "scheduler.bin", *(["scaler.pt"] if scaled else [])):
        _unarchive(folder / name)
    network.rng.bit_generator.state = _unarchive(folder / "random_states_0.pkl")["generator"]
    network.weights = weights
    told: dict[str, int] = json.loads((folder / "train_state.json").read_text(encoding="utf-8"))
    return told


def _archive(name: str, content: dict[str, Any]) -> bytes:
    """The container that torch.save writes: a stored zip with the pickle as NAME/data.pkl."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        # A fixed date, as torch.save has it: the same state is the same bytes.
        member = zipfile.ZipInfo(f"{name}/data.pkl", (1980, 1, 1, 0, 0, 0))
        archive.writestr(member, pickle.dumps({"mark": _MARK, **content}, protocol=2))
    return target.getvalue()


def _unarchive(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        data = archive.read(archive.namelist()[0])
    content: dict[str, Any] = pickle.loads(data)  # noqa: S301 - the trainer trusts it as well
    return content
