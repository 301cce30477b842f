"""How findings are put before a person: grouped, counted, and none hidden behind many of a kind."""

from __future__ import annotations

from bespoke.findings import Finding, finding, listing, summary


def errors(code: str, count: int) -> list[Finding]:
    return [finding("error", code, f"{number:03}.txt", "is wrong") for number in range(count)]


def test_the_summary_has_a_count_and_an_example_of_each_code_the_errors_first() -> None:
    note = Finding(code="seen", severity="note", message="all of it")
    assert summary([note, *errors("bad", 5)]) == [
        "error: bad (5)",
        "  000.txt: is wrong … and 4 more (bespoke check --all lists them)",
        "note: seen (1)",
        "  all of it",
    ]


def test_a_long_finding_is_cut_but_where_all_is_asked_for() -> None:
    long = [finding("warning", "long", "", "word " * 100)] * 300
    assert summary(long)[1].endswith(" … and 299 more (bespoke check --all lists them)")
    assert len(summary(long)[1]) < 300
    assert summary(long, whole=True)[1:] == [f"  {'word ' * 100}"] * 300


def test_a_rare_error_is_not_hidden_behind_a_hundred_of_one_kind() -> None:
    assert listing([*errors("bad", 100), *errors("rare", 1)]).split("\n") == [
        "000.txt: is wrong",
        "001.txt: is wrong",
        "002.txt: is wrong … and 97 more (bespoke check --all lists them)",
        "000.txt: is wrong",
    ]
