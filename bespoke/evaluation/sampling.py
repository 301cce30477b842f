"""A checkpoint to pictures, by the trainer or by its gen_img.py, and these to its result.

Facts marked "tn", "tu" and "gi" were read in train_network.py, library/train_util.py and
gen_img.py at v0.10.1.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from subprocess import PIPE, STDOUT
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from bespoke.console import say
from bespoke.dataset import images
from bespoke.errors import TrainerError
from bespoke.evaluation import epoch_result, likeness, metrics, scoring
from bespoke.evaluation.epoch_result import EpochResult, PictureResult
from bespoke.experiment.prompts import Prompt  # noqa: TC001 - Sample's fields are its annotations
from bespoke.files import REPOSITORY, sha256, write_whole
from bespoke.trainer import checkpoints, sd_scripts
from bespoke.trainer.job import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from bespoke.evaluation.likeness import Likeness
    from bespoke.trainer.checkpoints import Lora

# The same for both, with no noise of its own between steps. Not the trainer's default: its "ddim"
# clamps what it predicts to -1 and 1 (tu:6243), and gen_img's does not (gi:1765), so that one
# checkpoint and seed would give two pictures.
SAMPLER = "euler"


class Sample(NamedTuple):
    """One picture to make; `file` is its name in a test's folder."""

    prompt: Prompt
    seed: int

    @property
    def file(self) -> str:
        return f"{self.prompt.name}_{self.seed}.png"


def samples_of(prompts: Iterable[Prompt]) -> tuple[Sample, ...]:
    """Every prompt with each of its seeds, in order."""
    return tuple(Sample(prompt, seed) for prompt in prompts for seed in prompt.seeds)


def escape(text: str) -> str:
    r"""`text` with its brackets as `\(`: both samplers weigh by them, and training does not."""
    return re.sub(r"([\\()\[\]])", r"\\\1", text)


def write_for_training(samples: Iterable[Sample], file: Path) -> None:
    """Write the trainer's `--sample_prompts` file, one entry a picture.

    Of its three forms (tu:6329) JSON alone holds any text as it is.
    """
    rows = []
    for prompt, seed in samples:
        texts = {"prompt": escape(prompt.text), "negative_prompt": escape(prompt.negative)}
        way = {"seed": seed, "sample_steps": prompt.steps, "scale": prompt.scale}
        size = {"width": prompt.size, "height": prompt.size}
        rows.append({**texts, **way, **size, "sample_sampler": SAMPLER})
    write_whole(file, json.dumps(rows, indent=1) + "\n")


def find_pictures(
    output: Path, name: str, epoch: int, samples: Iterable[Sample]
) -> dict[str, Path]:
    """By `Sample.file`, the newest picture that the trainer drew of it with an epoch's checkpoint.

    One counts by its whole name (tu:6572), where it is complete (the trainer writes it in place),
    and where it came between its checkpoint and the next: what an earlier run or start left under
    the same name did not. Those that `--sample_at_first` drew of a resumed state are named after
    epoch 0 (tn:1332). The last epoch's come before its checkpoint, which is written when all is
    over (tn:1694-1722), and after its process's start. Those of epoch 0, the base model's own, come
    before any checkpoint. A TrainerError where there is no checkpoint.
    """
    since, numbers = 0.0, "000000"
    if epoch:
        path = checkpoints.checkpoint_path(output, name, epoch)
        metadata = checkpoints.opened(path)[1]
        since, numbers = float(path.stat().st_mtime_ns), f"{epoch:06d}|000000"
        if metadata.get("ss_num_epochs") == str(epoch):
            since = float(metadata.get("ss_training_started_at", "nan")) * 1e9
            numbers = f"{epoch:06d}"
    others = {each: checkpoints.epoch_of(each.name, name) for each in output.glob("*.safetensors")}
    later = [each.stat().st_mtime_ns for each, number in others.items() if number > epoch]
    until = min(later, default=math.inf)
    named = re.compile(rf"{re.escape(name)}_e(?:{numbers})_(\d{{2,}})_\d{{14}}_(\d+)\.png")
    newest: dict[tuple[int, int], Path] = {}
    times = {each: each.stat().st_mtime_ns for each in (output / "sample").glob("*.png")}
    for drawn in sorted(times, key=times.__getitem__):
        match, is_own = named.fullmatch(drawn.name), since <= times[drawn] < until
        if match and is_own and drawn.read_bytes().endswith(b"IEND\xaeB`\x82"):
            newest[int(match[1]), int(match[2])] = drawn
    keys = {each.file: (index, each.seed) for index, each in enumerate(samples)}
    return {file: newest[key] for file, key in keys.items() if key in newest}


def set_apart(pictures: Iterable[Path]) -> None:
    """Name the base model's pictures so that none is taken for a resumed state's (tn:1332)."""
    for each in pictures:
        if "_e000000_" in each.name:
            each.rename(each.with_name(each.name.replace("_e000000_", "_base_")))


def draw(
    lora: Lora, samples: Sequence[Sample], model: Sequence[str], folder: Path
) -> dict[str, Path]:
    """By `Sample.file`, the pictures of a checkpoint by gen_img.py; a TrainerError where it fails.

    `model` are the options of the base model; `folder` keeps all that comes of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for prompt, seed in samples:
        # gen_img.py's words (gi:2789). The space in front lets a text begin with '#', and escaped
        # braces are not expanded (gi:1369).
        texts = (escape(each) for each in (prompt.text, prompt.negative))
        text, negative = (re.sub(r"([{}])", r"\\\1", each) for each in texts)
        way = (
            f"--w {prompt.size} --h {prompt.size} --s {prompt.steps} --l {prompt.scale} --d {seed}"
        )
        unwanted = f"--n {negative}" if negative else ""
        lines.append(f" {text} {way} {unwanted} --f {Sample(prompt, seed).file}\n")
    write_whole(folder / "prompts.txt", "".join(lines))
    script = sd_scripts.require_submodule(REPOSITORY) / "gen_img.py"
    command = [
        *(sys.executable, str(script), "--v1", *model),
        *("--network_module", "networks.lora", "--network_weights", str(lora.path.absolute())),
        *("--from_file", str(folder / "prompts.txt"), "--outdir", str(folder)),
        *("--sampler", SAMPLER, "--max_embeddings_multiples", "3", "--batch_size", "1", "--sdpa"),
        *(("--clip_skip", str(lora.clip_skip)) if lora.clip_skip else ()),
    ]
    say(f"drawing {len(samples)} pictures of {lora.path.name}")
    environment, log = sd_scripts.environment(os.environ), folder / "gen_img.log"
    done = subprocess.run(
        command, cwd=script.parent, env=environment, stdout=PIPE, stderr=STDOUT, check=False
    )
    text = done.stdout.decode(errors="replace").strip() or "it said nothing"
    write_whole(log, f"{text}\n")
    if done.returncode != 0:
        how = f"exit code {done.returncode}: {text.splitlines()[-1]}"
        raise TrainerError(f"gen_img.py ended with {how}\nfull log: {log}")
    return copies(folder, samples)


def folder_for(parent: Path, lora: Lora, suffix: str = "") -> Path:
    """Where one checkpoint's test is kept: by its content, so that no other's mixes in."""
    return parent / f"{lora.path.stem}-{lora.sha256[:8]}{suffix}"


def copies(folder: Path, samples: Iterable[Sample]) -> dict[str, Path]:
    """By `Sample.file`, the pictures that an earlier test kept in `folder`."""
    return {each.file: path for each in samples if (path := folder / each.file).is_file()}


def evaluate(
    run: str, lora: Lora, samples: Sequence[Sample], pictures: Mapping[str, Path], folder: Path
) -> EpochResult:
    """Keep, measure and score a checkpoint's pictures, by `Sample.file`, in `folder`.

    Of an earlier test there, a person's scores stand, and what other metrics gave is kept. A
    TrainerError where a picture is missing, a DatasetError where one cannot be read.
    """
    if missing := [each.file for each in samples if each.file not in pictures]:
        raise TrainerError(f"{lora.path.name}: pictures are missing: {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    before = epoch_result.read(folder)
    is_current = before is not None and before.metrics_version == metrics.VERSION
    if (
        before
        and is_current
        and [sha256(pictures[each.file]) for each in samples]
        == [each.sha256 for each in before.pictures]
    ):
        return replace(before, checkpoint=str(lora.path))
    # What its run learnt of its own pictures, where it is a run's that is here.
    like = likeness.read(lora.path.parent / "tests" / f"{lora.name}.likeness.npz")
    rows = [_measured(each, pictures[each.file], folder / each.file, like) for each in samples]
    if before and not is_current:
        say(f"{folder}: measured again; until now {before.scores.mean} of 10")
        before = epoch_result.rescored(before, before.scores, before.scored_by)
    result = EpochResult(
        run=before.run if before else run,
        epoch=lora.epoch,
        checkpoint=str(lora.path),
        checkpoint_sha256=lora.sha256,
        checkpoint_size=lora.size,
        folder=str(folder.absolute()),
        metrics_version=metrics.VERSION,
        pictures=tuple(rows),
        scores=scoring.suggest([each.measured for each in rows]),
        scored_by="metrics",
        tested=before.tested if before else now().isoformat(timespec="milliseconds"),
        earlier=before.earlier if before else (),
    )
    if before and before.scored_by == "person":
        result = replace(result, scores=before.scores, scored_by="person")
    return epoch_result.write(result)


def _measured(sample: Sample, path: Path, kept: Path, like: Likeness) -> PictureResult:
    """A picture as it is, and as `…_24.png` with a pixel a cell, and what is measured of it."""
    if path != kept:
        write_whole(kept, path.read_bytes())
    pixels, prompt = images.pixels(kept), sample.prompt
    # Nearest takes the pixel at each cell's centre.
    small = Image.fromarray(pixels).resize((24, 24), Image.Resampling.NEAREST)
    small.save(kept.with_stem(f"{kept.stem}_24"))
    return PictureResult(
        prompt=prompt.name,
        text=prompt.text,
        seed=sample.seed,
        file=kept.name,
        sha256=sha256(kept),
        measured=metrics.measure(pixels, prompt.text, like),
    )
