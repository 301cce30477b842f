"""The command line: argparse and nothing else. What a verb needs is imported when it is called."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import __version__, arguments, origin, signals
from bespoke.arguments import RUN_EXAMPLES
from bespoke.errors import reported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
Parser = argparse.ArgumentParser


@dataclass(frozen=True, kw_only=True)
class Verb:
    """`answer` is "module:function" of this package, which takes what was parsed; jobs without one
    are answered by their verb's."""

    name: str
    about: str
    examples: str
    arguments: Callable[[Parser], None] = lambda _: None
    answer: str = ""
    jobs: tuple[Verb, ...] = ()


VERBS = (
    Verb(
        name="run",
        about="check, render, train and verify experiments",
        examples=RUN_EXAMPLES,
        arguments=arguments.run,
    ),
    Verb(
        name="check",
        about="what can be known of a run before its first step",
        examples="""\
  bespoke check                                 the pictures beside the project or in the workspace
  bespoke check --experiment keep_tokens_5 --data ~/pictures --all
  bespoke check --strict --json                 for a script: exit code 2 or 3 where it is refused
""",
        arguments=arguments.check,
        answer="check:show",
    ),
    Verb(
        name="captions",
        about="work on the captions",
        examples="  bespoke captions repair --out ~/captions_v2\n",
        jobs=(
            Verb(
                name="repair",
                about="write a repaired caption version beside the old one",
                examples="""\
  bespoke captions repair --out ~/captions_v2
  bespoke captions repair --data ~/pictures --out ~/captions_v2 --keep background
""",
                arguments=arguments.repair,
                answer="check:repair",
            ),
        ),
    ),
    Verb(
        name="experiments",
        about="list the experiments there are",
        examples="""\
  bespoke experiments
  bespoke experiments --json
""",
        arguments=arguments.as_json,
        answer="listing:show",
    ),
    Verb(
        name="score",
        about="measure any pictures against what was asked",
        examples="""\
  bespoke score picture.png --prompt "punk lady, pink hair, solid green background (#00ff00)"
  bespoke score epoch_4/*.png --prompt "solid green background" --json
""",
        arguments=arguments.score,
        answer="score:show",
    ),
    Verb(
        name="rescore",
        about="measure and score a saved epoch's pictures again, keeping both verdicts",
        examples="""\
  bespoke rescore epoch_tests/*
  bespoke rescore workspace/output/tests/bespoke_baby_sd15_lora_keep_tokens_3-000004-1a2b3c4d
""",
        arguments=arguments.rescore,
        answer="epoch_test:again",
    ),
    Verb(
        name="compare",
        about="what differs between runs, and what came out",
        examples="""\
  bespoke compare keep_tokens_3 SD15_PERFECT
  bespoke compare keep_tokens_3 keep_tokens_5 --settings
""",
        arguments=arguments.compare,
        answer="compare:compare",
    ),
    Verb(
        name="next",
        about="what the recorded scores say comes next",
        examples="""\
  bespoke next                                  after the latest run
  bespoke next keep_tokens_3
""",
        arguments=arguments.optional_run,
        answer="record:next_steps",
    ),
    Verb(
        name="record",
        about="the record of all runs",
        answer="record:run",
        examples="""\
  bespoke record list
  bespoke record sync                           send what BESPOKE_DATABASE_URL does not have yet
""",
        jobs=(
            Verb(
                name="list",
                about="every run, by its start",
                examples="  bespoke record list --json\n",
                arguments=arguments.record_list,
            ),
            Verb(
                name="sync",
                about="send what BESPOKE_DATABASE_URL does not have yet",
                examples="  bespoke record sync\n",
                arguments=arguments.workspace,
            ),
            Verb(
                name="rebuild",
                about="make record.sqlite again from the runs' own files",
                examples="  bespoke record rebuild\n",
                arguments=arguments.workspace,
            ),
        ),
    ),
    Verb(
        name="report",
        about="write the runs' pages again from the record, or print it",
        examples="""\
  bespoke report
  bespoke report keep_tokens_3 --json           all that is known of the run
""",
        arguments=arguments.report,
        answer="report:show",
    ),
    Verb(
        name="serve",
        about="show the runs' pages in a browser",
        examples="""\
  bespoke serve                                 on this machine alone
  bespoke serve --host 0.0.0.0 --port 8888      with BESPOKE_REPORT_TOKEN set
""",
        arguments=arguments.serve,
        answer="serve:show",
    ),
    Verb(
        name="package",
        about="pack one experiment and all that it needs into a zip for a rented machine",
        examples="""\
  bespoke package                               runpod_KEEP_TOKENS_3_EXPERIMENT.zip, here
  bespoke package --experiment keep_tokens_5 --data ~/pictures --out ~/zips
""",
        arguments=arguments.package,
        answer="package:show",
    ),
    Verb(
        name="health",
        about="whether this machine's newest run goes on or ended well",
        examples="""\
  bespoke health                                exit code 0 while a run goes on or has ended well
  bespoke health --workspace /workspace
""",
        arguments=arguments.workspace,
        answer="health:show",
    ),
    Verb(
        name="completion",
        about="print a shell's completions",
        examples="""\
  bespoke completion bash >~/.local/share/bash-completion/completions/bespoke
  bespoke completion zsh >~/.zfunc/_bespoke
""",
        arguments=arguments.completion,
        answer="cli:complete",
    ),
)


def parser() -> argparse.ArgumentParser:
    """All of the command line, as argparse knows it."""
    whole = argparse.ArgumentParser(
        prog="bespoke",
        description="Train, judge and compare LoRA experiments with sd-scripts.",
        epilog="Each verb's own --help has examples.",
    )
    whole.add_argument("--version", action=_Version, help="this version, and both commits")
    _add(whole, "verb", VERBS)
    return whole


def _add(parent: Parser, level: str, verbs: Sequence[Verb]) -> None:
    below = parent.add_subparsers(dest=level, metavar=level.upper(), required=True)
    for verb in verbs:
        one = below.add_parser(
            verb.name,
            help=verb.about,
            description=f"{verb.about[0].upper()}{verb.about[1:]}.",
            epilog=f"examples:\n{verb.examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
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
        commits = origin.commits(REPOSITORY)
        print(f"bespoke {__version__}, commit {commits['bespoke']}")
        print(f"sd-scripts, commit {commits['trainer']}")
        raise SystemExit(0)


def main(given: Sequence[str] | None = None) -> int:
    """`python -m bespoke VERB …`; returns 0, or raises SystemExit with the error's code."""
    words = list(sys.argv[1:] if given is None else given)
    chosen = parser().parse_args(words)
    if chosen.verb == "run":
        return _run(chosen, words[words.index("run") + 1 :])
    with reported(), signals.raising():
        module, _, function = chosen.answer.partition(":")
        getattr(importlib.import_module(f"bespoke.{module}"), function)(chosen)
    return 0


def complete(chosen: argparse.Namespace) -> None:
    """`bespoke completion SHELL`: the script that the shell reads."""
    import shtab

    print(shtab.complete(parser(), chosen.shell))


def run_main(given: Sequence[str] | None = None) -> int:
    """`python -m bespoke.run …`: the main job alone."""
    words = list(sys.argv[1:] if given is None else given)
    alone = argparse.ArgumentParser(
        prog="python -m bespoke.run",
        description="Check, render, train and verify one experiment, or several side by side.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"examples:\n{RUN_EXAMPLES}",
    )
    arguments.run(alone)
    return _run(alone.parse_args(words), words)


def _run(chosen: argparse.Namespace, given: Sequence[str]) -> int:
    from bespoke.journal import Journal

    journal = Journal(printed=chosen.events)
    with reported(journal.keep_traceback), signals.raising():
        from bespoke.job import Request
        from bespoke.run import run

        experiments = tuple(chosen.experiment or [arguments.DEFAULT_EXPERIMENT])
        told: dict[str, Any] = {**vars(chosen), "experiment": experiments[0]}
        for several in ("overrides", "data", "parent_data"):
            told[several] = tuple(told[several])
        request = Request(**{each.name: told[each.name] for each in fields(Request)})
        if len(experiments) == 1 and not chosen.seeds and not chosen.with_parent:
            run(request, journal)
            return 0
        from bespoke import side_by_side

        which = argparse.ArgumentParser(add_help=False)
        arguments.runs(which)
        which.add_argument("--data", action="append")
        asked = side_by_side.Several(
            request=request,
            experiments=experiments,
            seeds=chosen.seeds,
            with_parent=chosen.with_parent,
            at_once=chosen.at_once,
            passed_on=tuple(which.parse_known_args(given)[1]),
        )
        return side_by_side.train(asked, journal)


def quick_test_main() -> int:
    """`quick_test_epoch.py CHECKPOINT…`"""
    about = "Pictures of checkpoints, and what they measure."
    return _test("quick", about, arguments.epoch_test)


def auto_test_main() -> int:
    """`auto_test_epoch.py CHECKPOINT… [--auto-score] [--auto-commit]`"""
    about = "Test, score and record checkpoints: you are asked for scores, unless told."
    return _test("auto", about, arguments.auto_test)


def _test(how: str, about: str, asked: Callable[[Parser], None]) -> int:
    alone = argparse.ArgumentParser(prog=f"{how}_test_epoch.py", description=about)
    asked(alone)
    chosen = alone.parse_args()
    with reported(), signals.raising():
        from bespoke import epoch_test

        told = {**vars(chosen), "weights": tuple(chosen.weights)}
        getattr(epoch_test, how)(epoch_test.Request(**told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
