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
  python -m bespoke.run --experiment smoke      can this machine train at all?
  python -m bespoke.run --rehearse              the whole way with no GPU and no download

exit codes: 0 done, 2 configuration, 3 pictures or captions, 4 the trainer failed, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    parser = argparse.ArgumentParser(
        prog="bespoke", description="Train, judge and compare LoRA experiments with sd-scripts."
    )
    parser.add_argument("--version", action="version", version=f"bespoke {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = verbs.add_parser("run", help="check, render, train and verify one experiment")
    _add_run_arguments(run)
    check = verbs.add_parser("check", help="what can be known of a run before its first step")
    _add_choice_arguments(check)
    _add_check_arguments(check)
    check.add_argument("--all", action="store_true", help="show every finding, not three of a kind")
    check.add_argument("--json", action="store_true", help="as one JSON object")
    captions = verbs.add_parser("captions", help="work on the captions")
    jobs = captions.add_subparsers(dest="job", metavar="JOB", required=True)
    repair = jobs.add_parser("repair", help="write a repaired caption version beside the old one")
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
    chosen = parser.parse_args(arguments)
    if chosen.verb == "run":
        return _run(chosen)
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
        description="Check, render, train and verify one experiment.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=RUN_EXAMPLES,
    )
    _add_run_arguments(parser)
    return _run(parser.parse_args(arguments))


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("a folder's name is needed")
    return Path(text)


def _add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        default=DEFAULT_EXPERIMENT,
        help=f"a file's name in experiments/, without .toml (default: {DEFAULT_EXPERIMENT})",
    )
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
    _add_choice_arguments(parser)
    _add_check_arguments(parser)
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
        "--plan",
        choices=("auto", "as-written"),
        default="auto",
        help="fit batch, precision, checkpointing and attention to this machine's GPU, with the "
        "effective batch kept (default), or change nothing",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="drawn pictures and a stand-in trainer: the whole way with no GPU and no download",
    )


def _run(chosen: argparse.Namespace) -> int:
    from bespoke.journal import Journal

    journal = Journal()
    with reported(journal.keep_traceback):
        from bespoke.job import Request
        from bespoke.run import run

        request = Request(
            experiment=chosen.experiment,
            overrides=tuple(chosen.overrides),
            data=tuple(chosen.data),
            workspace=chosen.workspace,
            dry_run=chosen.dry_run,
            fresh=chosen.fresh,
            rehearse=chosen.rehearse,
            strict=chosen.strict,
            allow_inert=chosen.allow_inert,
            adapt=chosen.adapt,
            plan=chosen.plan,
        )
        run(request, journal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
