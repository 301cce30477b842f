"""What comes next is read from the experiment's own steps, by the recorded score."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest

from bespoke import cli
from bespoke.errors import ConfigError
from bespoke.experiment import config
from bespoke.record import commands
from tests.records import a_recorded, a_result, a_run, scores

if TYPE_CHECKING:
    from pathlib import Path

    from bespoke.record.run_record import RunRecord


def refused(project: Path, table: str) -> str:
    """What is said of an experiment with this `[[next]]`."""
    (project / "experiments" / "odd.toml").write_text(f"[[next]]\n{table}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load("odd", repository=project)
    return str(caught.value)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('reason = "x"\nat_lest = 8', "at_lest: unknown key: did you mean 'at_least'?"),
        ('reason = "x"\nat_least = 11', "at_least: should be at most 10, not 11"),
        ("at_least = 8", "reason: is missing"),
    ],
)
def test_what_is_wrong_with_a_step_is_said(project: Path, table: str, says: str) -> None:
    assert refused(project, table).startswith(f"experiments/odd.toml: next.1.{says}")
    unknown = 'reason = "x"\nexperiments = ["keep_token_5"]'
    assert refused(project, unknown).endswith("did you mean 'keep_tokens_5'?")


def kept(workspace: Path, *three: int | None, experiment: str = "keep_tokens_3") -> None:
    a_recorded(workspace, a_run(experiment=experiment), a_result(given=scores(*three)))


def next_told(
    workspace: Path, capsys: pytest.CaptureFixture[str], later: RunRecord, *named: str
) -> list[str]:
    """What `bespoke next` prints where `later` has begun after KEEP_3."""
    kept(workspace, 8, 8, 8)
    a_recorded(workspace, later)
    cli.main(["next", *named, "--workspace", str(workspace)])
    return capsys.readouterr().out.splitlines()


def test_next_prints_the_reason_and_the_exact_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = next_told(tmp_path, capsys, a_run("CONV", experiment="conv_dim_8"), "KEEP_3")
    assert lines[0] == "KEEP_3: best score so far 8.0 at epoch 1"
    assert lines[1] == "The colours hold: now widen what the LoRA can draw."
    start = "python -m bespoke.run --experiment "
    assert f"{start}expanded_dataset --data generated=DIR" in lines
    assert f"{start}conv_dim_8" in lines
    assert "    already run: CONV, in_progress, no score" in lines


def test_next_goes_by_the_latest_run_that_is_no_trial_of_the_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = next_told(tmp_path, capsys, a_run("SMOKE", experiment="smoke"))
    assert first.startswith("KEEP_3: best score so far 8.0")


def test_next_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path, 8, None, 8)
    with pytest.raises(ConfigError, match="no epoch has all three scores"):
        commands.show_next(argparse.Namespace(run=None, workspace=tmp_path))
    kept(tmp_path / "b", 8, 8, 8, experiment="keep_tokens_5")
    commands.show_next(argparse.Namespace(run=None, workspace=tmp_path / "b"))
    assert "keep_tokens_5.toml has no [[next]] for this score" in capsys.readouterr().out


def test_next_without_a_run_says_how_to_make_one_and_where_it_looked(tmp_path: Path) -> None:
    kept(tmp_path / "rehearsal", 8, 8, 8)
    with pytest.raises(ConfigError, match="no run of an experiment yet") as caught:
        commands.show_next(argparse.Namespace(run=None, workspace=tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert f"add --workspace {tmp_path}/rehearsal" in str(caught.value)
