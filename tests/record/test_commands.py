"""What differs between runs comes before what came out, and seeds are no experiment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bespoke import cli
from bespoke.record import commands
from tests.records import HOSTILE, a_recorded, a_result, a_run, scores

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.record.run_record import RunRecord

BASELINE = "SD15_FINAL_CORRECTED_CAPTIONS"


def a_kept(name: str, *means: int, seed: int = 42, tokens: int = 3, **known: Any) -> RunRecord:
    settings = {
        **a_run().settings,
        "training.seed": {"value": seed, "from": "--set"},
        "training.output_name": {"value": name, "from": "x"},
        "dataset.general.keep_tokens": {"value": tokens, "from": "experiments/x.toml"},
    }
    results = tuple(
        a_result(name, epoch, scores(mean, mean, mean)) for epoch, mean in enumerate(means, start=1)
    )
    return a_run(name, **{**known, "settings": settings, "epochs": results})


def test_differences_are_of_what_a_run_is_made_from() -> None:
    facts = {"captions": {"sha256": "a"}, "num_images": 203, "gpu_type": "A40"}
    one = a_kept("ONE", 5, facts={**facts, "logs": "logs/one", "output": "a"})
    other = a_kept("TWO", 9, tokens=5, facts={**facts, "captions": {"sha256": "b"}})
    assert commands.differences([one, other]) == {
        "dataset.general.keep_tokens": {"ONE": 3, "TWO": 5},
        "captions.sha256": {"ONE": "a", "TWO": "b"},
    }


def test_what_came_out_is_counted_over_the_epochs() -> None:
    verdicts = [("mismatch",), ("match", "match", "mismatch"), ("mismatch",), ("unmeasured",)]
    results = tuple(
        a_result("ONE", epoch, scores(mean, mean, mean), backgrounds=verdicts[epoch - 1])
        for epoch, mean in enumerate((5, 8, 6, 8), start=1)
    )
    run = a_run("ONE", epochs=results, starts={"t": {"total": 7200.0}})
    assert commands.outcome(run) == {
        "status": "in_progress",
        "background right from epoch": 2,
        "background wrong again": "3",
        "best epoch": 2,
        "best score": 8.0,
        "time": "2:00:00",
        "money": 1.0,
    }


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """What a command says of a record of two runs, in a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    for run in (a_kept("ONE", 7), a_kept(HOSTILE, 9, tokens=5)):
        a_recorded(tmp_path, run)

    def command(*words: str) -> str:
        cli.main([*words, "--workspace", str(tmp_path)])
        return capsys.readouterr().out

    return command


def test_a_table_shows_hostile_names_as_text(said: Any) -> None:
    out = said("compare", "ONE", HOSTILE)
    assert "<b>[red]\\u202e$(id)" in out
    assert "\u202e" not in out
    assert out.index("keep_tokens") < out.index("best score")


@pytest.mark.parametrize("name", ["BARE", BASELINE])
def test_a_run_of_unknown_settings_is_compared_by_what_came_out(
    said: Any, tmp_path: Path, name: str
) -> None:
    a_recorded(tmp_path, a_run("BARE", settings={}))
    out = said("compare", "ONE", name)
    assert f"not known, so not compared: the settings of {name}" in out
    labels = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert labels[0] == "status"
    assert "best score" in labels
    assert (name == BASELINE) == ("7.3" in out)


def test_settings_are_compared_alone_and_named_whole_in_a_narrow_terminal(
    said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = said("compare", "ONE", HOSTILE, "--settings")
    rows = [line for line in out.splitlines()[1:] if line.startswith("│")]
    assert "".join(row.split("│")[1].strip() for row in rows) == "dataset.general.keep_tokens"
    assert said("compare", "ONE", "ONE", "--settings") == "no setting differs\n"


def test_the_record_is_listed_printed_and_made_again(
    said: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "ONE\n    in_progress, best 7.0 at epoch 1, 2026-11-25" in said("record", "list")
    assert json.loads(said("report", "ONE", "--json"))["epochs"][0]["epoch"] == 1
    assert len(json.loads(said("report", "--json"))) == 2
    assert said("record", "rebuild") == f"{tmp_path}/record.sqlite: made again, 2 runs\n"
    with pytest.raises(SystemExit) as ended:
        said("record", "sync")
    assert ended.value.code == 2
    assert "BESPOKE_DATABASE_URL" in capsys.readouterr().err


def a_pair(first: tuple[int, ...], second: tuple[int, ...]) -> list[RunRecord]:
    """A run a score of two experiments that differ in keep_tokens, each at a seed of its own."""
    return [
        a_kept(f"{name}_{n}", mean, seed=n, tokens=tokens, status="completed", uid=f"{name}{n}")
        for name, tokens, means in (("A", 3, first), ("B", 5, second))
        for n, mean in enumerate(means)
    ]


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ((6, 8), (7, 8), "A_0 and B_0: no difference: 0.5 apart, seeds alone differ by 2.0"),
        ((5, 6), (8, 9), "A_0 and B_0: B_0 is better: 3.0 apart, seeds alone differ by 1.0"),
        ((5,), (8, 9), "A_0 and B_0: 3.5 apart, but one seed cannot tell: train both with --seeds"),
    ],
)
def test_a_difference_within_the_seeds_spread_is_none(
    first: tuple[int, ...], second: tuple[int, ...], says: str
) -> None:
    runs = a_pair(first, second)
    assert commands.seed_line(runs[0], runs[len(first)], runs) == says
    assert commands.seed_line(runs[0], runs[0], runs) is None


def test_the_seeds_of_an_experiment_are_counted_though_one_of_its_runs_is_named(
    said: Any, tmp_path: Path
) -> None:
    for run in a_pair((6, 8), (7, 8)):
        a_recorded(tmp_path, run).end(status="completed")
    assert "A_0 and B_1: no difference: 0.5 apart" in said("compare", "A_0", "B_1")
    assert "apart" not in said("compare", "A_0", "A_1")
