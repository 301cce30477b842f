"""The command line: argparse and nothing else. What a verb needs is imported when it is called."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import __version__
from bespoke.errors import reported

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_EXPERIMENT = "keep_tokens_3"

RUN_EXAMPLES = """examples:
  python -m bespoke.run --experiment keep_tokens_3
  python -m bespoke.run --experiment keep_tokens_3 --set training.unet_lr=5e-5
  python -m bespoke.run --experiment expanded_dataset --data generated=~/generated
  python -m bespoke.run --experiment keep_tokens_3 --with-parent --seeds 42,43
  python -m bespoke.run --experiment smoke      can this machine train at all?
  python -m bespoke.run --rehearse              the whole way with no GPU and no download

exit codes: 0 done, 2 configuration, 3 pictures or captions, 4 the trainer failed, 5 stopped by its
gate, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    parser = argparse.ArgumentParser(
        prog="bespoke", description="Train, judge and compare LoRA experiments with sd-scripts."
    )
    parser.add_argument("--version", action="version", version=f"bespoke {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = verbs.add_parser("run", help="check, render, train and verify experiments")
    _add_run_arguments(run)
    check = verbs.add_parser("check", help="what can be known of a run before its first step")
    _add_experiment(check)
    _add_choice_arguments(check)
    _add_check_arguments(check)
    check.add_argument("--all", action="store_true", help="show every finding, not three of a kind")
    check.add_argument("--json", action="store_true", help="as one JSON object")
    captions = verbs.add_parser("captions", help="work on the captions")
    jobs = captions.add_subparsers(dest="job", metavar="JOB", required=True)
    repair = jobs.add_parser("repair", help="write a repaired caption version beside the old one")
    _add_experiment(repair)
    _add_choice_arguments(repair)
    repair.add_argument("--out", metavar="DIR", type=_folder, required=True, help="the new folder")
    repair.add_argument(
        "--keep",
        metavar="CLASS",
        default="background",
        help="the class to move among the kept tags (default: background)",
    )
    repair.set_defaults(allow_inert=True)
    listing = verbs.add_parser("experiments", help="list the experiments there are")
    listing.add_argument("--json", action="store_true", help="as one JSON list")
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = parser.parse_args(given)
    if chosen.verb == "run":
        return _run(chosen, given[given.index("run") + 1 :])
    with reported():
        if chosen.verb == "check":
            from bespoke import check as checking

            checking.show(chosen)
        elif chosen.verb == "captions":
            from bespoke import check as checking

            checking.repair(chosen)
        else:
            from bespoke import listing as experiments

            experiments.show(as_json=chosen.json)
    return 0


def run_main(arguments: Sequence[str] | None = None) -> int:
    """`python -m bespoke.run …`: the main job alone."""
    parser = argparse.ArgumentParser(
        prog="python -m bespoke.run",
        description="Check, render, train and verify one experiment, or several side by side.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=RUN_EXAMPLES,
    )
    _add_run_arguments(parser)
    given = list(sys.argv[1:] if arguments is None else arguments)
    return _run(parser.parse_args(given), given)


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


def _add_experiment(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    again = "; again for another beside it" if several else ""
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        action="append" if several else "store",
        default=None if several else DEFAULT_EXPERIMENT,
        help=f"a file's name in experiments/, without .toml (default: {DEFAULT_EXPERIMENT}){again}",
    )


def _add_runs(parser: argparse.ArgumentParser) -> None:
    """Which runs are asked for; all other arguments are for each of them."""
    _add_experiment(parser, several=True)
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
    parser.add_argument(
        "--with-parent", action="store_true", help="train the parent too, side by side"
    )
    parser.add_argument(
        "--at-once",
        metavar="N",
        type=_count,
        help="so many side by side (default: as many as the GPUs hold; one without a GPU)",
    )


def _add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        metavar="DIR",
        action="append",
        default=[],
        help="the collection's folder; NAME=DIR for another subset's (may be given again)",
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="for this run alone: training.KEY=VALUE or dataset.KEY=VALUE (may be given again)",
    )
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        help="where training_data, output and logs are (default: BESPOKE_WORKSPACE, /workspace, "
        "./workspace)",
    )


def _add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="warnings stop as errors do")
    parser.add_argument(
        "--allow-inert",
        action="store_true",
        help="go on though nothing that the trainer sees differs from the parent",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    _add_runs(parser)
    _add_choice_arguments(parser)
    _add_check_arguments(parser)
    parser.add_argument(
        "--events",
        action="store_true",
        help="print each event as a JSON line in the place of progress, for a program that watches",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="stop before the launch; print the command and the two rendered files",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="start anew; an earlier run's files move to a dated folder",
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="out of GPU memory, go on with the next smaller plan at the same effective batch",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="drawn pictures and a stand-in trainer: the whole way with no GPU and no download",
    )


def _run(chosen: argparse.Namespace, given: Sequence[str]) -> int:
    from bespoke.journal import Journal

    journal = Journal(printed=chosen.events)
    experiments = tuple(chosen.experiment or [DEFAULT_EXPERIMENT])
    with reported(journal.keep_traceback):
        from bespoke.job import Request
        from bespoke.run import run

        request = Request(
            experiment=experiments[0],
            seed=chosen.seed,
            overrides=tuple(chosen.overrides),
            data=tuple(chosen.data),
            workspace=chosen.workspace,
            dry_run=chosen.dry_run,
            fresh=chosen.fresh,
            rehearse=chosen.rehearse,
            strict=chosen.strict,
            allow_inert=chosen.allow_inert,
            adapt=chosen.adapt,
            events=chosen.events,
        )
        if len(experiments) == 1 and not chosen.seeds and not chosen.with_parent:
            run(request, journal)
            return 0
        from bespoke import side_by_side

        runs = argparse.ArgumentParser(add_help=False)
        _add_runs(runs)
        several = side_by_side.Several(
            request=request,
            experiments=experiments,
            seeds=chosen.seeds,
            with_parent=chosen.with_parent,
            at_once=chosen.at_once,
            passed_on=tuple(runs.parse_known_args(given)[1]),
        )
        return side_by_side.train(several, journal)


if __name__ == "__main__":
    sys.exit(main())
