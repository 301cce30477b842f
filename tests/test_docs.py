"""What the documents say exists, and what exists they say: commands, options, codes, variables.

The finding codes are held to docs/findings.md in tests/dataset/.
"""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from bespoke import cli, errors

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")], key=lambda path: path.name
)
# CHANGELOG names what is gone, too.
DOCUMENTS.remove(REPOSITORY / "CHANGELOG.md")
# Options of other programs that stand alone in a sentence.
OTHERS = {"--gpus", "--user", "--build-arg", "--help", "--resume"}
VARIABLE = re.compile(r"\bBESPOKE_[A-Z_]+[A-Z]\b")


def walk(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> None:
    VERBS[path] = parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                walk(inner, (*path, name))


VERBS: dict[tuple[str, ...], argparse.ArgumentParser] = {}
walk(cli.parser(), ())


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {word for action in parser._actions for word in action.option_strings}


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


def command(line: str) -> tuple[tuple[str, ...], list[str]] | None:
    """Our command in a line of code: the verb's path, and the words after it."""
    given = words(line)
    for start, word in enumerate(given):
        rest, path = given[start + 1 :], ("run",)
        if word == "bespoke" and given[:2] != ["docker", "run"]:
            path = ()
            while rest and (*path, rest[0]) in VERBS:
                path = (*path, rest.pop(0))
            if not path and not (rest and (rest[0].isupper() or rest[0][0] == "-")):
                continue
        elif word in ("quick_test_epoch.py", "auto_test_epoch.py"):
            path = ("test",)
        elif word not in ("bespoke", "bespoke.run") and not word.endswith("start_training.sh"):
            continue
        ends = [rest.index(mark) for mark in ("&&", "||", "|", ";") if mark in rest]
        return path, rest[: min(ends, default=len(rest))]
    return None


CODE = [line for path in DOCUMENTS for line in code(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_documented_command_and_option_exists(document: Path) -> None:
    wrong = []
    every = OTHERS.union(*map(options, VERBS.values()))
    for line in code(document.read_text(encoding="utf-8")):
        ours = command(line)
        given = ours[1] if ours else words(line)[:1]
        known = options(VERBS[ours[0]]) if ours else every
        wrong += [
            f"no {word}: {line}"
            for word in (word.partition("=")[0] for word in given if word.startswith("--"))
            if word not in known
        ]
    assert not wrong, "\n" + "\n".join(wrong)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_every_named_file_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    roots = ("bespoke/", "tests/", "benchmarks/", "deploy/", "docs/", "locks/", "vendor/")
    for span in re.findall(r"`([^`\s]+)`", text):
        if span.startswith(roots) and not set(span) & set("*<>{}…") and Path(span).suffix:
            named.append(span)
    folders = (document.parent, REPOSITORY)
    missing = [name for name in named if not any((each / name).exists() for each in folders)]
    assert not missing, "\n" + "\n".join(missing)


def test_every_verb_and_every_option_of_a_run_is_documented() -> None:
    paths = {ours[0] for line in CODE if (ours := command(line))}
    mentioned = {word for line in CODE for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    missing = [
        f"bespoke {' '.join(path)}"
        for path in VERBS
        if path and not any(each[: len(path)] == path for each in paths)
    ]
    assert not missing + sorted(options(VERBS["run",]) - mentioned - {"--help", "-h"})


def test_each_example_of_a_verbs_help_exists() -> None:
    for path, parser in VERBS.items():
        line = (parser.epilog or "").partition("example: ")[2].partition("\n")[0]
        ours = command(line)
        assert not line or ours, path
        given = {word.partition("=")[0] for word in (ours or ((), []))[1] if word[:2] == "--"}
        assert given <= options(VERBS[ours[0] if ours else ()]), line


def test_the_readme_has_a_row_for_each_exit_code_and_so_has_the_help() -> None:
    kinds = [errors.BespokeError, *errors.BespokeError.__subclasses__()]
    codes = {0, errors.InterruptedRunError.exit_code, *(kind.exit_code for kind in kinds)}
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| exit code |") :].partition("\n\n")[0]
    assert set(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == codes
    listed = cli.RUN_HELP.rpartition("exit codes:")[2]
    assert set(map(int, re.findall(r"\d+", listed))) == codes


def variables(*paths: Path) -> set[str]:
    return {word for path in paths for word in VARIABLE.findall(path.read_text(encoding="utf-8"))}


def test_every_variable_that_is_read_is_in_one_of_two_tables_and_no_other() -> None:
    """The manual's for those who use it, CONTRIBUTING's for tests; others may name them too."""
    tables = (("docs/manual.md", "Environment variables"), ("CONTRIBUTING.md", "Variables for"))
    tabled = []
    for document, heading in tables:
        text = (REPOSITORY / document).read_text(encoding="utf-8")
        section = text.partition(f"\n## {heading}")[2].partition("\n## ")[0]
        rows = re.findall(r"^\|([^|]+)\|", section, re.MULTILINE)
        tabled += [name for row in rows for name in VARIABLE.findall(row)]
    read = variables(*REPOSITORY.glob("*.sh"), *(REPOSITORY / "bespoke").rglob("*.py"))
    tests = variables(*(REPOSITORY / "tests").rglob("*.py"))
    assert read <= {*tabled}, f"in no table: {sorted(read - {*tabled})}"
    assert {*tabled} <= read | tests, f"read nowhere: {sorted({*tabled} - read - tests)}"
    assert len(tabled) == len({*tabled}), "in both tables, or twice"
    known = {*tabled} | variables(REPOSITORY / "Dockerfile")
    assert variables(*DOCUMENTS) <= known, f"not there: {sorted(variables(*DOCUMENTS) - known)}"
