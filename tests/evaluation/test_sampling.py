"""Pictures are matched to the checkpoint that made them, or not taken at all."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from bespoke.dataset import images
from bespoke.errors import TrainerError
from bespoke.evaluation import sampling
from bespoke.experiment import prompts
from bespoke.trainer import checkpoints, sd_scripts
from tests.trainer.test_checkpoints import lora

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bespoke_baby_sd15_lora_smoke"
START = 1_700_000_000


def prompt(name: str, text: str = "x", seeds: tuple[int, ...] = (42,)) -> prompts.Prompt:
    return prompts.Prompt(
        name=name, text=text, negative="blurry", seeds=seeds, steps=2, scale=7.5, size=64
    )


SAMPLES = sampling.samples_of([prompt("a"), prompt("b", seeds=(42, 7))])


def checkpoint(output: Path, epoch: int, at: float, *, began: float = 0) -> Path:
    path = checkpoints.checkpoint_path(output, NAME, epoch)
    metadata = {"ss_num_epochs": "10", "ss_training_started_at": str(START + began)}
    save_file({"x": np.ones(1, np.float16)}, path, metadata)
    os.utime(path, (START + at, START + at))
    return path


def picture(output: Path, epoch: int, index: int, seed: int, at: float) -> Path:
    (output / "sample").mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(START + at))
    path = output / "sample" / f"{NAME}_e{epoch:06d}_{index:02d}_{stamp}_{seed}.png"
    Image.new("RGB", (64, 64), (index, seed, 0)).save(path)
    os.utime(path, (START + at, START + at))
    return path


def complete(output: Path, epoch: int, at: float) -> list[Path]:
    return [picture(output, epoch, n, each.seed, at + n) for n, each in enumerate(SAMPLES)]


def pictures_of(output: Path, epoch: int) -> list[Path]:
    return list(sampling.find_pictures(output, NAME, epoch, SAMPLES).values())


def test_brackets_are_escaped_and_each_prompt_and_seed_is_one_entry(tmp_path: Path) -> None:
    asked = [prompt("a", 'hair (#ff66cc), [x] "q" - #5'), prompt("b", seeds=(42, 7))]
    samples = sampling.samples_of(asked)
    sampling.write_for_training(samples, tmp_path / "p.json")
    rows = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert [each.file for each in samples] == ["a_42.png", "b_42.png", "b_7.png"]
    assert [row["seed"] for row in rows] == [42, 42, 7]
    assert rows[0]["prompt"] == 'hair \\(#ff66cc\\), \\[x\\] "q" - #5'
    assert (rows[0]["width"], rows[0]["height"], rows[0]["sample_steps"]) == (64, 64, 2)


def test_an_epochs_pictures_are_complete_of_its_name_and_newer_than_its_checkpoint(
    tmp_path: Path,
) -> None:
    """Eight of ten epochs were once scored on the pictures of the run before: never again."""
    complete(tmp_path, 4, at=-3600)
    checkpoint(tmp_path, 4, at=0)
    complete(tmp_path, 3, at=1)
    picture(tmp_path, 4, 0, 43, at=1)
    assert pictures_of(tmp_path, 4) == []
    own = complete(tmp_path, 4, at=5)
    torn = picture(tmp_path, 4, 0, 42, at=30)
    torn.write_bytes(torn.read_bytes()[:-4])
    assert pictures_of(tmp_path, 4) == own
    newer = picture(tmp_path, 4, 0, 42, at=20)
    assert pictures_of(tmp_path, 4) == [newer, *own[1:]]


def test_what_was_drawn_first_of_a_resumed_state_is_its_epochs_and_no_other_ones(
    tmp_path: Path,
) -> None:
    for epoch in (3, 4):
        checkpoint(tmp_path, epoch, at=100 * epoch)
    first = complete(tmp_path, 0, at=450)
    assert pictures_of(tmp_path, 4) == first
    assert pictures_of(tmp_path, 3) == []


def test_the_last_epochs_pictures_come_before_its_checkpoint_and_after_its_process(
    tmp_path: Path,
) -> None:
    complete(tmp_path, 10, at=50)
    checkpoint(tmp_path, 10, at=200, began=100)
    complete(tmp_path, 0, at=140)
    assert pictures_of(tmp_path, 10) == []
    own = complete(tmp_path, 10, at=150)
    assert pictures_of(tmp_path, 10) == own


PRETENDER = """
import pathlib, sys
args = sys.argv[1:]
out = pathlib.Path(args[args.index("--outdir") + 1])
print(*args)
for line in pathlib.Path(args[args.index("--from_file") + 1]).read_text().splitlines():
    (out / line.split(" --f ")[1]).write_bytes(b"picture")
"""


@pytest.fixture
def pretender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script in the place of gen_img.py."""
    path = tmp_path / "gen_img.py"
    path.write_text(PRETENDER)
    monkeypatch.setattr(sd_scripts, "require_submodule", lambda _: tmp_path)
    return path


def test_each_prompt_and_seed_is_a_line_for_gen_img(tmp_path: Path, pretender: Path) -> None:
    known = checkpoints.identify(lora(tmp_path, "a.safetensors", clip_skip="2"))
    asked = [prompt("a", "{x|y} hair (#ff66cc)"), prompt("b", seeds=(42, 7))]
    samples, folder = sampling.samples_of(asked), tmp_path / "drawn"
    drawn = sampling.draw(known, samples, ("--ckpt", "model"), folder)
    assert drawn == {each.file: folder / each.file for each in samples}
    lines = (folder / "prompts.txt").read_text().splitlines()
    way = "--w 64 --h 64 --s 2 --l 7.5 --d 42 --n blurry --f a_42.png"
    assert lines[0] == rf" \{{x|y\}} hair \(#ff66cc\) {way}"
    log = (folder / "gen_img.log").read_text()
    assert all(words in log for words in ("--ckpt model", "--clip_skip 2", str(known.path)))


def test_its_failure_is_said_in_its_last_words_and_its_log_holds_no_secret(
    tmp_path: Path, pretender: Path
) -> None:
    pretender.write_text('print("from http://me:hunter22@host")\nraise RuntimeError("no layer")')
    known = checkpoints.identify(lora(tmp_path, "a.safetensors"))
    with pytest.raises(TrainerError, match="exit code 1: RuntimeError: no layer\n"):
        sampling.draw(known, SAMPLES, (), tmp_path / "drawn")
    assert "http://me:***@host" in (tmp_path / "drawn" / "gen_img.log").read_text()


@pytest.mark.trainer
def test_the_real_trainers_and_the_real_gen_imgs_pictures_are_found(
    repository: Path, random_model: Path, smoke_run: Path, tmp_path: Path
) -> None:
    every = prompts.resized(prompts.load(repository / prompts.PROMPTS_FILE), size=64, steps=2)
    samples = sampling.samples_of(each for each in every if each.name == "green-lady")
    output, model = smoke_run / "output", smoke_run / "models" / "tokenizer"
    known = checkpoints.identify(checkpoints.checkpoint_path(output, NAME, 1))
    options = ("--ckpt", str(random_model), "--tokenizer_cache_dir", str(model))
    pictures = [sampling.find_pictures(output, NAME, epoch, samples) for epoch in (1, 2)]
    pictures.append(sampling.draw(known, samples, options, tmp_path / "drawn"))
    first, last, drawn = (images.pixels(each[samples[0].file]).astype(int) for each in pictures)
    assert first.shape == (64, 64, 3)
    assert np.abs(first - last).max() > 0, "two epochs, one picture"
    assert np.abs(first - drawn).mean() < 10
