"""A checkpoint to pictures, by the trainer or by its gen_img.py, and these to its result.

Facts marked "tn", "tu" and "gi" were read in train_network.py, library/train_util.py and
gen_img.py at v0.10.1.
"""

from __future__ import annotations

import glob
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from bespoke.console import say
from bespoke.dataset import images
from bespoke.errors import ConfigError, TrainerError
from bespoke.evaluation import epoch_result, metrics, scoring
from bespoke.evaluation.epoch_result import EpochResult, PictureResult
from bespoke.experiment.prompts import Prompt  # noqa: TC001 - Sample's fields are its annotations
from bespoke.files import REPOSITORY, sha256, write_whole
from bespoke.trainer import checkpoints, failures, launch
from bespoke.trainer.journal import now
from bespoke.trainer.process import outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bespoke.trainer.checkpoints import Lora

# The same for both, with no noise of its own between steps. Not the trainer's default: its "ddim"
# clamps what it predicts to -1 and 1 (tu:6243), and gen_img's does not (gi:1765), so that one
# checkpoint and seed would give two pictures.
SAMPLER = "euler"

# A day: one checkpoint's pictures take a minute on a GPU, and hours where there is none.
LONGEST_S = 86_400.0


class Sample(NamedTuple):
    """One picture to make."""

    prompt: Prompt
    seed: int

    @property
    def file(self) -> str:
        """What its picture is called in a test's folder."""
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
    output: Path, output_name: str, epoch: int, samples: Iterable[Sample]
) -> dict[str, Path]:
    """By `Sample.file`, the newest picture that the trainer drew of it with an epoch's checkpoint.

    One counts by its whole name (tu:6572), where it is complete, and where it is no older than its
    checkpoint's can be: what an earlier run or start left under the same name is. A TrainerError
    where there is no such checkpoint, or it is not complete.
    """
    since = _drawn_since(output, output_name, epoch)
    name = re.compile(rf"{re.escape(output_name)}_e{epoch:06d}_(\d{{2,}})_\d{{14}}_(\d+)\.png")
    newest: dict[tuple[int, int], Path] = {}
    for path in sorted((output / "sample").glob("*.png"), key=lambda path: path.stat().st_mtime_ns):
        match = name.fullmatch(path.name)
        if match and _is_complete(path, since):
            newest[int(match[1]), int(match[2])] = path
    keys = {each.file: (index, each.seed) for index, each in enumerate(samples)}
    return {file: newest[key] for file, key in keys.items() if key in newest}


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
    path = path if path.exists() else checkpoints.last_path(output, name)
    metadata = checkpoints.opened(path)[1]
    if metadata.get("ss_num_epochs") == str(epoch):
        return float(metadata.get("ss_training_started_at", "nan")) * 1e9
    return path.stat().st_mtime_ns


def _is_complete(path: Path, since: float) -> bool:
    """Whether a PNG was written since, and has its end: the trainer writes it in place."""
    written = path.stat().st_mtime_ns >= since
    return written and path.read_bytes().endswith(b"IEND\xaeB`\x82")


def draw(
    lora: Lora, samples: Sequence[Sample], options: Sequence[str], folder: Path
) -> dict[str, Path]:
    """By `Sample.file`, the pictures of a checkpoint by gen_img.py; a TrainerError where it fails.

    `options` name the base model and how it is loaded; `folder` keeps all that comes of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{_line(each)} --f {each.file}\n" for each in samples]
    write_whole(folder / "prompts.txt", "".join(lines))
    script = launch.require_submodule(REPOSITORY) / "gen_img.py"
    command = [
        *(sys.executable, str(script), "--v1", *options),
        *("--network_module", "networks.lora", "--network_weights", str(lora.path.absolute())),
        *("--from_file", str(folder / "prompts.txt"), "--outdir", str(folder)),
        *("--sampler", SAMPLER, "--max_embeddings_multiples", "3", "--batch_size", "1", "--sdpa"),
        *(("--clip_skip", str(lora.clip_skip)) if lora.clip_skip else ()),
    ]
    say(f"drawing {len(samples)} pictures of {lora.path.name}")
    environment, log = launch.environment(os.environ), folder / "gen_img.log"
    code, text = outcome(command, cwd=script.parent, environment=environment, timeout=LONGEST_S)
    write_whole(log, f"{text}\n")
    if code != 0:
        raise failures.failure(code, text.splitlines(), log)
    return {each.file: path for each in samples if (path := folder / each.file).is_file()}


def _line(sample: Sample) -> str:
    """One picture in gen_img's words (gi:2789); the space in front lets a text begin with '#'.

    `{a|b}` would be expanded (gi:1369), so braces are escaped as well.
    """
    prompt, seed = sample
    texts = (escape(each) for each in (prompt.text, prompt.negative))
    text, negative = (re.sub(r"([{}])", r"\\\1", each) for each in texts)
    way = f"--w {prompt.size} --h {prompt.size} --s {prompt.steps} --l {prompt.scale} --d {seed}"
    return f" {text} {way}" + (f" --n {negative}" if negative else "")


def folder_for(parent: Path, lora: Lora, suffix: str = "") -> Path:
    """Where one checkpoint's test is kept: by its content, so that no other's mixes in."""
    return parent / f"{lora.path.stem}-{lora.sha256[:8]}{suffix}"


def saved(folder: Path) -> EpochResult | None:
    """The result that `folder` holds, by the metrics as they are now; None without one.

    A damaged one is renamed, to be made anew.
    """
    path = folder / epoch_result.RESULT_FILE
    if not path.exists():
        return None
    try:
        return up_to_date(epoch_result.read(folder))
    except ConfigError as error:
        aside = path.rename(path.with_stem(f"result.damaged-{now():%Y-%m-%dT%H-%M-%S.%f}"))
        say(f"{error}; kept as {aside.name}, and tested again")
        return None


def up_to_date(result: EpochResult) -> EpochResult:
    """A result by the metrics as they are now; where it is of others, both are kept in it.

    A person's scores stay. A DatasetError where its pictures are to be measured again and are gone.
    """
    if result.metrics_version == metrics.VERSION:
        return result
    say(f"{result.folder}: measured again; until now {result.scores.mean} of 10")
    before = epoch_result.rescored(result, result.scores, result.scored_by)
    return epoch_result.write(_measured(before))


def evaluate(
    run: str, lora: Lora, samples: Sequence[Sample], pictures: Mapping[str, Path], folder: Path
) -> EpochResult:
    """Keep, measure and score a checkpoint's pictures (by `Sample.file`) in `folder`.

    A TrainerError where one is missing, a DatasetError where one cannot be read.
    """
    if missing := [each.file for each in samples if each.file not in pictures]:
        raise TrainerError(f"{lora.path.name}: pictures are missing: {', '.join(missing)}")
    folder.mkdir(parents=True, exist_ok=True)
    none = scoring.suggest([])
    result = EpochResult(
        run=run,
        epoch=lora.epoch,
        checkpoint=str(lora.path),
        checkpoint_sha256=lora.sha256,
        checkpoint_size=lora.size,
        folder=str(folder.absolute()),
        metrics_version=metrics.VERSION,
        pictures=tuple(_kept(sample, pictures[sample.file], folder) for sample in samples),
        suggested=none,
        scores=none,
        scored_by="metrics",
        tested=now().isoformat(timespec="milliseconds"),
    )
    return epoch_result.write(_measured(result))


def _kept(sample: Sample, path: Path, folder: Path) -> PictureResult:
    """One picture kept as it is, and as `…_24.png` with a pixel a cell; not measured yet."""
    (name, text), kept = (sample.prompt.name, sample.prompt.text), folder / sample.file
    write_whole(kept, path.read_bytes())
    # Nearest takes the pixel at each cell's centre.
    small = Image.fromarray(images.pixels(kept)).resize((24, 24), Image.Resampling.NEAREST)
    small.save(kept.with_stem(f"{kept.stem}_24"))
    file, digest = kept.name, sha256(kept)
    return PictureResult(
        prompt=name, text=text, seed=sample.seed, file=file, sha256=digest, measured={}
    )


def _measured(result: EpochResult) -> EpochResult:
    folder, pictures = Path(result.folder), []
    for each in result.pictures:
        pixels, asked = images.pixels(folder / each.file), metrics.read_prompt(each.text)
        pictures.append(replace(each, measured=metrics.measure(pixels, asked)))
    suggested = scoring.suggest([each.measured for each in pictures])
    return replace(
        result,
        pictures=tuple(pictures),
        metrics_version=metrics.VERSION,
        suggested=suggested,
        scores=result.scores if result.scored_by == "person" else suggested,
    )
