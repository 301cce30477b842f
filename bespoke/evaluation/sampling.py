"""A checkpoint to pictures: by the trainer while it trains, or by its gen_img.py afterwards.

Facts marked "tn", "tu" and "gi" were read in train_network.py, library/train_util.py and
gen_img.py at v0.10.1.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke.errors import TrainerError
from bespoke.files import write_whole
from bespoke.trainer import checkpoints, launch, trainer_log
from bespoke.trainer.child_process import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from bespoke.experiment.prompts import Prompt

# The same for both, with no noise of its own between steps. Not the trainer's default: its "ddim"
# clamps what it predicts to -1 and 1 (tu:6243), and gen_img's does not (gi:1765), so that one
# checkpoint and seed would give two pictures.
SAMPLER = "euler"

_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class SampleSpec:
    """One picture to make: a prompt by its name, a seed, and its place in the sampler's file."""

    prompt: str
    seed: int
    index: int


def sample_specs(prompts: Iterable[Prompt]) -> tuple[SampleSpec, ...]:
    """Every prompt with each of its seeds, in order."""
    pairs = [(prompt.name, seed) for prompt in prompts for seed in prompt.seeds]
    return tuple(
        SampleSpec(prompt=name, seed=seed, index=index) for index, (name, seed) in enumerate(pairs)
    )


def escape(text: str) -> str:
    r"""`text` with its brackets as `\(`: both samplers weigh by them, and training does not."""
    return re.sub(r"([\\()\[\]])", r"\\\1", text)


# --- While training -------------------------------------------------------------------------------


def write_for_training(prompts: Sequence[Prompt], file: Path) -> tuple[SampleSpec, ...]:
    """Write the trainer's `--sample_prompts` file, one entry a picture.

    Of its three forms (tu:6329) JSON alone holds any text as it is.
    """
    rows = [
        {
            "prompt": escape(prompt.text),
            "negative_prompt": escape(prompt.negative),
            "seed": seed,
            "sample_steps": prompt.steps,
            "scale": prompt.scale,
            "width": prompt.size,
            "height": prompt.size,
            "sample_sampler": SAMPLER,
        }
        for prompt in prompts
        for seed in prompt.seeds
    ]
    write_whole(file, json.dumps(rows, indent=1) + "\n")
    return sample_specs(prompts)


def find_pictures(
    output: Path, output_name: str, epoch: int, samples: Iterable[SampleSpec]
) -> dict[SampleSpec, Path]:
    """The pictures that the trainer made of this epoch's checkpoint, the newest for each sample.

    One counts by its whole name (tu:6572), where it is complete, and where it is no older than its
    checkpoint's can be: what an earlier run or start left under the same name is.

    Raises:
        TrainerError: where there is no such checkpoint, or it is not complete.
    """
    since = _drawn_since(output, output_name, epoch)
    name = re.compile(rf"{re.escape(output_name)}_e{epoch:06d}_(\d{{2,}})_\d{{14}}_(\d+)\.png")
    newest: dict[tuple[int, int], Path] = {}
    for path in sorted((output / "sample").glob("*.png"), key=lambda path: path.stat().st_mtime_ns):
        match = name.fullmatch(path.name)
        if match and _is_complete(path, since):
            newest[int(match[1]), int(match[2])] = path
    keys = {spec: (spec.index, spec.seed) for spec in samples}
    return {spec: newest[key] for spec, key in keys.items() if key in newest}


def missing_pictures(
    samples: Iterable[SampleSpec], pictures: Mapping[SampleSpec, Path]
) -> str | None:
    """Which pictures of a set are not there, in words; None where it is complete."""
    rows = [f"{spec.prompt} (seed {spec.seed})" for spec in samples if spec not in pictures]
    return f"{len(rows)} pictures are not there: {', '.join(rows)}" if rows else None


def adopt_first(output: Path, output_name: str, epoch: int, since: int) -> None:
    """Give the pictures that `--sample_at_first` made of a resumed state their epoch's name.

    The trainer names them after epoch 0 (tn:1332), but draws the weights it has loaded, and sets
    the random states back afterwards (tu:6443). Those before `since` (ns) are of an earlier start.
    """
    first = f"{output_name}_e000000_"
    for path in (output / "sample").glob(f"{glob.escape(first)}*.png"):
        if _is_complete(path, since):
            rest = path.name.removeprefix(first)
            path.rename(path.with_name(f"{output_name}_e{epoch:06d}_{rest}"))


def _drawn_since(output: Path, name: str, epoch: int) -> float:
    """Before when no picture is of an epoch's checkpoint: nanoseconds of the files' own clock.

    Its pictures follow it; but the last epoch's checkpoint is written when all is over, after its
    pictures (tn:1694-1722), and these follow the start of the process that wrote it.
    """
    path = checkpoints.checkpoint_path(output, name, epoch)
    metadata = checkpoints.opened(path)[1]
    if metadata.get("ss_num_epochs") == str(epoch):
        return float(metadata.get("ss_training_started_at", "nan")) * 1e9
    return path.stat().st_mtime_ns


def _is_complete(path: Path, since: float) -> bool:
    """Whether a PNG was written since, and has its end: the trainer writes it in place."""
    written = path.stat().st_mtime_ns >= since
    return written and path.read_bytes().endswith(b"IEND\xaeB`\x82")


# --- Afterwards -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class GenImg:
    """What gen_img.py works with, weights in fp16 where `half`; `folder` keeps what it does."""

    script: Path
    base_model: str
    tokenizer: Path
    half: bool
    folder: Path
    clip_skip: int | None = None


def draw(
    weights: Sequence[Path], prompts: Sequence[Prompt], tool: GenImg, tell: Callable[[str], None]
) -> list[dict[SampleSpec, Path]]:
    """The pictures that there are of each checkpoint by every prompt and seed, all by one process.

    All LoRAs are loaded, and all but one multiplied by 0 at each picture: what they add is then 0
    to the last bit, unless they hold NaN or infinity, which `checkpoints.identify` refuses.

    Raises:
        TrainerError: where it fails, in its own words.
        StartError: where it cannot be started.
    """
    tool.folder.mkdir(parents=True, exist_ok=True)
    by_name = {prompt.name: prompt for prompt in prompts}
    planned = [
        {spec: tool.folder / f"{number:03d}_{spec.index:03d}.png" for spec in sample_specs(prompts)}
        for number in range(len(weights))
    ]
    lines = []
    for number, pictures in enumerate(planned):
        on = ",".join("1" if each == number else "0" for each in range(len(weights)))
        for spec, path in pictures.items():
            lines.append(f"{_line(by_name[spec.prompt], spec.seed)} --am {on} --f {path.name}")
    write_whole(tool.folder / "prompts.txt", "\n".join(lines) + "\n")
    _run(_command(weights, tool), tool, len(lines), tell)
    return [
        {spec: path for spec, path in pictures.items() if path.is_file()} for pictures in planned
    ]


def _line(prompt: Prompt, seed: int) -> str:
    """One picture in gen_img's words (gi:2789); the space in front lets a text begin with '#'.

    `{a|b}` would be expanded (gi:1369), so braces are escaped as well.
    """
    text, negative = (
        re.sub(r"([{}])", r"\\\1", escape(each)) for each in (prompt.text, prompt.negative)
    )
    return (
        f" {text} --w {prompt.size} --h {prompt.size} --s {prompt.steps} --l {prompt.scale} "
        f"--d {seed}" + (f" --n {negative}" if negative else "")
    )


def _command(weights: Sequence[Path], tool: GenImg) -> list[str]:
    return [
        *(sys.executable, str(tool.script), "--v1", "--ckpt", tool.base_model),
        *("--tokenizer_cache_dir", str(tool.tokenizer)),
        *("--network_module", *("networks.lora" for _ in weights)),
        *("--network_weights", *(str(path.absolute()) for path in weights)),
        *("--from_file", str(tool.folder / "prompts.txt"), "--outdir", str(tool.folder)),
        *("--sampler", SAMPLER, "--max_embeddings_multiples", "3", "--batch_size", "1", "--sdpa"),
        *(("--clip_skip", str(tool.clip_skip)) if tool.clip_skip else ()),
        *(("--fp16",) if tool.half else ()),
    ]


def _run(command: Sequence[str], tool: GenImg, count: int, tell: Callable[[str], None]) -> None:
    """Run gen_img to its end, log its lines, and say every 30 s how far it is."""
    write_whole(tool.folder / "command.txt", shlex.join(command) + "\n")
    environment = launch.environment(os.environ)
    log_file = tool.folder / "gen_img.log"
    due = time.monotonic() + _INTERVAL_S
    with (
        log_file.open("wb", buffering=0) as log,
        Group(command, environment=environment, cwd=tool.script.parent) as group,
    ):
        reader = trainer_log.Reader(log)
        for line in reader.lines(group.output()):
            if line and time.monotonic() >= due:
                due = time.monotonic() + _INTERVAL_S
                drawn = sum(1 for _ in tool.folder.glob("*.png"))
                tell(f"{drawn} of {count} pictures are drawn; gen_img.py: {line.strip()}")
        code = group.wait()
    if code != 0:
        tail = [*reader.tail][::-1] or ["it said nothing"]
        words = next(filter(trainer_log.EXCEPTION.match, tail), tail[0])
        raise TrainerError(
            f"gen_img.py ended with {trainer_log.ending(code)}: {words}\nfull log: {log_file}"
        )
