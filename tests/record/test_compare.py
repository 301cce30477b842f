"""What differs between runs comes before what came out, and seeds are no experiment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from bespoke import cli
from bespoke.record import compare, outcome, store
from tests.records import HOSTILE, a_result, a_run, scores

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
    facts = {"captions": {"sha256": "a"}, "num_images": 203, "gpu": "A40", "best_score": 1}
    one = a_kept("ONE", 5, facts={**facts, "logs": "logs/one", "output": "a"})
    other = a_kept(
        "TWO", 9, tokens=5, facts={**facts, "captions": {"sha256": "b"}, "gpu": "RTX 4090"}
    )
    assert compare.differences([one, other]) == {
        "options": {"dataset.general.keep_tokens": {"ONE": 3, "TWO": 5}},
        "captions": {"captions.sha256": {"ONE": "a", "TWO": "b"}},
        "data": {},
        "environment": {"gpu": {"ONE": "A40", "TWO": "RTX 4090"}},
    }


def test_an_option_that_one_run_lacks_differs_from_false() -> None:
    one, other = a_run("ONE"), a_run("TWO")
    one = a_run("ONE", settings={**one.settings, "training.sdpa": {"value": False, "from": "x"}})
    found = compare.differences([one, other])["options"]
    assert found == {"training.sdpa": {"ONE": False, "TWO": None}}


def test_what_came_out_is_counted_over_the_epochs() -> None:
    verdicts = [("mismatch",), ("match", "match", "mismatch"), ("mismatch",), ("unmeasured",)]
    results = tuple(
        a_result("ONE", epoch, scores(mean, mean, mean), backgrounds=verdicts[epoch - 1])
        for epoch, mean in enumerate((5, 8, 6, 8), start=1)
    )
    told = outcome.outcome(a_run("ONE", epochs=results, starts={"t": {"training": 7200.0}}))
    assert told["background_right_from"] == 2
    assert told["lost_again"] == [3]
    assert (told["best_epoch"], told["best_score"]) == (2, 8.0)
    assert (told["falls"], told["largest_fall"]) == ("1 of 3", 2.0)
    assert (told["hours"], told["cost"], told["time"]) == (2.0, 1.0, "2:00:00")


def test_nothing_measured_is_nothing_said() -> None:
    result = a_result(given=scores(None, 7, 7), backgrounds=("unmeasured",))
    told = outcome.outcome(a_run(epochs=(result,), facts={}))
    asked = ("background_right_from", "best_epoch", "best_score", "falls", "cost", "hours")
    assert [told[key] for key in asked] == [None] * 6


def test_seeds_are_grouped_and_their_range_is_held_against_the_difference() -> None:
    runs = [
        a_kept("A1", 7, seed=1),
        a_kept("A2", 6, seed=2),
        a_kept("B1", 9, seed=1, tokens=5),
        a_kept("B2", 9, seed=2, tokens=5),
        a_kept("C", 7, tokens=1),
    ]
    groups = compare.seed_groups(runs)
    assert [group.runs for group in groups] == [("A1", "A2"), ("B1", "B2"), ("C",)]
    assert compare.seed_lines(groups) == [
        "A1: best score 6.0 to 7.0 (n = 2)",
        "B1: best score 9.0 to 9.0 (n = 2)",
        "C: best score 7.0 (n = 1)",
        "A1 and B1: ranges do not overlap, means 2.5 apart: more than the widest range between "
        "seeds (1.0)",
        "A1 and C: ranges overlap, means 0.5 apart: no more than the widest range between "
        "seeds (1.0)",
    ]


def test_one_seed_each_says_nothing_of_seeds() -> None:
    lines = compare.seed_lines(compare.seed_groups([a_kept("A", 7), a_kept("B", 9, tokens=5)]))
    assert lines[-1] == "one seed each: whether another seed would differ as much is not known"


def test_scored_runs_at_other_seeds_are_named_where_they_are_left_out() -> None:
    one, again = a_kept("A", 7), a_kept("A (2026)", 6)
    two, unscored = a_kept("A_seed_43", 9, seed=43), a_kept("A_seed_44", seed=44)
    known = [one, again, two, unscored, a_kept("B", 8, experiment="other", seed=45)]
    assert compare.left_out([one], known) == [
        "other seeds of these are not compared here: A_seed_43: name them too"
    ]
    assert compare.left_out([one, two], known) == []


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    with store.opened(tmp_path) as record:
        for run in (a_kept("ONE", 7), a_kept(HOSTILE, 9, tokens=5)):
            record.begin(run)
            for result in run.epochs:
                record.epoch(run.name, result, [])
    return tmp_path


def test_runs_stand_beside_the_baselines_as_json(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["SD15_FINAL_CORRECTED_CAPTIONS", "SD15_PERFECT", "ONE", HOSTILE]
    cli.main(["compare", *names, "--json", "--workspace", str(workspace)])
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["runs", "differs", "settings", "outcomes", "seeds"]
    assert told["runs"] == names
    assert told["differs"]["options"]["dataset.general.keep_tokens"] == {
        "ONE": 3,
        HOSTILE: 5,
    }
    known = told["outcomes"][names[0]]
    keys = ("best_epoch", "best_score", "background_right_from", "lost_again")
    assert [known[key] for key in keys] == [6, 7.3, 7, True]


def test_a_table_shows_hostile_names_as_text(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    cli.main(["compare", "ONE", HOSTILE, "--workspace", str(workspace)])
    out = capsys.readouterr().out
    assert "<b>[red]\\u202e$(id)" in out
    assert "\u202e" not in out
    assert out.index("keep_tokens") < out.index("best score")


def test_a_baseline_is_compared_by_what_is_known_of_it(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    baseline = "SD15_FINAL_CORRECTED_CAPTIONS"
    cli.main(["compare", "ONE", baseline, "--workspace", str(workspace)])
    out = capsys.readouterr().out
    assert f"not known, so not compared: the settings of {baseline}" in out
    labels = [line.split("│")[1].strip() for line in out.splitlines() if line.startswith("│")]
    assert labels == [
        "status",
        "background right from epoch",
        "best epoch",
        "best score",
        "background lost again",
    ]


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


def test_settings_say_where_each_value_came_from(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["compare", "ONE", HOSTILE, "--json", "--workspace", str(workspace)])
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert list(settings) == ["dataset.general.keep_tokens"]
    rows = settings["dataset.general.keep_tokens"]
    assert {row["from"] for row in rows.values()} == {"experiments/x.toml"}
    cli.main(["compare", "ONE", HOSTILE, "--settings", "--workspace", str(workspace)])
    assert "(experiments/x.toml)" in capsys.readouterr().out
    cli.main(["compare", "ONE", "ONE", "--settings", "--workspace", str(workspace)])
    assert capsys.readouterr().out == "no setting differs\n"


def test_the_record_is_listed_printed_and_made_again(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["record", "list", "--workspace", str(workspace)])
    out = capsys.readouterr().out
    assert "SD15_PERFECT\n    completed, best 9.0 at epoch 7, baseline" in out
    cli.main(["report", "ONE", "--json", "--workspace", str(workspace)])
    assert json.loads(capsys.readouterr().out)["epochs"][0]["epoch"] == 1
    cli.main(["report", "--json", "--workspace", str(workspace)])
    assert len(json.loads(capsys.readouterr().out)) == 4
    cli.main(["record", "rebuild", "--workspace", str(workspace)])
    assert capsys.readouterr().out == f"{workspace}/record.sqlite: made again, 4 runs\n"
    with pytest.raises(SystemExit) as ended:
        cli.main(["record", "sync", "--workspace", str(workspace)])
    assert ended.value.code == 2
    assert "BESPOKE_DATABASE_URL" in capsys.readouterr().err
