"""How a start of a run ended is how its row in the record ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bespoke.errors import GateStoppedError, InterruptedRunError, TrainerError
from bespoke.record import store
from bespoke.record.recorder import recorded
from tests.records import a_run

if TYPE_CHECKING:
    from pathlib import Path


def test_a_contact_sheet_that_cannot_be_drawn_costs_the_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bespoke.record.notify.sheet", fails)
    with recorded(a_job(tmp_path), a_run()) as (_, tell):
        tell("Gate passed")
    (found,) = store.runs(tmp_path)
    assert found.status == "completed"


def a_job(workspace: Path) -> Any:
    return SimpleNamespace(
        request=SimpleNamespace(rehearse=True),
        workspace=workspace,
        folder=workspace,
        experiment=SimpleNamespace(run_name="KEEP_3"),
        output=workspace / "output",
        name="keep_3",
    )


@pytest.mark.parametrize(
    ("error", "status", "ending"),
    [
        (None, "completed", "all epochs are trained"),
        (GateStoppedError("failed at epoch 4\nits state"), "completed", "failed at epoch 4"),
        (InterruptedRunError("stopped by SIGTERM"), "cancelled", "stopped by SIGTERM"),
        (TrainerError("exit code 1"), "failed", "exit code 1"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_a_row_ends_as_its_run_did(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: BaseException | None,
    status: str,
    ending: str,
) -> None:
    job = a_job(tmp_path)
    try:
        with recorded(job, a_run()) as (_, tell):
            tell("Gate passed")
            if error is not None:
                raise error
    except BaseException as met:  # noqa: BLE001 - each kind of end must come through
        assert met is error
    else:
        assert error is None
    (found,) = store.runs(tmp_path)
    assert (found.status, found.ending) == (status, ending)
    assert found.ended is not None
    assert "total" in next(iter(found.starts.values()))
    assert (tmp_path / "output" / "keep_3.record.json").exists()
    assert [row["event"] for row in found.interruptions] == [ending] * (status == "cancelled")
    assert capsys.readouterr().out == f"bespoke: the run's page is {tmp_path}/reports/KEEP_3.html\n"
