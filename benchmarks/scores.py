"""Whether the scores rank labelled pictures as the rater did; ends with 1 where they do not.

    OMP_NUM_THREADS=1 python benchmarks/scores.py FOLDER [--visual 0.55] [--overall 0.78]

FOLDER holds pictures and labels.json: a list of objects with file, run, prompt, visual, adherence
and overall (0 to 10), background (right, wrong, or else unclear), faults (words), and where it is
known epoch. Intervals hold 95% of 1,000 drawings of as many runs with replacement, from one seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bespoke.dataset import images
from bespoke.evaluation import metrics, scoring

Numbers = NDArray[np.float64]

# By score, the label that it should rank as.
LABELS = {
    "visual_quality": "visual",
    "style_match": "visual",
    "prompt_adherence": "adherence",
    "mean": "overall",
}
APART = 1.0
"""Points of the rater from which on two pictures are a pair that must be told apart."""

FEWEST = 5
"""Pictures of a run, or with a fault, below which a number would be chance."""


def ranks(values: Numbers) -> Numbers:
    """From 1, equal values with the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[place])


def spearman(first: Numbers, second: Numbers) -> float:
    """Rank correlation; 0 where one is the same all over."""
    one, other = ranks(first), ranks(second)
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def pairs(score: Numbers, label: Numbers) -> float:
    """The share of pairs that the label tells apart and the score ranks so; ties count half."""
    above = label[:, None] - label >= APART
    apart = np.sign(score[:, None] - score)[above]
    return float((apart + 1).mean() / 2) if apart.size else float("nan")


def auc(score: Numbers, has_it: NDArray[np.bool_]) -> float:
    """How often a picture with the fault has the lower score than one without; ties count half."""
    steps = np.sign(score[~has_it][:, None] - score[has_it])
    return float((steps + 1).mean() / 2)


def interval(score: Numbers, label: Numbers, runs: NDArray[np.str_]) -> tuple[float, float]:
    """Of runs drawn with replacement, each with all its pictures: those of a run are alike."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(runs == run) for run in sorted(set(runs))]
    drawn = (
        np.concatenate([groups[n] for n in rng.integers(0, len(groups), len(groups))])
        for _ in range(1000)
    )
    low, high = np.quantile([spearman(score[d], label[d]) for d in drawn], (0.025, 0.975))
    return float(low), float(high)


def scored(measured: list[dict[str, Any]]) -> dict[str, Numbers]:
    """Each score of each picture, NaN where it has none."""
    scores: dict[str, list[float]] = {name: [] for name in LABELS}
    for each in measured:
        suggested = scoring.suggest([each])
        for name, value in {**asdict(suggested), "mean": suggested.mean}.items():
            scores[name].append(np.nan if value is None else value)
    return {name: np.array(values) for name, values in scores.items()}


def variants(measured: list[dict[str, Any]], count: int) -> list[dict[str, Numbers]]:
    """The scores with every weight of the likeness, and OFF_GRID, BLURRED and UNEVEN, times a
    factor of its own from a half to two, by chance from one seed."""
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(count):
        changed: dict[str, Any] = {"LIKENESS": {}}
        for part, (quality, style, words) in scoring.LIKENESS.items():
            factors = 2 ** rng.uniform(-1, 1, 2)
            changed["LIKENESS"][part] = (quality * factors[0], style * factors[1], words)
        for name in ("OFF_GRID", "BLURRED", "UNEVEN"):
            changed[name] = getattr(scoring, name) * 2 ** rng.uniform(-1, 1)
        with mock.patch.multiple(scoring, **changed):
            scores.append(scored(measured))
    return scores


def left_out(
    measured: list[dict[str, Any]], runs: NDArray[np.str_], labels: dict[str, Numbers]
) -> None:
    """The weights with the least error over all runs but one, and what they give for that one."""
    choices = variants(measured, 300)
    errors = [
        sum(np.abs(scores[n] - labels[LABELS[n]]) for n in ("visual_quality", "mean"))
        for scores in choices
    ]
    pooled = {name: np.zeros(len(runs)) for name in LABELS}
    for run in sorted(set(runs)):
        own = runs == run
        best = int(np.argmin([np.nanmean(each[~own]) for each in errors]))
        for name in LABELS:
            pooled[name][own] = choices[best][name][own]
    print("\nwith each run left out, the weights chosen by the others (of 300 by chance):")
    for name, label_name in LABELS.items():
        known = ~np.isnan(pooled[name])
        score, label = pooled[name][known], labels[label_name][known]
        error, same = np.abs(score - label).mean(), same_verdict(score, label)
        print(
            f"{f'{name} / {label_name}':32}Spearman {spearman(score, label):.2f}, "
            f"error {error:.2f}, same verdict {same:.2f}"
        )
    ranges = {name: [] for name in ("visual_quality", "mean")}
    for scores in choices:
        for name, every in ranges.items():
            known = ~np.isnan(scores[name])
            every.append(spearman(scores[name][known], labels[LABELS[name]][known]))
    for name, every in ranges.items():
        low, middle, high = np.quantile(every, (0.05, 0.5, 0.95))
        print(f"{name}: Spearman of any of the 300 {middle:.2f} (90%: {low:.2f} to {high:.2f})")


def same_verdict(score: Numbers, label: Numbers) -> float:
    """How often both are best, good, acceptable or skip."""
    bounds = sorted(bound for bound, _ in scoring.VERDICTS)
    return float((np.digitize(score, bounds) == np.digitize(label, bounds)).mean())


def best_epochs(rows: list[dict[str, Any]], mean: Numbers, overall: Numbers) -> None:
    """By run, what the best by score has with the rater, beside the best by label."""
    print("\nbest epoch by run (a picture, where epochs are not known), with its label")
    for run in sorted({row["run"] for row in rows}):
        own = [n for n, row in enumerate(rows) if row["run"] == run and not np.isnan(mean[n])]
        names = np.array([str(rows[n].get("epoch", rows[n]["file"])) for n in own])
        if len(set(names)) < 2:
            continue
        table = {
            name: (mean[own][names == name].mean(), overall[own][names == name].mean())
            for name in sorted(set(names))
        }
        chosen = max(table, key=lambda name: table[name][0])
        wanted = max(table, key=lambda name: table[name][1])
        lower = sum(table[name][1] < table[chosen][1] for name in table)
        print(
            f"  {run:10} by score {chosen:8} {table[chosen][1]:4.1f}   by label {wanted:8} "
            f"{table[wanted][1]:4.1f}   better than {lower} of {len(table) - 1}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--visual", type=float, default=0.55, help="least Spearman of the quality")
    parser.add_argument("--overall", type=float, default=0.78, help="least Spearman of the mean")
    parser.add_argument("--background", type=float, default=0.95, help="least share of right ones")
    chosen = parser.parse_args()
    rows = json.loads((chosen.folder / "labels.json").read_text(encoding="utf-8"))
    started = time.process_time()
    measured = [
        metrics.measure(images.pixels(chosen.folder / row["file"]), row["prompt"]) for row in rows
    ]
    scores = scored(measured)
    spent = 1000 * (time.process_time() - started) / len(rows)
    labels = {name: np.array([row[name] for row in rows]) for name in set(LABELS.values())}
    runs = np.array([row["run"] for row in rows])
    print(f"{len(rows)} pictures of {len(set(runs))} runs, {spent:.0f} ms of CPU each")

    print(f"\n{'score against label':32}{'Spearman':>9}{'95%':>16}{'pairs':>7}{'error':>7}{'n':>5}")
    correlation = {}
    for name, label_name in LABELS.items():
        known = ~np.isnan(scores[name])
        score, label = scores[name][known], labels[label_name][known]
        correlation[name] = spearman(score, label)
        low, high = interval(score, label, runs[known])
        print(
            f"{f'{name} / {label_name}':32}{correlation[name]:9.2f}{f'{low:.2f} to {high:.2f}':>16}"
            f"{pairs(score, label):7.2f}{np.abs(score - label).mean():7.2f}{known.sum():5}"
        )

    print(f"\n{'by run':12}{'n':>4}" + "".join(f"{name:>18}" for name in LABELS))
    for run in sorted(set(runs)):
        own = runs == run
        if own.sum() >= FEWEST:
            columns = ""
            for name, label_name in LABELS.items():
                known = own & ~np.isnan(scores[name])
                columns += f"{spearman(scores[name][known], labels[label_name][known]):18.2f}"
            print(f"{run:12}{own.sum():4}{columns}")

    names = "".join(f"{name:>18}" for name in (*LABELS, "rater's overall"))
    print(f"\n{'AUC by fault':12}{'n':>4}{names}")
    for fault in sorted({fault for row in rows for fault in row["faults"]}):
        has_it = np.array([fault in row["faults"] for row in rows])
        if has_it.sum() >= FEWEST:
            columns = "".join(
                f"{auc(s[~np.isnan(s)], has_it[~np.isnan(s)]):18.2f}"
                for s in (*scores.values(), labels["overall"])
            )
            print(f"{fault:12}{has_it.sum():4}{columns}")

    left_out(measured, runs, labels)
    best_epochs(rows, scores["mean"], labels["overall"])

    judged = {"right": "match", "wrong": "mismatch"}
    agreed = [
        judged[row["background"]] == each["background"]["verdict"]
        for row, each in zip(rows, measured, strict=True)
        if row["background"] in judged
    ]
    known = ~np.isnan(scores["mean"])
    exact = same_verdict(scores["mean"][known], labels["overall"][known])
    print(f"\nbackground's verdict as the rater's: {sum(agreed)} of {len(agreed)} clear cases")
    print(f"best, good, acceptable or skip as by the rater's overall: {exact:.2f}")

    results = {
        "visual_quality / visual": (correlation["visual_quality"], chosen.visual),
        "mean / overall": (correlation["mean"], chosen.overall),
        "background": (float(np.mean(agreed)), chosen.background),
    }
    failed = [name for name, (value, bound) in results.items() if value < bound]
    for name, (value, bound) in results.items():
        print(f"{'FAIL' if name in failed else 'ok':5}{name}: {value:.3f}, at least {bound}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
