"""How a start of a run ended is how its row in the record ends."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from bespoke import cli
from bespoke.errors import GateStoppedError, InterruptedRunError, TrainerError
from bespoke.evaluation.gate import Decision
from bespoke.record import store
from bespoke.record.recorder import recorded
from tests.records import a_result, a_run

if TYPE_CHECKING:
    from pathlib import Path


def a_job(workspace: Path) -> Any:
    return SimpleNamespace(
        request=SimpleNamespace(rehearse=True),
        workspace=workspace,
        experiment=SimpleNamespace(run_name="KEEP_3"),
        output=workspace / "output",
        name="keep_3",
    )


@pytest.mark.parametrize(
    ("error", "status", "ending"),
    [
        (None, "completed", "all epochs are trained"),
        (
            GateStoppedError("failed at epoch 4\nits state is whole"),
            "completed",
            "failed at epoch 4",
        ),
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
        with recorded(job, a_run()):
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


def test_the_pages_that_a_run_writes_and_those_made_again_are_the_same(tmp_path: Path) -> None:
    result = a_result(backgrounds=("match",))
    file = tmp_path / result.folder / "drawn.png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (24, 24), "green").save(file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    picture = replace(result.pictures[0], file=file.name, sha256=sha256)
    stopped = Decision(epoch=1, outcome="STOP", reason="hypothesis failed", evidence={})
    with recorded(a_job(tmp_path), a_run()) as kept:
        kept.epoch(replace(result, pictures=(picture,)), stopped)
    pages = [tmp_path / "reports" / name for name in ("index.html", "KEEP_3.html")]
    index, page = (each.read_text(encoding="utf-8") for each in pages)
    assert 'src="data:image/webp' in page
    assert "The hypothesis failed at epoch 1." in index
    assert "What next" in page
    cli.main(["report", "--workspace", str(tmp_path)])
    for each, before in zip(pages, (index, page), strict=True):
        again = each.read_text(encoding="utf-8")
        assert again.partition("<footer>")[0] == before.partition("<footer>")[0]
