"""The command line: the verbs and their arguments. What a verb needs is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import __version__, request, signals, version
from bespoke.errors import reported
from bespoke.files import REPOSITORY
from bespoke.request import add_choices, add_data, add_strictness, add_switches, add_workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Parser = argparse.ArgumentParser
# A package names the experiment that it was made for.
DEFAULT_EXPERIMENT = version.told(REPOSITORY).get("experiment", request.DEFAULT_EXPERIMENT)
RUN_EXAMPLES = """\
  python -m bespoke.run --experiment keep_tokens_3
  python -m bespoke.run --experiment keep_tokens_3 --set training.unet_lr=5e-5
  python -m bespoke.run --experiment expanded_dataset --data generated=~/generated
  python -m bespoke.run --experiment keep_tokens_3 --with-parent --seeds 42,43
  python -m bespoke.run --experiment smoke      can this machine train at all?
  python -m bespoke.run --rehearse              all of it with no GPU and no download

exit codes: 0 done, 1 unexpected, 2 configuration, 3 pictures or captions, 4 the trainer failed,
5 the gate stopped the run, 130 interrupted
"""


def _nothing(_: Parser) -> None:
    """For a verb that only its jobs have arguments for."""


def _json(parser: Parser) -> None:
    add_switches(parser, json="as JSON, for a script")


def _experiment(parser: Parser) -> None:
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        default=DEFAULT_EXPERIMENT,
        help=f"a file's name in experiments/, without .toml (default: {DEFAULT_EXPERIMENT})",
    )


def _run(parser: Parser) -> None:
    request.add_arguments(parser, DEFAULT_EXPERIMENT)


def _check(parser: Parser) -> None:
    _experiment(parser)
    add_choices(parser)
    add_strictness(parser)
    add_switches(parser, all="show every finding, not three of a kind")
    _json(parser)


def _repair(parser: Parser) -> None:
    _experiment(parser)
    add_choices(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=request.folder, required=True, help="the new folder"
    )
    parser.set_defaults(allow_no_op=True, parent_data=[])


def _test(parser: Parser) -> None:
    parser.add_argument(
        "weights",
        metavar="CHECKPOINT",
        type=Path,
        nargs="*",
        help="a file, or its name in the workspace's output/; of a run's name, the newest",
    )
    parser.add_argument(
        "--base-model",
        metavar="MODEL",
        help="a file, a folder or a hub id (default: the one in training_config.toml)",
    )
    add_workspace(parser)
    parser.add_argument("--size", metavar="PIXELS", type=int, help="smaller pictures, for a look")
    parser.add_argument("--steps", metavar="N", type=int, help="fewer steps, for a look")
    add_switches(
        parser,
        score="ask for scores, and record them",
        auto_score="take the suggested scores, and record them",
        auto_commit="commit each test's folder to git, and nothing else; never a push",
    )
    parser.add_argument(
        "--again",
        metavar="FOLDER",
        type=Path,
        nargs="+",
        default=(),
        help="measure and score saved tests again; the scores before are kept with them",
    )


def _score(parser: Parser) -> None:
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what was asked")
    _json(parser)


def _compare(parser: Parser) -> None:
    named = "runs by name, or experiments for their latest run"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=named)
    add_switches(parser, settings="only the settings in which they differ")
    add_workspace(parser)


def _optional_run(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run, or the latest of a name")
    add_workspace(parser)


def _report(parser: Parser) -> None:
    _optional_run(parser)
    add_switches(parser, json="print all that is known of one run as JSON; write no page")


def _serve(parser: Parser) -> None:
    add_workspace(parser)
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


def _package(parser: Parser) -> None:
    _experiment(parser)
    add_data(parser)
    parser.add_argument(
        "--out",
        metavar="PATH",
        type=request.folder,
        help="the zip, or the folder for it (default: runpod_NAME_EXPERIMENT.zip, here)",
    )
    add_switches(parser, replace="even where another file of that name is there")
    parser.set_defaults(overrides=(), allow_no_op=False, parent_data=[])


@dataclass(frozen=True, kw_only=True)
class Verb:
    """`answer` is "module:function" of this package, which takes what was parsed; jobs without one
    are answered by their verb's. One without `about` is not listed."""

    name: str
    about: str = ""
    examples: str = ""
    arguments: Callable[[Parser], None] = add_workspace
    answer: str = ""
    jobs: tuple[Verb, ...] = ()


VERBS = (
    Verb(
        name="run",
        about="check, render, train and verify experiments",
        examples=RUN_EXAMPLES,
        arguments=_run,
    ),
    Verb(
        name="check",
        about="what can be known of a run before its first step",
        examples="""\
  bespoke check                                 the pictures beside the project or in the workspace
  bespoke check --experiment keep_tokens_5 --data ~/pictures --all
  bespoke check --strict --json                 for a script: exit code 2 or 3 where it is refused
""",
        arguments=_check,
        answer="dataset.preflight:show",
    ),
    Verb(
        name="captions",
        about="work on the captions",
        arguments=_nothing,
        jobs=(
            Verb(
                name="repair",
                about="write repaired captions into a new folder",
                examples="  bespoke captions repair --data ~/pictures --out ~/captions_v2\n",
                arguments=_repair,
                answer="dataset.repair:show",
            ),
        ),
    ),
    Verb(
        name="experiments",
        about="list the experiments there are",
        examples="  bespoke experiments\n",
        answer="experiment.listing:show",
    ),
    Verb(
        name="test",
        about="test checkpoints by hand: pictures, metrics, scores",
        examples="""\
  bespoke test NAME-000004.safetensors          pictures and a table; nothing is recorded
  bespoke test NAME-0000*.safetensors --auto-score --auto-commit
  bespoke test --again epoch_tests/*            saved tests, by the metrics as they are now
""",
        arguments=_test,
        answer="record.recorder:test",
    ),
    Verb(
        name="score",
        about="measure any pictures against what was asked",
        examples='  bespoke score epoch_4/*.png --prompt "solid green background (#00ff00)"\n',
        arguments=_score,
        answer="evaluation.by_hand:score",
    ),
    Verb(
        name="compare",
        about="what differs between runs, and what came out",
        examples="  bespoke compare keep_tokens_3 keep_tokens_5 --settings\n",
        arguments=_compare,
        answer="record.compare:show",
    ),
    Verb(
        name="next",
        about="what the recorded scores say comes next",
        examples="  bespoke next keep_tokens_3\n",
        arguments=_optional_run,
        answer="record.verbs:next_steps",
    ),
    Verb(
        name="record",
        about="the record of all runs",
        answer="record.verbs:run",
        arguments=_nothing,
        examples="""\
  bespoke record list
  bespoke record rebuild                        from the runs' own files
  bespoke record sync                           send what BESPOKE_DATABASE_URL does not have yet
""",
        jobs=(
            Verb(
                name="list",
                about="every run, by its start",
            ),
            Verb(
                name="rebuild",
                about="make record.sqlite again from the runs' own files",
            ),
            Verb(
                name="sync",
                about="send what BESPOKE_DATABASE_URL does not have yet",
            ),
        ),
    ),
    Verb(
        name="report",
        about="write the runs' pages again from the record",
        examples="  bespoke report\n  bespoke report keep_tokens_3 --json\n",
        arguments=_report,
        answer="record.report:show",
    ),
    Verb(
        name="serve",
        about="show the runs' pages in a browser",
        examples="""\
  bespoke serve                                 on this machine alone
  bespoke serve --host 0.0.0.0 --port 8888      with BESPOKE_REPORT_TOKEN set
""",
        arguments=_serve,
        answer="record.serve:show",
    ),
    Verb(
        name="package",
        about="pack one experiment and all that it needs into a zip for a rented machine",
        examples="  bespoke package --experiment keep_tokens_5 --data ~/pictures --out ~/zips\n",
        arguments=_package,
        answer="deploy.package:show",
    ),
    Verb(
        # For an image's HEALTHCHECK: a person reads the log.
        name="health",
        answer="deploy.health:show",
    ),
)


def parser() -> Parser:
    """All of the command line, as argparse knows it."""
    top = argparse.ArgumentParser(
        prog="bespoke",
        description="Train, test and compare LoRA experiments with sd-scripts.",
        epilog="Each verb's own --help has examples.",
    )
    top.add_argument("--version", action=_Version, help="this version, and both commits")
    _add(top, "verb", VERBS)
    return top


def _add(parent: Parser, level: str, verbs: Sequence[Verb]) -> None:
    below = parent.add_subparsers(dest=level, metavar=level.upper(), required=True)
    for verb in verbs:
        # Whatever has a help, be it empty, is listed.
        listed: dict[str, Any] = {"help": verb.about} if verb.about else {}
        one = below.add_parser(
            verb.name,
            description=f"{verb.about[:1].upper()}{verb.about[1:]}.",
            epilog=f"examples:\n{verb.examples}" if verb.examples else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **listed,
        )
        verb.arguments(one)
        if verb.answer:
            one.set_defaults(answer=verb.answer)
        if verb.jobs:
            _add(one, "job", verb.jobs)


class _Version(argparse.Action):
    """Asks git only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: object) -> None:
        commits = version.commits(REPOSITORY)
        print(f"bespoke {__version__}, commit {commits['bespoke']}")
        print(f"sd-scripts, commit {commits['trainer']}")
        raise SystemExit(0)


def main(given: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    chosen = parser().parse_args(given)
    if chosen.verb == "run":
        return _train(request.from_parsed(chosen))
    with reported(), signals.raising():
        module, _, function = chosen.answer.partition(":")
        getattr(importlib.import_module(f"bespoke.{module}"), function)(chosen)
    return 0


def run_main(given: Sequence[str] | None = None) -> int:
    """`python -m bespoke.run …`: the main job alone."""
    alone = argparse.ArgumentParser(
        prog="python -m bespoke.run",
        description="Check, render, train and verify experiments, one a GPU, one after another.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{RUN_EXAMPLES}",
    )
    _run(alone)
    return _train(request.from_parsed(alone.parse_args(given)))


def _train(asked: request.Request) -> int:
    from bespoke.trainer.journal import Journal

    journal = Journal(printed=asked.events)
    with reported(journal.keep_traceback), signals.raising():
        if asked.is_several:
            from bespoke import multirun

            return multirun.train(asked, journal)
        from bespoke.run import run

        run(asked, journal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
