"""How long the metrics of a picture take, and of ten checkpoints times seven prompts.

    OMP_NUM_THREADS=1 python benchmarks/evaluate.py DATA [--runs 70]

DATA is the folder of the 203 pictures and captions. CPU time of one process is counted, so that a
busy machine does not falsify it. The pictures are measured as they are, with noise of 20 levels,
and blurred; then 70 files are read and scored, each read once.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bespoke.dataset import images
from bespoke.evaluation import by_hand, metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=70)
    chosen = parser.parse_args()
    files = sorted(chosen.data.glob("*.png"))[: chosen.runs]
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {"as it is": [], "noise": [], "blurred": []}
    for file in files:
        picture = images.pixels(file)
        text = file.with_suffix(".txt").read_text(encoding="utf-8")
        noise = np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
        blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(6)))
        for name, each in zip(times, (picture, noise, blurred), strict=True):
            started = time.process_time()
            metrics.measure(each, text)
            times[name].append(1000 * (time.process_time() - started))
    print(f"{'ms of CPU a picture':22}{'median':>8}{'95%':>8}{'most':>8}")
    for name, values in times.items():
        low, high, most = np.percentile(values, (50, 95, 100))
        print(f"{name:22}{low:8.1f}{high:8.1f}{most:8.1f}")
    started, shown = time.process_time(), io.StringIO()
    asked = "solid green background (#00ff00), pink hair (#ff66cc)"
    with contextlib.redirect_stdout(shown):
        by_hand.score(argparse.Namespace(pictures=files, prompt=asked, json=True))
    seconds = time.process_time() - started
    size = len(shown.getvalue()) / 1024
    print(f"{len(files)} pictures scored in {seconds:.2f} s of CPU; {size:.0f} KB of JSON")


if __name__ == "__main__":
    main()
