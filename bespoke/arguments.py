"""The arguments of each verb, and nothing of what they do."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bespoke import origin

DEFAULT_EXPERIMENT = origin.told(Path(__file__).resolve().parent.parent).get(
    "experiment", "keep_tokens_3"
)

RUN_EXAMPLES = """\
  python -m bespoke.run --experiment keep_tokens_3
  python -m bespoke.run --experiment keep_tokens_3 --set training.unet_lr=5e-5
  python -m bespoke.run --experiment expanded_dataset --data generated=~/generated
  python -m bespoke.run --experiment keep_tokens_3 --with-parent --seeds 42,43
  python -m bespoke.run --experiment smoke      can this machine train at all?
  python -m bespoke.run --rehearse              the whole way with no GPU and no download

exit codes: 0 done, 1 unexpected, 2 configuration, 3 pictures or captions, 4 the trainer failed,
5 the gate stopped the run, 130 interrupted
"""


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("a folder's name is needed")
    return Path(text)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: whole numbers are needed, as 42,43") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1 on is needed")
    return int(text)


def workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        help="where training_data, output and logs are (default: BESPOKE_WORKSPACE, /workspace, "
        "./workspace)",
    )


def as_json(parser: argparse.ArgumentParser) -> None:
    _switches(parser, json="as JSON, for a script")


def _switches(parser: argparse.ArgumentParser, **about: str) -> None:
    """Options that are there or not; `dry_run="…"` adds --dry-run with that help."""
    for name, text in about.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def _experiment(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    again = "; again for another beside it" if several else ""
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        action="append" if several else "store",
        default=None if several else DEFAULT_EXPERIMENT,
        help=f"a file's name in experiments/, without .toml (default: {DEFAULT_EXPERIMENT}){again}",
    )


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        action="append",
        default=[],
        help="the collection's folder; NAME=DIR for another subset's (may be given again)",
    )
    workspace(parser)


def _choices(parser: argparse.ArgumentParser) -> None:
    _data(parser)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="for this run alone: training.KEY=VALUE or dataset.KEY=VALUE (may be given again)",
    )


def _strictness(parser: argparse.ArgumentParser) -> None:
    _switches(
        parser,
        strict="warnings stop as errors do",
        allow_inert="go on though nothing that the trainer sees differs from the parent",
    )
    parser.add_argument(
        "--parent-data",
        metavar="DIR",
        action="append",
        default=[],
        help="the parent's own pictures and captions, where they were others; NAME=DIR for another "
        "subset's (may be given again)",
    )


def check(parser: argparse.ArgumentParser) -> None:
    _experiment(parser)
    _choices(parser)
    _strictness(parser)
    _switches(parser, all="show every finding, not three of a kind")
    as_json(parser)


def repair(parser: argparse.ArgumentParser) -> None:
    _experiment(parser)
    _choices(parser)
    parser.add_argument("--out", metavar="DIR", type=_folder, required=True, help="the new folder")
    parser.add_argument(
        "--keep",
        metavar="CLASS",
        default="background",
        help="the class to move among the kept tags (default: background)",
    )
    parser.set_defaults(allow_inert=True, parent_data=[])


def score(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what was asked")
    as_json(parser)


def rescore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", metavar="FOLDER", type=Path, nargs="+", help="a test's folder, with result.json"
    )
    workspace(parser)


def optional_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run, or the latest of a name")
    workspace(parser)


def compare(parser: argparse.ArgumentParser, nargs: int | str = "+") -> None:
    named = "runs by name, or experiments for their latest run"
    parser.add_argument("runs", metavar="RUN", nargs=nargs, help=named)
    as_json(parser)
    workspace(parser)


def record_list(parser: argparse.ArgumentParser) -> None:
    as_json(parser)
    workspace(parser)


def record_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN")
    workspace(parser)


def record_migrate(parser: argparse.ArgumentParser) -> None:
    _switches(parser, yes="without asking")
    workspace(parser)


def serve(parser: argparse.ArgumentParser) -> None:
    workspace(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="where to listen; anything but this machine itself needs a token (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=int, default=8347, help="(default: 8347; 0 takes a free one)"
    )
    parser.add_argument(
        "--token", help="what a reader must know; better set as BESPOKE_REPORT_TOKEN, out of sight"
    )


def package(parser: argparse.ArgumentParser) -> None:
    _experiment(parser)
    _data(parser)
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=_folder,
        help="the zip, or the folder for it (default: runpod_NAME_EXPERIMENT.zip, here)",
    )
    _switches(parser, replace="even where another file of that name is there")
    parser.set_defaults(overrides=(), allow_inert=False, parent_data=[])


def completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def runs(parser: argparse.ArgumentParser) -> None:
    """Which runs are asked for; all other arguments are for each of them."""
    _experiment(parser, several=True)
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument(
        "--seed",
        metavar="N",
        type=int,
        help="train at this seed, under names of its own unless it is the experiment's",
    )
    seeds.add_argument(
        "--seeds", metavar="N,N", type=_seeds, default=(), help="a run for each, side by side"
    )
    _switches(parser, with_parent="train the parent too, side by side")
    parser.add_argument(
        "--at-once",
        metavar="N",
        type=_count,
        help="so many side by side (default: as many as the GPUs hold; one without a GPU)",
    )


def run(parser: argparse.ArgumentParser) -> None:
    runs(parser)
    _choices(parser)
    _strictness(parser)
    parser.add_argument(
        "--plan",
        choices=("auto", "as-written"),
        default="auto",
        help="fit batch, precision, checkpointing and attention to this machine's GPU, with the "
        "effective batch kept (default), or change nothing",
    )
    _switches(
        parser,
        adapt="out of GPU memory, go on with the next smaller plan at the same effective batch",
        no_gate="train on, whatever the experiment's gate says",
        no_test="make and judge no pictures between the epochs: sooner done, and nothing is known",
    )
    parser.add_argument(
        "--price-per-hour",
        metavar="PRICE",
        type=float,
        default=os.environ.get("BESPOKE_PRICE_PER_HOUR"),
        help="what the machine costs an hour, for the record (default: BESPOKE_PRICE_PER_HOUR)",
    )
    _switches(
        parser,
        fresh="start anew; an earlier run's files move to a dated folder",
        dry_run="stop before the launch; print the command and the two rendered files",
        rehearse="generated pictures and a fake trainer: the whole way with no GPU and no download",
        events="print each event as a JSON line in the place of progress, for a program that "
        "watches",
    )


def epoch_test(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", metavar="CHECKPOINT", type=Path, nargs="+")
    parser.add_argument("--prompts", metavar="FILE", type=Path, help="not test_prompts.toml")
    parser.add_argument(
        "--base-model",
        metavar="MODEL",
        help="a file, a folder or a hub id (default: the one in training_config.toml)",
    )
    parser.add_argument("--workspace", metavar="DIR", type=_folder, help="where models/ is")
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=_folder,
        help="takes a folder for each checkpoint (default: epoch_tests, in the repository's top)",
    )
    parser.add_argument("--size", metavar="PIXELS", type=int, help="smaller pictures, for a look")
    parser.add_argument("--steps", metavar="N", type=int, help="fewer steps, for a look")


def auto_test(parser: argparse.ArgumentParser) -> None:
    epoch_test(parser)
    _switches(
        parser,
        auto_score="take the suggested scores",
        auto_commit="commit each test's folder to git, and nothing else; never a push",
    )
