"""What the documents say exists, and what exists they say.

Commands, options, exit codes, variables, links and the file map.
The finding codes are held to docs/findings.md in test_preflight.py.
"""

from __future__ import annotations

import argparse
import functools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bespoke import cli, errors
from bespoke.deploy import health
from bespoke.trainer import process

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")], key=lambda path: path.name
)
# Options of other programs that stand alone in a sentence.
OTHERS = {"--gpus", "--user", "--build-arg", "--help", "--resume"}
# They have options of their own.
SCRIPTS = {"quick_test_epoch.py", "auto_test_epoch.py"}


def verbs() -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """Every verb, and every job below one, with its parser."""
    found: dict[tuple[str, ...], argparse.ArgumentParser] = {}

    def walk(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> None:
        found[path] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, inner in action.choices.items():
                    walk(inner, (*path, name))

    walk(cli.parser(), ())
    return found


def options(parser: argparse.ArgumentParser, *, shown: bool = False) -> set[str]:
    """All of them, or those that a person is `shown`."""
    return {
        word
        for action in parser._actions
        if not (shown and action.help == argparse.SUPPRESS)
        for word in action.option_strings
    }


@functools.cache
def script_options(script: str) -> set[str]:
    """What `script --help` names, as a person would see it."""
    done = subprocess.run(
        [sys.executable, script, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(re.findall(r"--[a-z-]+", done.stdout))


VERBS = verbs()
ALL_OPTIONS = set().union(*map(options, VERBS.values()))


def code(text: str) -> list[str]:
    """Each line of a block and each span of code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", rest, re.MULTILINE)
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^    .*$", "", rest, flags=re.MULTILINE))


def words(line: str) -> list[str]:
    bare = re.sub(r"\s#\s.*$|\s{3,}\S.*$|[…]", "", line).strip()
    try:
        return shlex.split(bare)
    except ValueError:
        return bare.split()


def commands(line: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Our commands in a line of code: the verb's path, and the words after it."""
    found = []
    told = words(line)
    for start, word in enumerate(told):
        rest = told[start + 1 :]
        before = told[start - 1] if start else ""
        if word == "bespoke" and told[:2] == ["docker", "run"]:
            path = ("run",)
        elif word == "bespoke" and before in ("-m", ""):
            path: tuple[str, ...] = ()
            while rest and (*path, rest[0]) in VERBS:
                path = (*path, rest.pop(0))
            # A word in capitals stands for any verb.
            if rest and not rest[0].startswith("-") and not path and not rest[0].isupper():
                path = (rest.pop(0),)
        elif word.endswith("start_training.sh") or (word, before) == ("bespoke.run", "-m"):
            path = ("run",)
        else:
            continue
        ends = [rest.index(mark) for mark in ("&&", "||", "|", ";") if mark in rest]
        found.append((path, rest[: min(ends, default=len(rest))]))
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_documented_command_and_option_exists(document: Path) -> None:
    wrong = []
    for line in code(document.read_text(encoding="utf-8")):
        ours = commands(line)
        for path, rest in ours:
            if path not in VERBS:
                wrong.append(f"there is no `bespoke {' '.join(path)}`: {line}")
                continue
            wrong += [
                f"`{' '.join(path)}` has no {word}: {line}"
                for word in (word.partition("=")[0] for word in rest if word.startswith("--"))
                if word not in options(VERBS[path])
            ]
        alone = words(line)[:1]
        if not ours and alone and alone[0].startswith("--"):
            word = alone[0].partition("=")[0]
            if word not in ALL_OPTIONS.union(OTHERS, *map(script_options, SCRIPTS)):
                wrong.append(f"no verb has {word}: {line}")
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_every_named_file_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    roots = ("bespoke/", "tests/", "benchmarks/", "deploy/", "docs/", "locks/", "vendor/")
    for span in re.findall(r"`([^`\s]+)`", text):
        if span.startswith(roots) and not set(span) & set("*<>{}…") and Path(span).suffix:
            named.append(span)
    missing = [
        name
        for name in named
        if not (document.parent / name).exists() and not (REPOSITORY / name).exists()
    ]
    assert not missing, "\n" + "\n".join(missing)


def test_every_verb_and_every_option_is_documented() -> None:
    lines = [line for path in DOCUMENTS for line in code(path.read_text(encoding="utf-8"))]
    said = {path for line in lines for path, _ in commands(line)}
    mentioned = {word for line in lines for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    missing = []
    for path, parser in VERBS.items():
        if path and not any(each[: len(path)] == path for each in said):
            missing.append(f"bespoke {' '.join(path)}")
        missing += [
            f"{' '.join(path) or 'bespoke'} {option}"
            for option in sorted(options(parser, shown=True))
            if option.startswith("--") and option != "--help" and option not in mentioned
        ]
    assert not missing, "\nnot documented:\n" + "\n".join(missing)


def exit_codes() -> set[int]:
    found = {0, 1, errors.InterruptedRunError.exit_code}
    waiting = [errors.BespokeError]
    assert issubclass(process.StartError, errors.BespokeError)
    assert issubclass(health.UnhealthyError, errors.BespokeError)
    while waiting:
        kind = waiting.pop()
        found.add(kind.exit_code)
        waiting += kind.__subclasses__()
    return found


def test_the_readme_has_a_row_for_each_exit_code_and_for_no_other() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| exit code |") :].partition("\n\n")[0]
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert sorted(rows) == sorted(exit_codes())
    told = cli.RUN_EXAMPLES.rpartition("exit codes:")[2]
    assert {int(number) for number in re.findall(r"\d+", told)} == exit_codes()


VARIABLE = re.compile(r"\bBESPOKE_[A-Z_]+[A-Z]\b")


def variables(*paths: Path) -> set[str]:
    return {word for path in paths for word in VARIABLE.findall(path.read_text(encoding="utf-8"))}


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_variable_that_is_read_is_in_one_of_two_tables_and_no_other() -> None:
    """The README's for those who use it, CONTRIBUTING's for tests; others may name them too."""
    tables = (("README.md", "Environment variables"), ("CONTRIBUTING.md", "Variables for tests"))
    cells = [
        VARIABLE.findall(row.split("|")[1])
        for document, heading in tables
        for row in section((REPOSITORY / document).read_text(encoding="utf-8"), heading).split("\n")
        if row.startswith("|")
    ]
    tabled = [name for cell in cells for name in cell]
    ours = [*REPOSITORY.glob("*.sh"), *(REPOSITORY / "bespoke").rglob("*.py")]
    read = variables(*ours)
    tests = variables(*(REPOSITORY / "tests").rglob("*.py"))
    assert read <= {*tabled}, f"in no table: {sorted(read - {*tabled})}"
    assert {*tabled} <= read | tests, f"read nowhere: {sorted({*tabled} - read - tests)}"
    assert len(tabled) == len({*tabled}), "in both tables, or twice"
    known = {*tabled} | variables(REPOSITORY / "Dockerfile")
    assert variables(*DOCUMENTS) <= known, f"not there: {sorted(variables(*DOCUMENTS) - known)}"


def test_each_example_of_a_verbs_help_exists() -> None:
    for path, parser in VERBS.items():
        if not path:
            continue
        text = parser.format_help()
        for line in text.partition("examples:")[2].splitlines():
            for named, rest in commands(line.strip()):
                assert named in VERBS, line
                given = {word.partition("=")[0] for word in rest if word.startswith("--")}
                assert given <= options(VERBS[named]), line


@pytest.mark.parametrize("script", sorted(SCRIPTS))
def test_every_option_of_the_scripts_is_documented_and_no_other(script: str) -> None:
    known = script_options(script)
    lines = [line for path in DOCUMENTS for line in code(path.read_text(encoding="utf-8"))]
    given = {word for line in lines if script in line for word in words(line) if word[:2] == "--"}
    assert given <= known
    said = {word for line in lines for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    assert known - {"--help"} <= said


def test_the_file_map_names_every_module_once_and_no_other() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    listed = section(text, "Where things are").partition("    bespoke/\n")[2]
    named = re.findall(r"[\w.]+\.(?:py|json|j2)\b|\w+/(?=\s)", listed)
    package = REPOSITORY / "bespoke"
    there = [path.name for path in package.iterdir() if path.suffix in (".py", ".json", ".j2")]
    there += [f"{path.parent.name}/" for path in package.glob("*/*.*") if path.suffix != ".pyc"]
    assert sorted(named) == sorted({*there})


def test_the_file_map_names_every_file_and_folder_of_the_top() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    listed = section(text, "Where things are")
    done = subprocess.run(
        ["git", "ls-tree", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    tracked = {row.partition("\t")[2] for row in done.stdout.splitlines()}
    # What a tool or a reader expects at the top, and needs no word.
    expected = {"README.md", "LICENSE", "pyproject.toml"}
    missing = [
        name
        for name in sorted(tracked - expected)
        if not name.startswith(".") and name not in re.findall(r"[\w.]+", listed)
    ]
    assert not missing
