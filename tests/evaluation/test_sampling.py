"""Pictures are matched to the checkpoint that made them, or not taken at all."""

from __future__ import annotations

import json
import os
import re
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from bespoke.errors import TrainerError
from bespoke.evaluation import sampling
from bespoke.experiment import prompts
from bespoke.trainer import checkpoints, launch

if TYPE_CHECKING:
    from pathlib import Path

NAME = "bespoke_baby_sd15_lora_smoke"
START = 1_700_000_000


def prompt(name: str, text: str = "x", seeds: tuple[int, ...] = (42,)) -> prompts.Prompt:
    return prompts.Prompt(
        name=name,
        text=text,
        negative="blurry",
        seeds=seeds,
        steps=2,
        scale=7.5,
        size=64,
    )


SAMPLES = sampling.sample_specs([prompt("a"), prompt("b", seeds=(42, 7))])


def checkpoint(output: Path, epoch: int, at: float, *, last: int = 10, began: float = 0) -> Path:
    output.mkdir(exist_ok=True)
    path = checkpoints.checkpoint_path(output, NAME, epoch)
    told = {
        "ss_epoch": str(epoch),
        "ss_num_epochs": str(last),
        "ss_training_started_at": str(START + began),
    }
    save_file({"x": np.ones(1, np.float16)}, path, told)
    os.utime(path, (START + at, START + at))
    return path


def picture(
    output: Path, epoch: int, index: int, seed: int, at: float, *, whole: bool = True
) -> Path:
    (output / "sample").mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%d%H%M%S", time.localtime(START + at))
    path = output / "sample" / f"{NAME}_e{epoch:06d}_{index:02d}_{stamp}_{seed}.png"
    Image.new("RGB", (64, 64), (index, seed, 0)).save(path)
    if not whole:
        path.write_bytes(path.read_bytes()[:-4])
    os.utime(path, (START + at, START + at))
    return path


def complete(output: Path, epoch: int, at: float) -> list[Path]:
    return [picture(output, epoch, spec.index, spec.seed, at + spec.index) for spec in SAMPLES]


# Written for the trainer


def test_brackets_are_escaped_and_each_prompt_and_seed_is_one_entry(tmp_path: Path) -> None:
    asked = [prompt("a", 'hair (#ff66cc), [x] "q" - #5'), prompt("b", seeds=(42, 7))]
    samples = sampling.write_for_training(asked, tmp_path / "p.json")
    rows = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert [(spec.prompt, spec.seed, spec.index) for spec in samples] == [
        ("a", 42, 0),
        ("b", 42, 1),
        ("b", 7, 2),
    ]
    assert [row["seed"] for row in rows] == [42, 42, 7]
    assert rows[0]["prompt"] == 'hair \\(#ff66cc\\), \\[x\\] "q" - #5'
    assert (rows[0]["width"], rows[0]["height"], rows[0]["sample_steps"]) == (64, 64, 2)


# Found again


def test_an_epochs_pictures_are_matched_by_their_names(tmp_path: Path) -> None:
    checkpoint(tmp_path, 3, at=0)
    paths = complete(tmp_path, 3, at=1)
    complete(tmp_path, 2, at=1)
    picture(tmp_path, 3, 0, 43, at=1)
    pictures = sampling.find_pictures(tmp_path, NAME, 3, SAMPLES)
    assert list(pictures.values()) == paths
    assert sampling.missing_pictures(SAMPLES, pictures) is None


def test_what_a_previous_run_left_under_the_same_epoch_is_never_taken(tmp_path: Path) -> None:
    """Eight of ten epochs were once scored on the pictures of the run before: never again."""
    complete(tmp_path, 4, at=-3600)
    checkpoint(tmp_path, 4, at=0)
    pictures = sampling.find_pictures(tmp_path, NAME, 4, SAMPLES)
    assert pictures == {}
    assert sampling.missing_pictures(SAMPLES, pictures) == (
        "3 pictures are not there: a (seed 42), b (seed 42), b (seed 7)"
    )
    own = complete(tmp_path, 4, at=5)
    assert list(sampling.find_pictures(tmp_path, NAME, 4, SAMPLES).values()) == own


def test_of_several_pictures_of_one_shot_the_newest_is_taken(tmp_path: Path) -> None:
    checkpoint(tmp_path, 4, at=0)
    complete(tmp_path, 4, at=10)
    newer = picture(tmp_path, 4, 0, 42, at=20)
    torn = picture(tmp_path, 4, 0, 42, at=30, whole=False)
    pictures = sampling.find_pictures(tmp_path, NAME, 4, SAMPLES)
    assert pictures[SAMPLES[0]] == newer != torn


def test_the_last_epochs_pictures_come_before_its_checkpoint_and_after_its_process(
    tmp_path: Path,
) -> None:
    complete(tmp_path, 10, at=50)
    checkpoint(tmp_path, 10, at=200, began=100)
    assert sampling.find_pictures(tmp_path, NAME, 10, SAMPLES) == {}
    own = complete(tmp_path, 10, at=150)
    assert list(sampling.find_pictures(tmp_path, NAME, 10, SAMPLES).values()) == own
    # Without a number, as the trainer leaves it, it is the same file.
    checkpoints.checkpoint_path(tmp_path, NAME, 10).rename(tmp_path / f"{NAME}.safetensors")
    assert list(sampling.find_pictures(tmp_path, NAME, 10, SAMPLES).values()) == own


def test_without_its_checkpoint_an_epoch_has_no_pictures(tmp_path: Path) -> None:
    complete(tmp_path, 4, at=0)
    with pytest.raises(TrainerError, match="was not written"):
        sampling.find_pictures(tmp_path, NAME, 4, SAMPLES)


# Afterwards


def gen_img(folder: Path, script: Path, model: Path | str = "model") -> sampling.GenImg:
    return sampling.GenImg(
        script=script,
        base_model=str(model),
        tokenizer=folder / "tokenizer",
        half=False,
        folder=folder / "drawn",
    )


PRETENDER = """
import pathlib, sys
args = sys.argv[1:]
out = pathlib.Path(args[args.index("--outdir") + 1])
lines = pathlib.Path(args[args.index("--from_file") + 1]).read_text().splitlines()
for line in lines:
    (out / line.split(" --f ")[1].split(" --")[0]).write_bytes(b"picture")
    sys.stderr.write("\\r 50%|#####     | 1/2 [00:01<00:01,  1.0s/it]")
CLOSING
"""


def pretender(folder: Path, *, closing: str = "") -> Path:
    path = folder / "gen_img.py"
    path.write_text(PRETENDER.replace("CLOSING", closing))
    return path


def test_every_checkpoint_prompt_and_seed_is_a_line_of_its_own(tmp_path: Path) -> None:
    weights = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    asked = [prompt("a", "{x|y} hair (#ff66cc)"), prompt("b", seeds=(42, 7))]
    made = sampling.draw(weights, asked, gen_img(tmp_path, pretender(tmp_path)), print)
    assert [len(pictures) for pictures in made] == [3, 3]
    lines = (tmp_path / "drawn" / "prompts.txt").read_text().splitlines()
    assert lines[0] == (
        r" \{x|y\} hair \(#ff66cc\) --w 64 --h 64 --s 2 --l 7.5 --d 42 --n blurry"
        " --am 1,0 --f 000_000.png"
    )
    assert [re.search(r"--d (\d+) --n blurry --am (\S+)", line)[0] for line in lines[3:]] == [  # type: ignore[index]
        "--d 42 --n blurry --am 0,1",
        "--d 42 --n blurry --am 0,1",
        "--d 7 --n blurry --am 0,1",
    ]


@pytest.mark.parametrize(
    ("closing", "words"),
    [
        ('raise RuntimeError("no such layer")', "exit code 1: RuntimeError: no such layer"),
        (
            'print("\\nfetching http://me:hunter22@host", end=""); sys.exit(3)',
            "exit code 3: fetching http://me:***@host",
        ),
    ],
)
def test_its_failure_is_told_in_its_last_words_with_no_secret(
    tmp_path: Path, closing: str, words: str
) -> None:
    script = pretender(tmp_path, closing=closing)
    with pytest.raises(TrainerError) as caught:
        sampling.draw([tmp_path / "a"], [prompt("a")], gen_img(tmp_path, script), print)
    log = tmp_path / "drawn" / "gen_img.log"
    assert str(caught.value) == f"gen_img.py ended with {words}\nfull log: {log}"
    assert log.read_text().endswith(f"{words.partition(': ')[2]}\n")


def test_while_it_works_it_is_said_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_INTERVAL_S", 0.0)
    script = pretender(tmp_path, closing="import time; print(flush=True); time.sleep(1.5)")
    said: list[str] = []
    sampling.draw([tmp_path / "a"], [prompt("a")], gen_img(tmp_path, script), said.append)
    assert any(re.match(r"\d of 1 pictures are drawn; gen_img.py: .* 1/2 ", line) for line in said)


# The real ones


@pytest.fixture
def asked(repository: Path) -> list[prompts.Prompt]:
    """What `smoke` draws after each epoch."""
    every = prompts.resized(prompts.load(repository / prompts.PROMPTS_FILE), size=64, steps=2)
    return [each for each in every if each.name == "green-lady"]


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(np.int64)


@pytest.mark.trainer
def test_the_trainers_own_pictures_are_found_for_each_epoch_the_last_too(
    smoke_run: Path, asked: list[prompts.Prompt]
) -> None:
    samples = sampling.sample_specs(asked)
    output = smoke_run / "output"
    pictures = [sampling.find_pictures(output, NAME, epoch, samples) for epoch in (1, 2)]
    assert [sampling.missing_pictures(samples, each) for each in pictures] == [None, None]
    first, last = (each[samples[0]] for each in pictures)
    assert first.name.startswith(f"{NAME}_e000001_00_")
    assert pixels(first).shape == (64, 64, 3)
    assert np.abs(pixels(first) - pixels(last)).max() > 0, "two epochs, one picture"


@pytest.mark.trainer
def test_gen_img_keeps_several_checkpoints_apart_to_the_last_bit(
    repository: Path,
    random_model: Path,
    smoke_run: Path,
    asked: list[prompts.Prompt],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = smoke_run / "output"
    first, second = (output / f"{NAME}-{epoch:06d}.safetensors" for epoch in (1, 2))
    halved = tmp_path / "rank16.safetensors"
    save_file(
        {
            name: rows[:16] if "lora_down" in name else rows[:, :16] if "lora_up" in name else rows
            for name, rows in load_file(second).items()
        },
        halved,
    )
    work = gen_img(tmp_path, repository / launch.SUBMODULE / "gen_img.py", random_model)
    work = sampling.GenImg(**{**vars(work), "tokenizer": smoke_run / "models" / "tokenizer"})
    together = sampling.draw([first, second, halved], asked, work, print)
    alone = sampling.GenImg(**{**vars(work), "folder": tmp_path / "alone"})
    (by_itself,) = sampling.draw([second], asked, alone, print)
    (spec,) = sampling.sample_specs(asked)
    while_training = sampling.find_pictures(output, NAME, 1, [spec])[spec]
    off = np.abs(pixels(while_training) - pixels(together[0][spec]))
    print("while training and afterwards:", off.mean(), off.max())
    assert np.array_equal(pixels(together[1][spec]), pixels(by_itself[spec]))
    assert not np.array_equal(pixels(together[0][spec]), pixels(together[1][spec]))
    assert not np.array_equal(pixels(together[2][spec]), pixels(together[1][spec]))
