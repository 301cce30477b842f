"""Sample pictures in the place of the ones that the trainer would make with the base model."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import toml

if TYPE_CHECKING:
    import argparse

    from bespoke.rehearsal.drawing import Colour

# BESPOKE_STAND_IN_BACKGROUND says from when on a sample shows the background that its prompt asks
# for: "green_at:N" from epoch N on (as if unset, with N = 3), "never", or "flip": in even epochs.
VARIABLE = "BESPOKE_STAND_IN_BACKGROUND"

_WRONG: tuple[Colour, ...] = ((0x8A, 0x50, 0x3C), (0x30, 0x60, 0xC0))

# The letters in a prompt line that the stand-in acts on (train_util.py:6254 at v0.10.1).
_LINE_OPTIONS = {"w": "width", "h": "height", "d": "seed"}


def write_samples(args: argparse.Namespace, named: int, epoch: int) -> None:
    """The pictures of the weights after `epoch` under the trainer's names (train_util.py:6572 at
    v0.10.1), which say the epoch `named`.
    """
    if not args.sample_prompts or not Path(args.sample_prompts).is_file():
        print(f"No prompt file / プロンプトファイルがありません: {args.sample_prompts}", flush=True)
        return
    folder = Path(args.output_dir) / "sample"
    folder.mkdir(parents=True, exist_ok=True)
    for number, prompt in enumerate(read_prompts(Path(args.sample_prompts))):
        now = time.strftime("%Y%m%d%H%M%S")
        tail = f"_{prompt['seed']}" if prompt.get("seed") is not None else ""
        head = f"{args.output_name}_" if args.output_name else ""
        _draw(folder / f"{head}e{named:06d}_{number:02d}_{now}{tail}.png", prompt, epoch, number)


def read_prompts(path: Path) -> list[dict[str, Any]]:
    """The prompts of a .txt, .toml or .json file with the trainer's keys."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return list(json.loads(text))
    if path.suffix == ".toml":
        shared = toml.loads(text)["prompt"]
        return [{**shared, **subset} for subset in shared["subset"]]
    return [_from_line(line) for line in text.splitlines() if line.strip() and line[0] != "#"]


def _from_line(line: str) -> dict[str, Any]:
    options = re.findall(r" --([whd]) +(\d+)", line)
    numbers = {_LINE_OPTIONS[letter]: int(value) for letter, value in options}
    return {"prompt": line.split(" --")[0].strip(), **numbers}


def _draw(path: Path, prompt: dict[str, Any], epoch: int, number: int) -> None:
    from PIL.PngImagePlugin import PngInfo

    from bespoke.rehearsal import drawing

    text = prompt.get("prompt", "")
    subject = "lady" if re.search(r"\blady\b", text) else "lad"
    drawn = drawing.portrait(prompt.get("seed") or number, subject, _background(text, epoch))
    size = (prompt.get("width", 512), prompt.get("height", 512))
    note = PngInfo()
    note.add_text("Comment", "REHEARSAL: drawn by a stand-in, no model made this")
    image = drawing.enlarged(drawn.cells).resize(size, resample=0)
    image.save(path, pnginfo=note, compress_level=1)


def _background(prompt: str, epoch: int) -> Colour | None:
    """The colour that the prompt asks for, or one far from it; None where it asks for none."""
    told = os.environ.get(VARIABLE) or "green_at:3"
    at = re.fullmatch(r"green_at:(\d+)", told)
    if not at and told not in ("never", "flip"):
        sys.exit(f"{VARIABLE}={told}: green_at:N, never or flip")
    follows = epoch >= int(at[1]) if at else told == "flip" and epoch % 2 == 0
    asked = _asked(prompt)
    if asked is None or follows:
        return asked
    return max(_WRONG, key=lambda wrong: sum(abs(a - b) for a, b in zip(wrong, asked, strict=True)))


def _asked(prompt: str) -> Colour | None:
    """The colour of the prompt's background tag: its hex code, else its colour words."""
    from PIL import ImageColor

    from bespoke.rehearsal.drawing import COLOURS

    tag = next((tag for tag in prompt.split(",") if "background" in tag), "")
    code = re.search(r"#[0-9a-fA-F]{6}", tag)
    words = tag.replace("background", " ").split()
    for name in [code[0]] if code else ["".join(words), *words]:
        with contextlib.suppress(ValueError):
            red, green, blue = COLOURS.get(name) or ImageColor.getrgb(name)[:3]
            return red, green, blue
    return None
