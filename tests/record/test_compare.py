"""What differs between runs comes before what came out, and seeds are no experiment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bespoke import cli
from bespoke.record import compare
from tests.records import HOSTILE, a_recorded, a_result, a_run, scores

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.record.run_record import RunRecord


def a_kept(name: str, *means: int, seed: int = 42, tokens: int = 3, **known: Any) -> RunRecord:
    run = a_run(name, **known)
    settings = {
        **run.settings,
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
    assert compare.differences([one, other]) == {
        "dataset.general.keep_tokens": {"ONE": 3, "TWO": 5},
        "captions.sha256": {"ONE": "a", "TWO": "b"},
    }


def test_an_option_that_one_run_lacks_differs_from_false() -> None:
    one, other = a_run("ONE"), a_run("TWO")
    one = a_run("ONE", settings={**one.settings, "training.sdpa": {"value": False, "from": "x"}})
    assert compare.differences([one, other]) == {"training.sdpa": {"ONE": False, "TWO": None}}


def test_what_came_out_is_counted_over_the_epochs() -> None:
    verdicts = [("mismatch",), ("match", "match", "mismatch"), ("mismatch",), ("unmeasured",)]
    results = tuple(
        a_result("ONE", epoch, scores(mean, mean, mean), backgrounds=verdicts[epoch - 1])
        for epoch, mean in enumerate((5, 8, 6, 8), start=1)
    )
    run = a_run("ONE", epochs=results, starts={"t": {"total": 7200.0}})
    assert compare.outcome(run) == {
        "status": "in_progress",
        "background right from epoch": 2,
        "background turned again": "epoch 3",
        "best epoch": 2,
        "best score": 8.0,
        "time": "2:00:00",
        "money": 1.0,
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for run in (a_kept("ONE", 7), a_kept(HOSTILE, 9, tokens=5)):
        a_recorded(tmp_path, run)
    return tmp_path


def test_a_table_shows_hostile_names_as_text(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cli.main(["compare", "ONE", HOSTILE, "--workspace", str(workspace)])
    out = capsys.readouterr().out
    assert "<b>[red]\\u202e$(id)" in out
    assert "\u202e" not in out
    assert out.index("keep_tokens") < out.index("best score")


def test_a_run_of_unknown_settings_is_compared_by_what_came_out(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    a_recorded(workspace, a_run("BARE", settings={}))
    cli.main(["compare", "ONE", "BARE", "--workspace", str(workspace)])
    out = capsys.readouterr().out
    assert "not known, so not compared: the settings of BARE" in out
    labels = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert labels[:2] == ["status", "background right from epoch"]


def test_settings_are_named_whole_also_in_a_narrow_terminal(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    cli.main(["compare", "ONE", HOSTILE, "--settings", "--workspace", str(workspace)])
    first = [
        line.split("│")[1].strip()
        for line in capsys.readouterr().out.splitlines()[1:]
        if line.startswith("│")
    ]
    assert "".join(first) == "dataset.general.keep_tokens"


def test_settings_are_compared_alone(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["compare", "ONE", HOSTILE, "--settings", "--workspace", str(workspace)])
    assert "best score" not in capsys.readouterr().out
    cli.main(["compare", "ONE", "ONE", "--settings", "--workspace", str(workspace)])
    assert capsys.readouterr().out == "no setting differs\n"


def test_the_record_is_listed_printed_and_made_again(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["record", "list", "--workspace", str(workspace)])
    out = capsys.readouterr().out
    assert "ONE\n    in_progress, best 7.0 at epoch 1, 2026-11-25" in out
    cli.main(["report", "ONE", "--json", "--workspace", str(workspace)])
    assert json.loads(capsys.readouterr().out)["epochs"][0]["epoch"] == 1
    cli.main(["report", "--json", "--workspace", str(workspace)])
    assert len(json.loads(capsys.readouterr().out)) == 2
    cli.main(["record", "rebuild", "--workspace", str(workspace)])
    assert capsys.readouterr().out == f"{workspace}/record.sqlite: made again, 2 runs\n"
    with pytest.raises(SystemExit) as ended:
        cli.main(["record", "sync", "--workspace", str(workspace)])
    assert ended.value.code == 2
    assert "BESPOKE_DATABASE_URL" in capsys.readouterr().err


def test_a_baseline_is_compared_by_the_little_that_is_known_of_it(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = "SD15_FINAL_CORRECTED_CAPTIONS"
    cli.main(["compare", "ONE", baseline, "--workspace", str(workspace)])
    table = capsys.readouterr().out
    assert "7.3" in table
    assert f"not known, so not compared: the settings of {baseline}" in table
    assert len(table.splitlines()) < 20


def a_pair(first: tuple[int, ...], second: tuple[int, ...]) -> list[RunRecord]:
    """A run a score of two experiments that differ in keep_tokens, each at a seed of its own."""
    return [
        a_kept(
            f"{name}_{seed}",
            mean,
            seed=seed,
            tokens=tokens,
            status="completed",
            uid=f"{name}{seed}",
        )
        for name, tokens, means in (("A", 3, first), ("B", 5, second))
        for seed, mean in enumerate(means)
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
    assert compare.seed_line(runs[0], runs[len(first)], runs) == says
    assert compare.seed_line(runs[0], runs[0], runs) is None


def test_the_seeds_of_an_experiment_are_counted_though_one_of_its_runs_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in a_pair((6, 8), (7, 8)):
        a_recorded(tmp_path, run)
    cli.main(["compare", "A_0", "B_1", "--workspace", str(tmp_path)])
    assert "A_0 and B_1: no difference: 0.5 apart" in capsys.readouterr().out
    cli.main(["compare", "A_0", "A_1", "--workspace", str(tmp_path)])
    assert "apart" not in capsys.readouterr().out
