"""LoRA weights and AdamW8bit's moments end to end in single tensors, for the captured step.

Facts marked bnb were read in bitsandbytes 0.50.2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from bitsandbytes.functional import optimizer_update_8bit_blockwise
from bitsandbytes.optim import AdamW8bit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# bnb keeps one scale for so many numbers of a moment, and 32-bit moments of a smaller tensor.
BLOCK, SMALL = 256, 4096


class FlatWeights:
    """The weights of one group of the optimizer, end to end in one tensor.

    The trainer's parameters become views of it, so that saving, resuming and every eager step use
    the same numbers. Each begins with a block of its own: bnb's blocks over the whole are then its
    blocks over the single tensors.

    `weights`: (n,) float32, zeros between the parameters. `weights.grad` is all their gradients.
    """

    def __init__(self, parameters: Iterable[Any]) -> None:
        # Those with 8-bit moments first: they are updated as one tensor.
        self.parameters = sorted(parameters, key=lambda each: each.numel() < SMALL)
        self.large = [each for each in self.parameters if each.numel() >= SMALL]
        self.sizes = [math.ceil(each.numel() / BLOCK) * BLOCK for each in self.parameters]
        self.weights = torch.nn.Parameter(self.join(self.parameters))
        for parameter, piece in self.split(self.weights.detach()):
            parameter.data = piece

    def split(self, whole: Any) -> Iterator[tuple[Any, Any]]:
        """Each parameter with its part of `whole`, in its shape."""
        for parameter, piece in zip(self.parameters, whole.split(self.sizes), strict=True):
            size = parameter.numel()
            yield parameter, (piece if len(piece) == size else piece[:size]).view(parameter.shape)

    def join(self, tensors: Iterable[Any]) -> Any:
        """One tensor of one for each parameter; None stands for zeros."""
        whole = torch.zeros(sum(self.sizes), device=self.parameters[0].device)
        for (_, piece), tensor in zip(self.split(whole), tensors, strict=True):
            if tensor is not None:
                piece.copy_(tensor.detach())
        return whole

    def collect_gradients(self) -> None:
        """Have `weights.grad`, also after a step that no graph was replayed for."""
        if self.weights.grad is None:
            self.weights.grad = self.join(each.grad for each in self.parameters)
            for each in self.parameters:
                each.grad = None


class FlatAdamW8bit(AdamW8bit):  # type: ignore[misc]
    """AdamW8bit with one update for all large tensors of a group.

    bnb updates one tensor after the other, and waits for the GPU after each (bnb optim/optimizer.py
    `step`). The numbers are the same to the bit, and each loads the other's `state_dict`.
    """

    flats: Sequence[FlatWeights] = ()
    moments: Sequence[Mapping[str, Any]] = ()

    def flatten(self) -> Sequence[FlatWeights]:
        """Make each group's weights flat, where they are not: once a resume has loaded them."""
        self.flats = self.flats or [FlatWeights(group["params"]) for group in self.param_groups]
        return self.flats

    def load_state_dict(self, state_dict: Any, move_to_device: bool = True) -> None:
        super().load_state_dict(state_dict, move_to_device)
        self.moments = ()

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for flat in self.flats:
            flat.weights.grad = None

    def step(self, closure: None = None) -> None:
        self.moments = self.moments or [
            self._flat_moments(index, flat) for index, flat in enumerate(self.flatten())
        ]
        for group, flat, moments in zip(self.param_groups, self.flats, self.moments, strict=True):
            flat.collect_gradients()
            if flat.large:
                self._update(group, flat, moments)
            if len(flat.large) < len(flat.parameters):
                for parameter, gradient in flat.split(flat.weights.grad):
                    parameter.grad = gradient if parameter.numel() < SMALL else None
        # The small ones: bnb passes over what has no gradient of its own.
        super().step(closure)

    def _update(self, group: Any, flat: FlatWeights, moments: Mapping[str, Any]) -> None:
        for parameter in flat.large:
            self.state[parameter]["step"] += 1
        state, end = self.state[flat.large[0]], len(moments["state1"])
        optimizer_update_8bit_blockwise(
            *("adam", flat.weights.grad[:end], flat.weights.detach()[:end]),
            *(moments["state1"], moments["state2"], *group["betas"], 0.0, 0.0, group["eps"]),
            *(state["step"], group["lr"], state["qmap1"], state["qmap2"]),
            *(moments["absmax1"], moments["absmax2"], group["weight_decay"]),
        )

    def _flat_moments(self, index: int, flat: FlatWeights) -> Mapping[str, Any]:
        """The large tensors' moments end to end; the parameters' own become views of them."""
        group = self.param_groups[index]
        for number, parameter in enumerate(group["params"]):
            if not self.state[parameter]:
                self.init_state(group, parameter, index, number)
        states, moments = [self.state[each] for each in flat.large], {}
        for key in ("state1", "state2", "absmax1", "absmax2") if states else ():
            unit = BLOCK if key.startswith("absmax") else 1
            sizes = [size // unit for size in flat.sizes[: len(states)]]
            # What lies between the parameters stays zero, which the moment's map has a code for.
            zero = 0 if unit > 1 else int(states[0][f"qmap{key[-1]}"].abs().argmin())
            moments[key] = states[0][key].new_full((sum(sizes),), zero)
            for state, piece in zip(states, moments[key].split(sizes), strict=True):
                view = piece[: state[key].numel()].view(state[key].shape)
                state[key] = view.copy_(state[key])
        return moments
