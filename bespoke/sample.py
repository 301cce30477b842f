"""A checkpoint to pictures: by the trainer while it trains, or by its gen_img.py afterwards.

Facts marked "tn", "tu" and "gi" were read in train_network.py, library/train_util.py and
gen_img.py at v0.10.1.
"""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bespoke import checkpoints, trainer
from bespoke.display import duration
from bespoke.errors import TrainerError
from bespoke.files import write_whole
from bespoke.processes import Group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from bespoke.prompts import Prompt

SAMPLER = "euler"
"""The same for both, and with no noise of its own between steps. Not the trainer's default: its
"ddim" clamps what it predicts to -1 and 1 (tu:6243), and gen_img's does not (gi:1765), so that one
checkpoint and seed would give two pictures.
"""

_INTERVAL_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture to make: a prompt by its name, a seed, and its place in the sampler's file."""

    prompt: str
    seed: int
    index: int


def shots_of(prompts: Iterable[Prompt]) -> tuple[Shot, ...]:
    """Every prompt with each of its seeds, in order."""
    pairs = [(prompt.name, seed) for prompt in prompts for seed in prompt.seeds]
    return tuple(
        Shot(prompt=name, seed=seed, index=index) for index, (name, seed) in enumerate(pairs)
    )


def escaped(text: str) -> str:
    r"""`text` with its brackets as `\(`: both samplers weigh by them, and training does not."""
    return re.sub(r"([\\()\[\]])", r"\\\1", text)


def as_line(prompt: Prompt) -> str:
    """What the samplers are given to read, as a line of the trainer's .txt form."""
    return f"{escaped(prompt.text)} --n {escaped(prompt.negative)}"


# --- While training -------------------------------------------------------------------------------


def write_for_training(prompts: Sequence[Prompt], file: Path) -> tuple[Shot, ...]:
    """Write the trainer's `--sample_prompts` file, one entry a picture; `file` ends in .json.

    Of the three forms that it takes (tu:6329) JSON alone holds any text as it is: a line of the
    .txt form is split at " --", and the library that reads the .toml form mistakes backslashes.
    """
    rows = [_entry(prompt, seed) for prompt in prompts for seed in prompt.seeds]
    write_whole(file, json.dumps(rows, indent=1) + "\n")
    return shots_of(prompts)


def _entry(prompt: Prompt, seed: int) -> dict[str, Any]:
    return {
        "prompt": escaped(prompt.text),
        "negative_prompt": escaped(prompt.negative),
        "seed": seed,
        "sample_steps": prompt.steps,
        "scale": prompt.scale,
        "width": prompt.size,
        "height": prompt.size,
        "sample_sampler": SAMPLER,
    }


def found(output: Path, output_name: str, epoch: int, shots: Iterable[Shot]) -> dict[Shot, Path]:
    """The pictures that the trainer made of this epoch's checkpoint; `lacking` names the others.

    A picture counts only by its whole name (tu:6572), where it is whole, and where it was made when
    that checkpoint's pictures were: what an earlier run or start left under the same name is older
    or younger. Of several for one shot the newest counts.

    Raises:
        TrainerError: where there is no such checkpoint, or it is not whole.
    """
    first, last = _made_between(output, output_name, epoch)
    name = re.compile(rf"{re.escape(output_name)}_e{epoch:06d}_(\d{{2,}})_\d{{14}}_(\d+)\.png")
    wanted = {(shot.index, shot.seed): shot for shot in shots}
    newest: dict[Shot, tuple[int, Path]] = {}
    for path in (output / "sample").glob("*.png"):
        match = name.fullmatch(path.name)
        shot = wanted.get((int(match[1]), int(match[2]))) if match else None
        made = path.stat().st_mtime_ns
        if shot is not None and first <= made <= last and _is_whole(path):
            newest[shot] = max(newest.get(shot, (0, path)), (made, path))
    return {shot: newest[shot][1] for shot in wanted.values() if shot in newest}


def lacking(shots: Iterable[Shot], pictures: Mapping[Shot, Path]) -> str | None:
    """Which pictures of a set are not there, in words; None where it is complete."""
    rows = [f"{shot.prompt} (seed {shot.seed})" for shot in shots if shot not in pictures]
    return f"{len(rows)} pictures are not there: {', '.join(rows)}" if rows else None


def adopt_first(output: Path, output_name: str, epoch: int, since: int) -> None:
    """Give the pictures that `--sample_at_first` made of a resumed state their epoch's name.

    The trainer names them after epoch 0 (tn:1332), but draws the weights it has loaded, and sets
    the random states back afterwards (tu:6443). `since`, in nanoseconds of the files' own clock,
    tells them from those of an earlier start.

    Raises:
        OSError: where one cannot be renamed.
    """
    first = f"{output_name}_e000000_"
    for path in (output / "sample").glob("*.png"):
        if path.name.startswith(first) and path.stat().st_mtime_ns >= since and _is_whole(path):
            rest = path.name.removeprefix(first)
            path.rename(path.with_name(f"{output_name}_e{epoch:06d}_{rest}"))


def _made_between(output: Path, name: str, epoch: int) -> tuple[float, float]:
    """When the pictures of an epoch's checkpoint were made: nanoseconds of the files' own clock.

    After the checkpoint and before the next one. But the last epoch's checkpoint is written when
    all is over, after its pictures (tn:1694-1722): those come after the checkpoint before it, and
    after the start of the process that wrote it.
    """
    path = checkpoints.checkpoint_path(output, name, epoch)
    path = path if path.exists() else checkpoints.last_path(output, name)
    told = checkpoints.opened(path)[1]
    own = path.stat().st_mtime_ns
    times = {
        each: other.stat().st_mtime_ns
        for other in output.glob("*.safetensors")
        if (each := _number(other, name)) is not None and other != path
    }
    if told.get("ss_num_epochs") != str(epoch):
        later = [when for each, when in times.items() if each > epoch and when >= own]
        return own, min(later, default=math.inf)
    began = float(told.get("ss_training_started_at", "nan")) * 1e9
    earlier = [when for each, when in times.items() if each < epoch and when <= own]
    known = [when for when in (*earlier, began) if not math.isnan(when)]
    return max(known, default=math.inf), own


def _number(path: Path, name: str) -> float | None:
    """The epoch by a checkpoint's name; the last one, without a number, comes after all others."""
    last = path.name == f"{name}.safetensors"
    return math.inf if last else checkpoints.epoch_of(path.name, name)


def _is_whole(path: Path) -> bool:
    """Whether a PNG has its end: the trainer writes it in place."""
    return path.read_bytes().endswith(b"IEND\xaeB`\x82")


# --- Afterwards -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Studio:
    """What gen_img.py works with, weights in fp16 where `half`; `folder` keeps what it does."""

    script: Path
    base_model: str
    tokenizer: Path
    offline: bool
    half: bool
    folder: Path


def make(
    weights: Sequence[Path],
    prompts: Sequence[Prompt],
    studio: Studio,
    *,
    clip_skip: int | None = None,
    tell: Callable[[str], None],
) -> list[dict[Shot, Path]]:
    """Pictures of each checkpoint for every prompt and seed, all by one process.

    All LoRAs are loaded, and all but one multiplied by 0 at each picture: what they add is then 0
    to the last bit, unless they hold NaN or infinity, which `checkpoints.identify` refuses.

    Raises:
        TrainerError: where it fails, in its own words, or pictures are missing.
        StartError: where it cannot be started.
    """
    studio.folder.mkdir(parents=True, exist_ok=True)
    shots = shots_of(prompts)
    by_name = {prompt.name: prompt for prompt in prompts}
    wanted = [
        {shot: studio.folder / f"{number:03d}_{shot.index:03d}.png" for shot in shots}
        for number in range(len(weights))
    ]
    lines = [
        _line(by_name[shot.prompt], shot.seed, path.name, number, len(weights))
        for number, pictures in enumerate(wanted)
        for shot, path in pictures.items()
    ]
    write_whole(studio.folder / "prompts.txt", "\n".join(lines) + "\n")
    command = _command(weights, studio, clip_skip)
    write_whole(studio.folder / "command.txt", shlex.join(command) + "\n")
    _generate(command, studio, len(lines), tell)
    for path, pictures in zip(weights, wanted, strict=True):
        there = {shot: file for shot, file in pictures.items() if file.is_file()}
        if missing := lacking(shots, there):
            raise TrainerError(
                f"{path.name}: gen_img.py ended as if all were well, but {missing}; its log is "
                f"{studio.folder / 'gen_img.log'}"
            )
    return wanted


def _line(prompt: Prompt, seed: int, file: str, number: int, count: int) -> str:
    """One picture in gen_img's words (gi:2789); the space in front lets a text begin with '#'.

    `{a|b}` would be expanded (gi:1369), so braces are escaped as well.
    """
    text, negative = (
        re.sub(r"([{}])", r"\\\1", escaped(each)) for each in (prompt.text, prompt.negative)
    )
    multipliers = ",".join("1" if each == number else "0" for each in range(count))
    return (
        f" {text} --w {prompt.size} --h {prompt.size} --s {prompt.steps} --l {prompt.scale} "
        f"--d {seed} --am {multipliers} --f {file}" + (f" --n {negative}" if negative else "")
    )


def _command(weights: Sequence[Path], studio: Studio, clip_skip: int | None) -> list[str]:
    return [
        *(sys.executable, str(studio.script), "--v1", "--ckpt", studio.base_model),
        *("--tokenizer_cache_dir", str(studio.tokenizer)),
        *("--network_module", *("networks.lora" for _ in weights)),
        *("--network_weights", *(str(path.absolute()) for path in weights)),
        *("--from_file", str(studio.folder / "prompts.txt"), "--outdir", str(studio.folder)),
        *("--sampler", SAMPLER, "--max_embeddings_multiples", "3", "--batch_size", "1", "--sdpa"),
        *(("--clip_skip", str(clip_skip)) if clip_skip is not None else ()),
        *(("--fp16",) if studio.half else ()),
    ]


def _generate(
    command: Sequence[str], studio: Studio, count: int, tell: Callable[[str], None]
) -> None:
    """Run gen_img to its end, log its lines, and say every 30 s how far it is."""
    log_file = studio.folder / "gen_img.log"
    pace = _Pace(studio.folder, count)
    with (
        log_file.open("wb", buffering=0) as log,
        Group(
            command,
            environment=trainer.environment(os.environ, offline=studio.offline),
            cwd=studio.script.parent,
        ) as group,
    ):
        reader = trainer.Reader(log)
        for line in reader.lines(group.output()):
            pace.read(line)
            if said := pace.due():
                tell(said)
        code = group.wait()
    if code != 0:
        tail = [*reader.tail][::-1] or ["it said nothing"]
        words = next(filter(trainer.EXCEPTION.match, tail), tail[0])
        raise TrainerError(
            f"gen_img.py ended with {trainer.ending(code)}: {words}\nits whole log is {log_file}"
        )


class _Pace:
    """How far gen_img is, by its pictures and the bar of the one at work, and what is left."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder, self._count = folder, count
        self._began: float | None = None
        self._part = 0.0
        self._told = time.monotonic()

    def read(self, line: str) -> None:
        bar = trainer.PROGRESS.search(line)
        # A picture's own bar has no name; that of the VAE, which follows it, ends at 1.
        if bar and bar["bar"] is None and int(bar["total"]) > 1:
            self._began = self._began or time.monotonic()
            self._part = int(bar["step"]) / int(bar["total"]) % 1

    def due(self) -> str | None:
        """The line to say, where it is time for one."""
        if time.monotonic() - self._told < _INTERVAL_S or self._began is None:
            return None
        self._told = time.monotonic()
        whole = min(sum(1 for _ in self._folder.glob("*.png")), self._count - 1)
        done = whole + self._part
        left = (self._told - self._began) / done * (self._count - done) if done else None
        part = f"{self._part:.0%} of it done"
        return f"picture {whole + 1} of {self._count}, {part}, left {duration(left)}"
