"""The options that the captured step was tried with; all others of a run are free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TRIED: Mapping[str, Any] = {
    "mixed_precision": "bf16",
    "gradient_accumulation_steps": 1,
    "network_module": "networks.lora",
    "optimizer_type": "AdamW8bit",
    "loss_type": "l2",
    "cache_latents": True,
}
OFF = (
    *("gradient_checkpointing", "torch_compile", "deepspeed", "full_fp16", "full_bf16"),
    *("fp8_base", "fp8_base_unet", "v2", "v_parameterization", "clip_skip", "weighted_captions"),
    *("masked_loss", "network_dropout", "scale_weight_norms", "dim_from_weights", "optimizer_args"),
    *("network_train_unet_only", "network_train_text_encoder_only", "use_8bit_adam", "xformers"),
)
NETWORK_ARGS = ("conv_dim", "conv_alpha")


def reason_against(option: Callable[[str], Any]) -> str | None:
    """Why a run with these training options cannot be captured; None where it can."""
    return next(_reasons(option), None)


def _reasons(option: Callable[[str], Any]) -> Iterator[str]:
    for key, value in TRIED.items():
        if option(key) != value:
            yield f"{key} = {option(key)!r} was not tried, only {value!r}"
    yield from (f"{key} was not tried" for key in OFF if option(key))
    for argument in option("network_args") or ():
        if argument.split("=")[0] not in NETWORK_ARGS:
            yield f"network_args {argument!r} was not tried"
    for key in ("unet_lr", "text_encoder_lr"):
        # The trainer then leaves these weights out of the optimizer (networks/lora.py:1187).
        if option(key) in (0, [], [0]):
            yield f"{key} = 0 was not tried"
