"""A model's forward pass, and its backward pass in training, recorded as CUDA graphs and replayed.

Facts marked tn were read in train_network.py at v0.10.1.
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.func import functional_call

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bespoke.trainer.flat_adam import FlatWeights


def say(text: str) -> None:
    print(f"captured step: {text}", flush=True)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


class Recordable(torch.nn.Module):  # type: ignore[misc]
    """A model with its LoRA in the form that a graph records; the output is float32.

    All LoRA weights are cast at once. The flat weights are the only parameter, so their gradient
    comes out whole; the model's own, frozen, would be handed through each replay.
    """

    def __init__(self, model: Any, loras: Sequence[Any], flat: FlatWeights) -> None:
        super().__init__()
        if {id(each) for lora in loras for each in lora.parameters()} != set(
            map(id, flat.parameters)
        ):
            raise ValueError("the optimizer's groups are not the text encoder and the UNet")
        self.weights = flat.weights
        # In a tuple, torch.nn.Module does not see it.
        self._parts = (model, loras, flat)

    def forward(self, *inputs: Any) -> Any:
        model, _, flat = self._parts
        pieces = {id(key): piece for key, piece in flat.split(self.weights.bfloat16())}
        # Beneath accelerate's own autocast, whose cache would hide casts from the graph.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False), self._loras_with(pieces):
            return model._original_forward(*inputs, return_dict=False)[0].float()

    @contextmanager
    def _loras_with(self, pieces: Mapping[int, Any]) -> Iterator[None]:
        layers = [(lora, lora.org_forward.__self__) for lora in self._parts[1]]
        for lora, layer in layers:
            down, up = pieces[id(lora.lora_down.weight)], pieces[id(lora.lora_up.weight)]
            layer.forward = partial(_lora_forward, lora, down, up)
        try:
            yield
        finally:
            for lora, layer in layers:
                layer.forward = lora.forward


def _lora_forward(lora: Any, down: Any, up: Any, x: Any) -> Any:
    """LoRAModule.forward (networks/lora.py:110), with these weights.

    Two multiplies and an add are one kernel where the scale is a power of two, which rounds alike.
    """
    added = functional_call(lora.lora_down, {"weight": down}, (x,))
    added = functional_call(lora.lora_up, {"weight": up}, (added,))
    if math.frexp(lora.scale)[0] != 0.5:
        return lora.org_forward(x) + added * lora.scale
    return torch.add(lora.org_forward(x), added, alpha=lora.scale)


class Graph:
    """A function without gradients, recorded for inputs like these."""

    def __init__(self, function: Any, inputs: Sequence[Any], pool: Any) -> None:
        # Kept: a graph reads the addresses of whatever its recording read.
        self.function = function
        self.inputs = [each.to(inputs[0].device, copy=True) for each in inputs]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.output = function(*self.inputs)

    def __call__(self, *inputs: Any) -> Any:
        for own, each in zip(self.inputs, inputs, strict=True):
            own.copy_(each)
        self.graph.replay()
        return self.output.clone()


class Output(tuple[Any]):
    """What callers read: `[0]` of a text encoder, `.sample` of a UNet."""

    @property
    def sample(self) -> Any:
        return self[0]


class Replayed:
    """The `forward` of a model: a graph where there is one for the inputs, else the model's own.

    One is recorded with gradients, at the first call for a full batch, and one for each shape
    without, for the pictures. All share one pool of memory: training holds nothing in it between
    its steps.
    """

    def __init__(self, name: str, model: Any, loras: Sequence[Any], flat: FlatWeights) -> None:
        self.name, self.own, self.flat = name, model.forward, flat
        self.parts = (model, loras, flat)
        self.full_batch = self.trains = False
        self.graphs: dict[Any, Any] = {}
        self.pool = None
        model.forward = self

    def __call__(self, *inputs: Any, encoder_hidden_states: Any = None, **options: Any) -> Any:
        if encoder_hidden_states is not None:
            inputs = (*inputs, encoder_hidden_states)
        usual = self.parts[1][0].multiplier == 1 and not options
        if not usual or not all(isinstance(each, torch.Tensor) for each in inputs):
            return self.own(*inputs, **options)
        # The trainer asks for the noisy latents' gradient, and nobody reads it (tn:289).
        inputs = tuple(each.detach() if each.is_leaf else each for each in inputs)
        key = (torch.is_grad_enabled(), *((each.shape, each.dtype) for each in inputs))
        if key not in self.graphs:
            self.graphs[key] = self._record(inputs)
        graph = self.graphs[key]
        return self.own(*inputs) if graph is None else Output((graph(*inputs),))

    def _record(self, inputs: Sequence[Any]) -> Any:
        """A graph for inputs like these; None where there is to be none, having said why."""
        what = f"{self.name} for {'x'.join(map(str, inputs[0].shape))}"
        training = torch.is_grad_enabled()
        if training and (self.trains or not self.full_batch):
            say(f"{what} goes the trainer's own way: not the shape of the first full batch")
            return None
        began = time.monotonic()
        self.trains = self.trains or training
        try:
            self.pool = self.pool or torch.cuda.graph_pool_handle()
            # The random streams must not move, no cast may come from a cache, and a recording that
            # breaks off must not leave its own stream behind.
            with (
                torch.random.fork_rng(devices=[inputs[0].device]),
                torch.autocast("cuda", enabled=False),
                torch.cuda.stream(torch.cuda.current_stream()),
            ):
                model = Recordable(*self.parts)
                graph = self._with_gradients(model, inputs) if training else None
                graph = graph or Graph(model, inputs, self.pool)
        except Exception as error:  # noqa: BLE001
            # Whatever it is, the trainer's own way is still there.
            with suppress(Exception):
                # Where the recording broke off, the allocator is still in it.
                torch._C._cuda_endAllocateToPool(inputs[0].device.index, self.pool)
            short = isinstance(error, torch.OutOfMemoryError)
            reason = "the GPU's memory is short" if short else _words(error)
            say(f"{what} goes the trainer's own way: {reason}")
            graph = None
        else:
            say(f"{what} recorded in {time.monotonic() - began:.1f} s")
        torch.cuda.empty_cache()
        return graph

    def _with_gradients(self, model: Any, inputs: Sequence[Any]) -> Any:
        """The model recorded forward and backward, and compared with its own way.

        Both at once need the memory that an epoch's odd batch will need beside the graphs.

        Raises:
            ValueError: where output or gradients differ by more than rounding.
        """
        samples = tuple(each.detach().clone().requires_grad_(each.requires_grad) for each in inputs)
        graph = torch.cuda.make_graphed_callables(
            model, samples, allow_unused_input=True, pool=self.pool
        )
        right = self.own(*samples, return_dict=False)[0]
        gradients = torch.autograd.grad(
            right.square().mean(), self.flat.parameters, allow_unused=True
        )
        output = graph(*samples)
        (gradient,) = torch.autograd.grad(output.square().mean(), [self.flat.weights])
        for replayed, own in ((output, right), (gradient, self.flat.join(gradients))):
            apart = float((replayed - own).norm() / own.norm().clamp(min=1e-12))
            if not apart < 0.01:
                raise ValueError(f"replayed, it differs from its own way by {apart:.2g}")
        return graph
