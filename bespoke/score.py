"""`bespoke score`: what the metrics say of any pictures, on their own."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bespoke import metrics, pictures, scoring
from bespoke.errors import DatasetError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path


def scored(files: Sequence[Path], prompt: str) -> list[dict[str, Any]]:
    """One object a picture: `file`, what `metrics.measure` gives, `scores`, `mean` and `verdict`.

    Raises:
        DatasetError: where pictures cannot be read; one line for each of them.
    """
    wanted = metrics.read_prompt(prompt)
    found, unreadable = [], []
    for file in files:
        try:
            picture = pictures.pixels(file)
        except DatasetError as error:
            unreadable.append(str(error))
            continue
        measured = metrics.measure(picture, wanted)
        scores = scoring.suggest([measured])
        told = {"scores": asdict(scores), "mean": scores.mean, "verdict": scores.verdict}
        found.append({"file": str(file), **measured, **told})
    if unreadable:
        raise DatasetError("\n".join(unreadable))
    return found


def show(chosen: argparse.Namespace) -> None:
    """Print a few lines a picture, or one JSON list with an object for each.

    Raises:
        DatasetError: as `scored` does; nothing is printed then.
    """
    found = scored(chosen.pictures, chosen.prompt)
    if chosen.json:
        print(json.dumps(found, indent=2))
        return
    for each in found:
        print("\n    ".join((each["file"], *_lines(each))))


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"background: {_colour(found['background'])}"]
    lines += [f"{kind}: {_colour(each)}" for kind, each in found["features"].items()]
    lines += [f"{name.replace('_', ' ')}: {_number(found[name])}" for name in NUMBERS]
    scores = [
        f"{name.replace('_', ' ')} {'not to tell' if score is None else score}"
        for name, score in found["scores"].items()
    ]
    verdict = f"; mean {found['mean']}, {found['verdict']}" if found["verdict"] else ""
    return [*lines, f"scores: {', '.join(scores)}{verdict}"]


NUMBERS = ("bleeding", "hair_tones", "cells", "palette", "edges")


def _colour(found: dict[str, Any]) -> str:
    seen = f"{found['name']} ({found['colour']})" if found.get("colour") else ""
    if found["verdict"] == "unmeasured":
        return ", ".join(filter(None, (f"unmeasured: {found['reason']}", seen)))
    asked = " ".join(found["asked"]["words"] + found["asked"]["hex"])
    return f"{found['verdict']}: {seen}, asked {asked}, ΔE {found['delta_e']}"


def _number(found: dict[str, Any]) -> str:
    if "reason" in found:
        return f"unmeasured: {found['reason']}"
    placed = ""
    if "value" in found:
        placed = f"{found['value']}, above {found['percentile']}% of the originals"
    return ", ".join(filter(None, (found.get("verdict"), placed)))
