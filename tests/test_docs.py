"""What the documents say exists, and what exists they say: commands, options, codes, variables.

The finding codes are held to docs/findings.md in tests/dataset/.
"""

from __future__ import annotations

import argparse
import re
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
OTHERS = {"--gpus", "--user", "--build-arg", "--help", "--resume", "--network-volume-id"}
VARIABLE = re.compile(r"\bBESPOKE_[A-Z_]+[A-Z]\b")


(SUBPARSERS,) = (
    action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction)
)
VERBS = {
    verb: {word for action in parser._actions for word in action.option_strings}
    for verb, parser in SUBPARSERS.choices.items()
}
STARTS = re.compile(
    rf"(?:^|\s)bespoke (?P<verb>{'|'.join(VERBS)})\b(?P<rest>.*)"
    r"|(?:bespoke\.run|start_training\.sh|docker run .* bespoke)(?=\s|$)(?P<run>.*)"
)


def code(text: str) -> list[str]:
    """Each line of a block and each span of code."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^    (\S.*)$", rest, re.MULTILINE)
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^    .*$", "", rest, flags=re.MULTILINE))


def command(line: str) -> tuple[str, set[str]] | None:
    """Our command in a line of code: the verb, and the options after it."""
    match = STARTS.search(re.sub(r"\s#\s.*$|\s{3,}\S.*$", "", line))
    if match is None:
        return None
    rest = re.split(r"&&|[|;]", match["rest"] or match["run"] or "")[0]
    return match["verb"] or "run", set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest))


CODE = [line for path in DOCUMENTS for line in code(path.read_text(encoding="utf-8"))]
COMMANDS = [command(line) for line in CODE]


def test_every_documented_command_and_option_exists_and_every_verb_is_documented() -> None:
    every = OTHERS.union(*VERBS.values())
    for line, ours in zip(CODE, COMMANDS, strict=True):
        verb, given = ours or ("", set(re.findall(r"^--[a-z][a-z-]*", line)))
        assert given <= (VERBS[verb] if verb else every), line
    documented = {ours[0] for ours in COMMANDS if ours}
    assert documented == set(VERBS)
    mentioned = {word for line in CODE for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", line)}
    assert VERBS["run"] - mentioned <= {"--help", "-h"}
    for verb, example in cli.EXAMPLES.items():
        ours = command(f"bespoke {example}")
        assert ours, example
        assert ours[0] == verb
        assert ours[1] <= VERBS[verb], example


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


def test_the_readme_has_a_row_for_each_exit_code_and_so_has_the_help() -> None:
    kinds = [errors.BespokeError, *errors.BespokeError.__subclasses__()]
    codes = {0, errors.InterruptedRunError.exit_code, *(kind.exit_code for kind in kinds)}
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    table = text[text.index("| exit code |") :].partition("\n\n")[0]
    assert set(map(int, re.findall(r"^\| (\d+) \|", table, re.MULTILINE))) == codes
    listed = cli.EXIT_CODES.rpartition("exit codes:")[2]
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
