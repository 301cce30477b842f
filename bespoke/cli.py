"""The command line: the verbs and their arguments. What a verb needs is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bespoke import __version__, request, signals, version
from bespoke.errors import reported
from bespoke.request import DEFAULT_EXPERIMENT, folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Parser = argparse.ArgumentParser
RUN_HELP = """\
example: python -m bespoke.run --experiment keep_tokens_3 --with-parent --seeds 42,43

exit codes: 0 done, 1 unexpected, 2 configuration, 3 pictures or captions, 4 the trainer failed,
5 the gate stopped the run, 130 interrupted
"""


def _switches(parser: Parser, **about: str) -> None:
    """Options that are there or not; `dry_run="…"` adds --dry-run with that help."""
    for name, text in about.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def _workspace(parser: Parser) -> None:
    request.add_arguments(parser, "workspace")


def _json(parser: Parser) -> None:
    _switches(parser, json="as JSON, for a script")


def _experiment(parser: Parser, *options: str) -> None:
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        default=DEFAULT_EXPERIMENT,
        help=f"a file's name in experiments/ (default: {DEFAULT_EXPERIMENT})",
    )
    parser.set_defaults(overrides=(), parent_data=(), allow_no_op=False)
    request.add_arguments(parser, "data", "workspace", *options)


def _check(parser: Parser) -> None:
    _experiment(parser, "overrides", "strict", "allow_no_op", "parent_data")
    _switches(parser, all="show every finding, not three of a kind")
    _json(parser)


def _repair(parser: Parser) -> None:
    _experiment(parser, "overrides")
    _out(parser, "the new folder", required=True)
    parser.set_defaults(allow_no_op=True)


def _out(parser: Parser, about: str, *, required: bool = False) -> None:
    parser.add_argument("--out", metavar="PATH", type=folder, required=required, help=about)


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
        help="not the one in training_config.toml: file, folder, id",
    )
    parser.add_argument("--prompts", metavar="FILE", type=Path, help="not test_prompts.toml")
    _out(parser, "takes a folder for each checkpoint (default: epoch_tests)")
    parser.add_argument("--size", metavar="PIXELS", type=int, help="smaller pictures, for a look")
    parser.add_argument("--steps", metavar="N", type=int, help="fewer steps, for a look")
    _switches(
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
        help="measure and score saved tests again; the earlier scores are kept",
    )
    _workspace(parser)


def _score(parser: Parser) -> None:
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what was asked")
    _json(parser)


def _compare(parser: Parser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="its name, or its experiment's")
    _switches(parser, settings="only the settings in which two runs differ, and where from")
    _workspace(parser)


def _optional_run(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="its name, or its experiment's")
    _workspace(parser)


def _report(parser: Parser) -> None:
    _optional_run(parser)
    _switches(parser, json="print all that is known of one run as JSON; write no page")


def _serve(parser: Parser) -> None:
    _workspace(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="where to listen; all but this machine need a token"
    )
    parser.add_argument("--port", type=int, default=8347, help="(default: 8347; 0: a free one)")
    parser.add_argument("--token", help="what a reader must know; better as BESPOKE_REPORT_TOKEN")


def _package(parser: Parser) -> None:
    _experiment(parser)
    _out(parser, "the zip, or the folder for it (default: runpod_NAME_EXPERIMENT.zip, here)")
    _switches(parser, replace="even where another file of that name is there")


class Verb(NamedTuple):
    """`answer` is "module:function" of this package, which takes what was parsed; one without
    `about` is not listed."""

    name: str
    about: str = ""
    arguments: Callable[[Parser], None] = _workspace
    answer: str = ""
    example: str = ""
    jobs: tuple[Verb, ...] = ()


CAPTIONS = Verb(
    "repair",
    "write repaired captions into a new folder",
    _repair,
    "dataset.repair:show",
    "captions repair --data ~/pictures --out ~/captions_v2",
)
RECORD = (
    Verb("list", "every run, by its start", answer="record.commands:run"),
    Verb("rebuild", "make record.sqlite again from the runs' files", answer="record.commands:run"),
    Verb("sync", "send what BESPOKE_DATABASE_URL does not have yet", answer="record.commands:run"),
)
VERBS = (
    Verb("run", "check, render, train and verify experiments", request.add_arguments),
    Verb(
        "check",
        "what can be known of a run before its first step",
        _check,
        "dataset.preflight:show",
        "check --experiment keep_tokens_5 --data ~/pictures --all",
    ),
    Verb("captions", "work on the captions", jobs=(CAPTIONS,)),
    Verb("experiments", "list the experiments", lambda _: None, "experiment.config:show"),
    Verb(
        "test",
        "test checkpoints by hand: pictures, metrics, scores",
        _test,
        "record.recorder:test",
        "test NAME-0000*.safetensors --auto-score --auto-commit",
    ),
    Verb(
        "score",
        "measure any pictures against what was asked",
        _score,
        "evaluation.by_hand:score",
        'score epoch_4/*.png --prompt "solid green background (#00ff00)"',
    ),
    Verb(
        "compare",
        "what differs between runs, and what came out",
        _compare,
        "record.compare:show",
        "compare keep_tokens_3 keep_tokens_5 --settings",
    ),
    Verb("next", "what the scores say comes next", _optional_run, "record.commands:next_steps"),
    Verb("record", "the record of all runs", jobs=RECORD),
    Verb("report", "write the runs' pages again from the record", _report, "record.report:show"),
    Verb("serve", "show the runs' pages in a browser", _serve, "record.serve:show"),
    Verb(
        "package",
        "pack one experiment and all that it needs into a zip for a rented machine",
        _package,
        "deploy.package:show",
        "package --experiment keep_tokens_5 --data ~/pictures --out ~/zips",
    ),
    # For an image's HEALTHCHECK: a person reads the log.
    Verb("health", answer="deploy.health:show"),
)


def parser() -> Parser:
    """All of the command line, as argparse knows it."""
    top = Parser(
        prog="bespoke",
        description="Train, test and compare LoRA experiments with sd-scripts.",
        epilog="Each verb's own --help has an example.",
    )
    top.add_argument("--version", action="store_true", help="this version, and both commits")
    _add(top, "verb", VERBS)
    return top


def _add(parent: Parser, level: str, verbs: Sequence[Verb]) -> None:
    below = parent.add_subparsers(dest=level, metavar=level.upper(), required=level == "job")
    for verb in verbs:
        # Whatever has a help, be it empty, is listed.
        listed: dict[str, Any] = {"help": verb.about} if verb.about else {}
        epilog = f"example: bespoke {verb.example}" if verb.example else None
        one = below.add_parser(verb.name, description=verb.about, epilog=epilog, **listed)
        if verb.answer:
            one.set_defaults(answer=verb.answer)
        if verb.jobs:
            _add(one, "job", verb.jobs)
        else:
            verb.arguments(one)


def show_version() -> None:
    commits = version.commits()
    print(f"bespoke {__version__}, commit {commits['bespoke']}")
    print(f"sd-scripts, commit {commits['trainer']}")


def main(words: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    top = parser()
    chosen = top.parse_args(words)
    if chosen.version:
        show_version()
        return 0
    if chosen.verb is None:
        top.error("name a verb; --help lists them")
    if chosen.verb == "run":
        return _train(request.from_parsed(chosen))
    with reported(), signals.raising():
        module, _, function = chosen.answer.partition(":")
        getattr(importlib.import_module(f"bespoke.{module}"), function)(chosen)
    return 0


def run_main(words: Sequence[str] | None = None) -> int:
    """`python -m bespoke.run …`: the main job alone."""
    alone = Parser(
        prog="python -m bespoke.run",
        description="Check, render, train and verify experiments, one a GPU, one after another.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=RUN_HELP,
    )
    request.add_arguments(alone)
    return _train(request.from_parsed(alone.parse_args(words)))


def _train(wanted: request.Request) -> int:
    from bespoke.trainer.journal import Journal

    journal = Journal()
    with reported(journal.keep_traceback), signals.raising():
        if wanted.is_several:
            from bespoke import multirun

            return multirun.train(wanted, journal)
        from bespoke.run import run

        run(wanted, journal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
