"""The command line: the verbs and their arguments. What a verb needs is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import __version__, request, signals, version
from bespoke.errors import reported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Parser = argparse.ArgumentParser
EXIT_CODES = """\
exit codes: 0 done, 1 unexpected, 2 configuration, 3 pictures or captions, 4 the trainer failed,
5 the gate stopped the run, 130 interrupted
"""
JSON = "as JSON, for a script"
EXAMPLES = {
    "run": "run --experiment keep_tokens_3 --with-parent --seeds 42,43",
    "check": "check --experiment keep_tokens_5 --data ~/pictures --all",
    "captions": "captions repair --data ~/pictures --out ~/captions_v2",
    "test": "test NAME-0000*.safetensors --auto-score --auto-commit",
    "score": 'score epoch_4/*.png --prompt "solid green background (#00ff00)"',
    "compare": "compare keep_tokens_3 keep_tokens_5 --settings",
    "package": "package --experiment keep_tokens_5 --data ~/pictures --out ~/zips",
}


def _switches(parser: Parser, **about: str) -> None:
    """Options that are there or not; `all="…"` adds --all with that help."""
    for name, text in about.items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)


def _workspace(parser: Parser) -> None:
    request.add_arguments(parser, "workspace")


def _out(parser: Parser, about: str, *, required: bool = False) -> None:
    parser.add_argument("--out", metavar="PATH", type=request.folder, required=required, help=about)


def _experiment(parser: Parser, *options: str) -> None:
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        default=request.DEFAULT_EXPERIMENT,
        help=request.EXPERIMENT_HELP,
    )
    parser.set_defaults(overrides=(), parent_data=(), allow_no_op=False)
    request.add_arguments(parser, "data", "workspace", *options)


def _check(parser: Parser) -> None:
    _experiment(parser, "overrides", "strict", "allow_no_op", "parent_data")
    _switches(parser, all="show every finding, not three of a kind", json=JSON)


def _captions(parser: Parser) -> None:
    parser.add_argument("job", choices=("repair",), metavar="repair")
    _experiment(parser, "overrides")
    _out(parser, "the new folder", required=True)
    parser.set_defaults(allow_no_op=True)


def _test(parser: Parser) -> None:
    about = "a file, or its name in the workspace's output/; of a run's name, the newest"
    parser.add_argument("weights", metavar="CHECKPOINT", type=Path, nargs="+", help=about)
    about = "not the one in training_config.toml: file, folder, id"
    parser.add_argument("--base-model", metavar="MODEL", help=about)
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
    _workspace(parser)


def _score(parser: Parser) -> None:
    parser.add_argument("pictures", metavar="PICTURE", type=Path, nargs="+")
    parser.add_argument("--prompt", metavar="TEXT", required=True, help="what was asked")
    _switches(parser, json=JSON)


def _compare(parser: Parser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="its name, or its experiment's")
    _switches(parser, settings="only the settings in which two runs differ, and where from")
    _workspace(parser)


def _optional_run(parser: Parser) -> None:
    parser.add_argument("run", metavar="RUN", nargs="?", help="its name, or its experiment's")
    _workspace(parser)


def _record(parser: Parser) -> None:
    about = (
        "list: every run, by its start. rebuild: make record.sqlite again from the runs' files. "
        "sync: send what BESPOKE_DATABASE_URL does not have yet"
    )
    parser.add_argument("job", choices=("list", "rebuild", "sync"), help=about)
    _workspace(parser)


def _report(parser: Parser) -> None:
    _optional_run(parser)
    _switches(parser, json="print all that is known of one run as JSON; write no page")


def _serve(parser: Parser) -> None:
    _workspace(parser)
    about = "where to listen; all but this machine need a token"
    parser.add_argument("--host", default="127.0.0.1", help=about)
    parser.add_argument("--port", type=int, default=8347, help="(default: 8347; 0: a free one)")
    parser.add_argument("--token", help="what a reader must know; better as BESPOKE_REPORT_TOKEN")


def _notify(parser: Parser) -> None:
    parser.add_argument("--test", action="store_true", required=True, help="send one message")


def _package(parser: Parser) -> None:
    _experiment(parser)
    _out(parser, "the zip, or the folder for it (default: runpod_NAME_EXPERIMENT.zip, here)")
    _switches(parser, replace="even where another file of that name is there")


# Each verb's help, its arguments, and the "module:function" of this package that takes them.
VERBS: dict[str, tuple[str, Callable[[Parser], None], str]] = {
    "run": ("check, render, train and verify experiments", request.add_arguments, ""),
    "check": ("what can be known before the first step", _check, "dataset.preflight:show"),
    "captions": ("write repaired captions into a new folder", _captions, "dataset.repair:show"),
    "experiments": ("list the experiments", lambda _: None, "experiment.config:show"),
    "test": ("test checkpoints: pictures, metrics, scores", _test, "record.recorder:test"),
    "score": ("measure pictures against what was asked", _score, "evaluation.by_hand:score"),
    "compare": (
        "what differs between runs, and what came out",
        _compare,
        "record.commands:compare",
    ),
    "next": ("what the scores say comes next", _optional_run, "record.commands:show_next"),
    "record": ("the record of all runs", _record, "record.commands:record"),
    "report": (
        "write the runs' pages again",
        _report,
        "record.commands:show_report",
    ),
    "serve": ("show the runs' pages in a browser", _serve, "record.serve:show"),
    "notify": ("send a message to try BESPOKE_NOTIFY", _notify, "record.notify:show"),
    "package": ("pack an experiment for a rented machine", _package, "deploy.package:show"),
}


def parser() -> Parser:
    """All of the command line, as argparse knows it."""
    top = Parser(
        prog="bespoke",
        description="Train, test and compare LoRA experiments with sd-scripts.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="this version, and both commits")
    below = top.add_subparsers(dest="verb", metavar="VERB")
    for name, (about, arguments, answer) in VERBS.items():
        epilog = f"example: bespoke {EXAMPLES[name]}" if name in EXAMPLES else None
        verb = below.add_parser(name, help=about, description=about, epilog=epilog)
        verb.set_defaults(answer=answer)
        arguments(verb)
    return top


def main(words: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    top = parser()
    chosen = top.parse_args(words)
    if chosen.version:
        commits = version.commits()
        print(f"bespoke {__version__}, commit {commits['bespoke']}")
        print(f"sd-scripts, commit {commits['trainer']}")
        return 0
    if chosen.verb is None:
        top.error("name a verb; --help lists them")
    if chosen.verb == "run":
        return _train(request.from_parsed(chosen))
    with reported(), signals.raising():
        module, _, function = chosen.answer.partition(":")
        getattr(importlib.import_module(f"bespoke.{module}"), function)(chosen)
    return 0


def _train(wanted: request.Request) -> int:
    from bespoke.trainer.job import Journal

    journal = Journal()
    with reported(journal.keep_traceback), signals.raising():
        if wanted.is_several:
            from bespoke import multirun

            return multirun.train(wanted, journal)
        from bespoke.run import run

        run(wanted, journal)
    return 0
