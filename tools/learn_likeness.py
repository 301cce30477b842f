"""Learn what a collection's pictures have in common; write the numbers that the package ships.

    python tools/learn_likeness.py DATA [--out bespoke/evaluation/likeness.npz]

DATA is the folder of the 203 pictures. What it writes holds no picture: see evaluation/likeness.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bespoke.dataset import images
from bespoke.evaluation import likeness
from bespoke.evaluation.view import CELLS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=likeness.SHIPPED)
    chosen = parser.parse_args()
    every = (
        images.read(chosen.data, path.name, CELLS) for path in sorted(chosen.data.glob("*.png"))
    )
    arts = [each.art for each in every if isinstance(each, images.Picture)]
    likeness.keep(chosen.out, [art for art in arts if art is not None], anew=True)


if __name__ == "__main__":
    main()
