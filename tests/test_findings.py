"""How findings are put before a person: grouped, counted, and none hidden behind many of a kind."""

from __future__ import annotations

from bespoke.findings import Finding, listing, summary


def error(code: str, number: int) -> Finding:
    return Finding(code=code, severity="error", file=f"{number:03}.txt", message="is wrong")


def test_the_summary_groups_by_code_with_counts_and_first_examples() -> None:
    note = Finding(code="seen", severity="note", message="all of it")
    assert summary([note, *(error("bad", number) for number in range(5))]) == [
        "error: bad (5)",
        "  000.txt: is wrong",
        "  001.txt: is wrong",
        "  002.txt: is wrong … and 2 more (bespoke check --all lists them)",
        "note: seen (1)",
        "  all of it",
    ]


def test_warnings_of_one_cause_are_one_group_and_all_are_listed_where_asked() -> None:
    codes = ("colour_shared", "colour_word", "palette_torn")
    findings = [Finding(code=code, severity="warning", message=code) for code in codes * 300]
    assert summary(findings) == [
        "warning: Hex codes that the model cannot tie to one feature (900)",
        "  colour_shared 300, colour_word 300, palette_torn 300",
        "  colour_shared … and 899 more (bespoke check --all lists them)",
    ]
    assert len(summary(findings, examples=None)) == 903


def test_a_rare_error_is_not_hidden_behind_a_hundred_of_one_kind() -> None:
    lines = listing([*(error("bad", number) for number in range(100)), error("rare", 100)])
    assert lines.split("\n")[2:] == [
        "002.txt: is wrong … and 97 more (bespoke check --all lists them)",
        "100.txt: is wrong",
    ]
