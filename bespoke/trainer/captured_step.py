"""The trainer with its step captured: launched in the place of train_network.py, with its options.

    accelerate launch ... bespoke/trainer/captured_step.py --config_file training.toml

A training step launches some 10,000 kernels one by one, and the GPU waits for the processor three
quarters of the time. Here the UNet and the text encoder, forward and backward, are recorded once as
CUDA graphs for the shape of a full batch, and replayed. Data, noise, loss, schedule, saving, states
and pictures stay the trainer's own code with the same random streams, so the losses are the same to
five digits (docs/performance.md). What has another shape (an epoch's last, odd batch, another
bucket) goes the trainer's own way in the same run. So does the whole run, with one line that says
why, where an option was not tried with this, or where recording does not work.

replay.py beside this has the graphs, flat_adam.py the weights and the optimizer that fit them.
Facts marked tn, tu, ctf were read in train_network.py, library/train_util.py and
library/custom_train_functions.py at v0.10.1.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REPOSITORY = next(
    folder for folder in Path(__file__).resolve().parents if (folder / "vendor/sd-scripts").is_dir()
)
if __name__ == "__main__":
    # As if train_network.py had been started: this file's neighbours would hide other modules.
    sys.path[0] = str(REPOSITORY / "vendor/sd-scripts")
    sys.path.append(str(REPOSITORY))
else:
    sys.path.insert(0, str(REPOSITORY / "vendor/sd-scripts"))

import accelerate.data_loader  # noqa: E402
import torch  # noqa: E402
import train_network  # noqa: E402
from accelerate.utils import send_to_device  # noqa: E402
from library import train_util  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils.data._utils.pin_memory import pin_memory  # noqa: E402

from bespoke.trainer import captured_options  # noqa: E402
from bespoke.trainer.flat_adam import FlatAdamW8bit  # noqa: E402
from bespoke.trainer.replay import Replayed, say  # noqa: E402


def reason_against(args: Any) -> str | None:
    """Why a run with these options goes the trainer's own way; None where it can be captured."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return "several processes were not tried"
    reason = captured_options.reason_against(partial(getattr, args))
    return reason or (None if torch.cuda.is_available() else "there is no NVIDIA GPU")


class WithoutWaiting(TorchFunctionMode):  # type: ignore[misc]
    """Copies to the GPU take their place in its queue, and the processor goes on.

    A plain copy waits until all that was asked of the GPU is done. `cpu()` does nothing: in each
    step the trainer takes the noise schedule back from the GPU with it (tu:6105).
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.cpu:
            return args[0]
        if func is torch.Tensor.to and args[0].device.type == "cpu":
            args = (args[0].pin_memory(), *args[1:])
            kwargs["non_blocking"] = True
        return func(*args, **kwargs)


def stop_waiting() -> None:
    """Have batches and noise copied without waiting; their values and random streams stay."""
    draw = train_util.get_noise_noisy_latents_and_timesteps

    def draw_without_waiting(*args: Any) -> Any:
        with WithoutWaiting():
            return draw(*args)

    def send_without_waiting(batch: Any, device: Any, **_: Any) -> Any:
        return send_to_device(pin_memory(batch), device, non_blocking=True)

    train_util.get_noise_noisy_latents_and_timesteps = draw_without_waiting
    accelerate.data_loader.send_to_device = send_without_waiting


class EarlyLoss:
    """The loss for the log, read as soon as the forward pass is done.

    The trainer reads it after the optimizer (tn:1512), and would wait there for the whole step.
    """

    def __init__(self, loss: Any) -> None:
        self.value = torch.empty((), pin_memory=True).copy_(loss.detach(), non_blocking=True)
        self.ready = torch.cuda.Event()
        self.ready.record()

    def item(self) -> float:
        self.ready.synchronize()
        return float(self.value)


class CapturedTrainer(train_network.NetworkTrainer):  # type: ignore[misc]
    """NetworkTrainer by its own hooks."""

    replayed: Sequence[Replayed] = ()

    def train(self, args: Any) -> None:
        args.optimizer_type = f"{FlatAdamW8bit.__module__}.FlatAdamW8bit"
        self.batch_size = args.train_batch_size
        stop_waiting()
        super().train(args)

    def post_process_network(self, args: Any, accelerator: Any, network: Any, *models: Any) -> None:
        super().post_process_network(args, accelerator, network, *models)
        self.network = network

    def sample_images(self, accelerator: Any, *rest: Any) -> None:
        # Asked for before the first step too, when all is loaded, a resume's state as well.
        if not self.replayed:
            self._begin(accelerator, *rest[-2:])
        super().sample_images(accelerator, *rest)

    def _begin(self, accelerator: Any, text_encoder: Any, unet: Any) -> None:
        (optimizer,) = accelerator._optimizers
        flats = optimizer.optimizer.flatten()
        network = self.network
        # What is clipped.
        network.get_trainable_params = lambda: [flat.weights for flat in flats]
        # accelerate saves but one of the tensors that share a storage, and drops the others.
        network.register_state_dict_post_hook(
            lambda _, state, *__: state.update({key: each.clone() for key, each in state.items()})
        )
        self.replayed = [
            Replayed("text encoder", text_encoder, network.text_encoder_loras, flats[0]),
            Replayed("UNet", unet, network.unet_loras, flats[-1]),
        ]

    def process_batch(self, batch: Any, *rest: Any, **options: Any) -> Any:
        for each in self.replayed:
            each.full_batch = len(batch["loss_weights"]) == self.batch_size
        loss = super().process_batch(batch, *rest, **options)
        early = EarlyLoss(loss)
        loss.detach = lambda: early
        return loss

    def post_process_loss(self, loss: Any, args: Any, timesteps: Any, schedule: Any) -> Any:
        # With each timestep in a row of its own; one by one, the GPU is waited for (ctf:64).
        rows = super().post_process_loss(loss[:, None], args, timesteps[:, None], schedule)
        return rows[:, 0]

    def all_reduce_network(self, *_: Any) -> None:
        # One process has nothing to reduce. What follows clips (tn:1464).
        for each in self.replayed:
            each.flat.collect_gradients()


def main() -> None:
    """Do as train_network.py does when it is started (tn:1898), captured where that is tried."""
    parser = train_network.setup_parser()
    args = parser.parse_args()
    train_util.verify_command_line_training_args(args)
    args = train_util.read_config_from_file(args, parser)
    reason = reason_against(args)
    if reason:
        say(f"left out: {reason}")
    trainer = train_network.NetworkTrainer() if reason else CapturedTrainer()
    trainer.train(args)


if __name__ == "__main__":
    main()
