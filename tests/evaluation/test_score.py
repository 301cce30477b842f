from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from bespoke.cli import main
from tests.evaluation.test_metrics import PROMPT, enlarged, portrait

if TYPE_CHECKING:
    from pathlib import Path


def saved(path: Path, ground: str) -> Path:
    Image.fromarray(enlarged(portrait(ground))).save(path)
    return path


def test_a_json_list_holds_one_object_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [saved(tmp_path / "a.png", "#00aa3c"), saved(tmp_path / "b.png", "#ff69b4")]
    main(["score", *map(str, files), "--prompt", PROMPT, "--json"])
    first, second = json.loads(capsys.readouterr().out)
    assert [first["file"], second["file"]] == [str(file) for file in files]
    assert first["background"]["verdict"] == "match"
    assert second["background"]["verdict"] == "mismatch"
    assert second["background"]["name"] == "pink"
    assert first["scores"]["prompt_adherence"] == 10


def test_a_person_reads_what_is_seen_and_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["score", str(saved(tmp_path / "a.png", "#ff69b4")), "--prompt", PROMPT])
    shown = capsys.readouterr().out
    assert "background: mismatch, pink (#ff69b4), asked green #00ff00, ΔE" in shown
    assert "scores: visual quality 9" in shown


def test_a_picture_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, torn = saved(tmp_path / "a.png", "#ff69b4"), tmp_path / "torn.png"
    torn.write_bytes(good.read_bytes()[:300])
    with pytest.raises(SystemExit) as ended:
        main(["score", str(good), str(torn), "--prompt", "x", "--json"])
    told = capsys.readouterr()
    assert ended.value.code == 3
    assert "torn.png" in told.err
    assert told.out == ""
