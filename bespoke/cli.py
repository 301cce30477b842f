"""The command line: argparse and nothing else. What a verb needs is imported when it is called."""

from __future__ import annotations

import argparse
import os
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
    repair.set_defaults(allow_inert=True, parent_data=[])
    score = verbs.add_parser("score", help="measure any pictures against what was asked")
    score.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+")
    score.add_argument("--prompt", metavar="TEXT", required=True, help="what was asked")
    score.add_argument("--json", action="store_true", help="as one JSON list, an object a picture")
    listing = verbs.add_parser("experiments", help="list the experiments there are")
    listing.add_argument("--json", action="store_true", help="as one JSON list")
    _add_record_verbs(verbs)
    pages = verbs.add_parser("report", help="write the runs' pages again from the record")
    pages.add_argument("run", metavar="RUN", nargs="?", help="one run's name (default: every run)")
    _add_workspace_argument(pages)
    _add_serve_arguments(verbs.add_parser("serve", help="show the runs' pages in a browser"))
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
        elif chosen.verb == "score":
            from bespoke import score as scores

            scores.show(chosen.pictures, chosen.prompt, as_json=chosen.json)
        elif chosen.verb == "report":
            from bespoke import report

            report.show(chosen)
        elif chosen.verb == "serve":
            from bespoke import serve

            serve.show(chosen)
        elif chosen.verb in ("compare", "diff"):
            from bespoke import compare as comparing

            (comparing.compare if chosen.verb == "compare" else comparing.diff)(chosen)
        elif chosen.verb in ("next", "record"):
            from bespoke import record as recorded

            (recorded.next_steps if chosen.verb == "next" else recorded.run)(chosen)
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


def quick_test_main(arguments: Sequence[str] | None = None) -> int:
    """`quick_test_epoch.py CHECKPOINT…`"""
    parser = argparse.ArgumentParser(
        prog="quick_test_epoch.py", description="Pictures of checkpoints, and what they measure."
    )
    _add_test_arguments(parser)
    return _test(parser.parse_args(arguments), scoring=False)


def auto_test_main(arguments: Sequence[str] | None = None) -> int:
    """`auto_test_epoch.py CHECKPOINT… [--auto-score] [--auto-commit]`"""
    parser = argparse.ArgumentParser(
        prog="auto_test_epoch.py",
        description="Test, score and record checkpoints: you are asked for scores, unless told.",
    )
    _add_test_arguments(parser)
    parser.add_argument("--auto-score", action="store_true", help="take the suggested scores")
    parser.add_argument(
        "--auto-commit",
        action="store_true",
        help="commit each test's folder to git, and nothing else; never a push",
    )
    return _test(parser.parse_args(arguments), scoring=True)


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
    _add_workspace_argument(parser)


def _add_workspace_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        type=_folder,
        help="where training_data, output and logs are (default: BESPOKE_WORKSPACE, /workspace, "
        "./workspace)",
    )


def _add_record_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    named = "runs by name, or experiments for their latest run"
    compare = verbs.add_parser("compare", help="what differs between runs, and what came out")
    compare.add_argument("runs", metavar="RUN", nargs="+", help=named)
    diff = verbs.add_parser("diff", help="the settings in which two runs differ, and where from")
    diff.add_argument("runs", metavar="RUN", nargs=2, help=named)
    following = verbs.add_parser("next", help="what the recorded scores say comes next")
    following.add_argument("run", metavar="RUN", nargs="?", help="by default the latest run")
    record = verbs.add_parser("record", help="the record of all runs")
    jobs = record.add_subparsers(dest="job", metavar="JOB", required=True)
    listing = jobs.add_parser("list", help="every run, by its start")
    show = jobs.add_parser("show", help="all that is known of one run, as JSON")
    show.add_argument("run", metavar="RUN")
    sync = jobs.add_parser("sync", help="send what BESPOKE_DATABASE_URL does not have yet")
    migrate = jobs.add_parser("migrate", help="add the columns that the tables there lack")
    migrate.add_argument("--yes", action="store_true", help="without asking")
    for each in (compare, diff, listing):
        each.add_argument("--json", action="store_true", help="as one JSON object")
    for each in (compare, diff, following, listing, show, sync, migrate):
        _add_workspace_argument(each)


def _add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strict", action="store_true", help="warnings stop as errors do")
    parser.add_argument(
        "--allow-inert",
        action="store_true",
        help="go on though nothing that the trainer sees differs from the parent",
    )
    parser.add_argument(
        "--parent-data",
        metavar="DIR",
        action="append",
        default=[],
        help="the parent's own pictures and captions, where they were others; NAME=DIR for another "
        "subset's (may be given again)",
    )


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    _add_workspace_argument(parser)
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
        "--no-gate", action="store_true", help="train on, whatever the experiment's gate says"
    )
    parser.add_argument(
        "--no-test",
        action="store_true",
        help="make and judge no pictures between the epochs: sooner done, and nothing is known",
    )
    parser.add_argument(
        "--price-per-hour",
        metavar="PRICE",
        type=float,
        default=os.environ.get("BESPOKE_PRICE_PER_HOUR"),
        help="what the machine costs an hour, for the record (default: BESPOKE_PRICE_PER_HOUR)",
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


def _add_test_arguments(parser: argparse.ArgumentParser) -> None:
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


def _test(chosen: argparse.Namespace, *, scoring: bool) -> int:
    with reported():
        from bespoke import epoch_test

        fields = {**vars(chosen), "weights": tuple(chosen.weights)}
        (epoch_test.auto if scoring else epoch_test.quick)(epoch_test.Request(**fields))
    return 0


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
            parent_data=tuple(chosen.parent_data),
            workspace=chosen.workspace,
            dry_run=chosen.dry_run,
            fresh=chosen.fresh,
            rehearse=chosen.rehearse,
            strict=chosen.strict,
            allow_inert=chosen.allow_inert,
            adapt=chosen.adapt,
            no_gate=chosen.no_gate,
            no_test=chosen.no_test,
            price_per_hour=chosen.price_per_hour,
            events=chosen.events,
            plan=chosen.plan,
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
