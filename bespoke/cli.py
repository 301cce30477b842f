"""The command line: argparse and nothing else. What a verb needs is imported when it is called."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import __version__, origin
from bespoke.errors import reported

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
# A package is of one experiment, and says so.
DEFAULT_EXPERIMENT = origin.told(REPOSITORY).get("experiment", "keep_tokens_3")

RUN_EXAMPLES = """examples:
  python -m bespoke.run --experiment keep_tokens_3
  python -m bespoke.run --experiment keep_tokens_3 --set training.unet_lr=5e-5
  python -m bespoke.run --experiment expanded_dataset --data generated=~/generated
  python -m bespoke.run --experiment smoke      can this machine train at all?
  python -m bespoke.run --rehearse              the whole way with no GPU and no download

exit codes: 0 done, 1 unexpected, 2 configuration, 3 pictures or captions, 4 the trainer failed,
5 the gate stopped the run, 130 interrupted
"""


CHECK_EXAMPLES = """examples:
  bespoke check                                 the pictures beside the project or in the workspace
  bespoke check --experiment keep_tokens_5 --data ~/pictures --all
  bespoke check --strict --json                 for a script: exit code 2 or 3 where it is refused
"""
REPAIR_EXAMPLES = """examples:
  bespoke captions repair --out ~/captions_v2
  bespoke captions repair --data ~/pictures --out ~/captions_v2 --keep background
"""
EXPERIMENTS_EXAMPLES = """examples:
  bespoke experiments
  bespoke experiments --json
"""
PACKAGE_EXAMPLES = """examples:
  bespoke package                               runpod_KEEP_TOKENS_3_EXPERIMENT.zip, here
  bespoke package --experiment keep_tokens_5 --data ~/pictures --out ~/zips
"""
HEALTH_EXAMPLES = """examples:
  bespoke health                                exit code 0 while a run goes on or has ended well
  bespoke health --workspace /workspace
"""
COMPLETION_EXAMPLES = """examples:
  bespoke completion bash >~/.local/share/bash-completion/completions/bespoke
  bespoke completion zsh >~/.zfunc/_bespoke
"""


def parser() -> argparse.ArgumentParser:
    """All of the command line, as argparse knows it."""
    parser = argparse.ArgumentParser(
        prog="bespoke",
        description="Train, judge and compare LoRA experiments with sd-scripts.",
        epilog="Each verb's own --help has examples.",
    )
    parser.add_argument("--version", action=_Version, help="this version, and both commits")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    run = _verb(verbs, "run", "check, render, train and verify one experiment", RUN_EXAMPLES)
    _add_run_arguments(run)
    about = "what can be known of a run before its first step"
    check = _verb(verbs, "check", about, CHECK_EXAMPLES)
    _add_choice_arguments(check)
    _add_check_arguments(check)
    check.add_argument("--all", action="store_true", help="show every finding, not three of a kind")
    check.add_argument("--json", action="store_true", help="as one JSON object")
    captions = _verb(verbs, "captions", "work on the captions", REPAIR_EXAMPLES)
    jobs = captions.add_subparsers(dest="job", metavar="JOB", required=True)
    about = "write a repaired caption version beside the old one"
    repair = _verb(jobs, "repair", about, REPAIR_EXAMPLES)
    _add_choice_arguments(repair)
    repair.add_argument("--out", metavar="DIR", type=_folder, required=True, help="the new folder")
    repair.add_argument(
        "--keep",
        metavar="CLASS",
        default="background",
        help="the class to move among the kept tags (default: background)",
    )
    repair.set_defaults(allow_inert=True)
    listing = _verb(verbs, "experiments", "list the experiments there are", EXPERIMENTS_EXAMPLES)
    listing.add_argument("--json", action="store_true", help="as one JSON list")
    about = "pack one experiment and all that it needs into a zip for a rented machine"
    _add_package_arguments(_verb(verbs, "package", about, PACKAGE_EXAMPLES))
    about = "whether this machine's newest run goes on or ended well"
    _add_workspace(_verb(verbs, "health", about, HEALTH_EXAMPLES))
    completion = _verb(verbs, "completion", "print a shell's completions", COMPLETION_EXAMPLES)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    chosen = parser().parse_args(arguments)
    if chosen.verb == "run":
        return _run(chosen)
    with reported():
        _answer(chosen)
    return 0


def _answer(chosen: argparse.Namespace) -> None:
    if chosen.verb == "check":
        from bespoke import check

        check.show(chosen)
    elif chosen.verb == "captions":
        from bespoke import check

        check.repair(chosen)
    elif chosen.verb == "experiments":
        from bespoke import listing

        listing.show(as_json=chosen.json)
    elif chosen.verb == "package":
        from bespoke import package

        package.show(chosen)
    elif chosen.verb == "health":
        from bespoke import health

        health.show(chosen.workspace)
    else:
        import shtab

        print(shtab.complete(parser(), chosen.shell))


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


class _Version(argparse.Action):
    """Asks git only when it is asked for."""

    def __init__(self, **facts: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **facts)

    def __call__(self, *_: object) -> None:
        commits = origin.commits(REPOSITORY)
        print(f"bespoke {__version__}, commit {commits['bespoke']}")
        print(f"sd-scripts, commit {commits['trainer']}")
        raise SystemExit(0)


def _verb(verbs: Any, name: str, about: str, examples: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    verb: argparse.ArgumentParser = verbs.add_parser(
        name, help=about, description=f"{about[0].upper()}{about[1:]}.", epilog=examples,
        formatter_class=raw,
    )  # fmt: skip
    return verb


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError("a folder's name is needed")
    return Path(text)


def _add_workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        help="where training_data, output and logs are (default: BESPOKE_WORKSPACE, /workspace, "
        "./workspace)",
    )


def _add_experiment_arguments(parser: argparse.ArgumentParser) -> None:
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
    _add_workspace(parser)


def _add_choice_arguments(parser: argparse.ArgumentParser) -> None:
    _add_experiment_arguments(parser)
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="for this run alone: training.KEY=VALUE or dataset.KEY=VALUE (may be given again)",
    )


def _add_package_arguments(parser: argparse.ArgumentParser) -> None:
    _add_experiment_arguments(parser)
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=_folder,
        help="the zip, or the folder for it (default: runpod_NAME_EXPERIMENT.zip, here)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="even where another file of that name is there"
    )
    parser.set_defaults(overrides=(), allow_inert=False)


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
        )
        run(request, journal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
