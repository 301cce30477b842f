"""Before the first step it is said whether a run can start, and what it can show."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from bespoke import cli
from bespoke.dataset import preflight
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import config

if TYPE_CHECKING:
    from pathlib import Path


def examined(repository: Path, folder: Path, name: str, *overrides: str) -> preflight.Preflight:
    experiment = config.load(name, repository=repository, overrides=overrides)
    return preflight.check(experiment, data=[str(folder)], roots=[])


def check(shown: pytest.CaptureFixture[str], *words: str) -> tuple[object, str, str]:
    """The exit code of `bespoke check` and what it prints."""
    code: object = 0
    try:
        cli.main(["check", *words])
    except SystemExit as end:
        code = end.code
    return code, *shown.readouterr()


def test_every_code_that_can_be_found_is_explained_in_the_docs_and_no_other(
    repository: Path,
) -> None:
    text = (repository / "docs" / "findings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in (repository / "bespoke").rglob("*.py")]
    calls = re.findall(r'finding\(\s*(?:severity|"\w+"), "(\w+)"', "".join(sources))
    assert len(documented) == len(set(documented))
    assert set(documented) == set(calls)


def test_a_child_that_changes_nothing_is_refused_unless_told_otherwise(
    repository: Path, drawn: Path
) -> None:
    same = ("dataset.keep_tokens=1", "dataset.caption_dropout_rate=0.0")
    report = examined(repository, drawn, "keep_tokens_3", *same)
    assert report.counts["experiment_no_op"] == 1
    refusal = report.refusal()
    assert isinstance(refusal, ConfigError)
    assert "--allow-no-op" in str(refusal)
    assert "would train exactly what" not in "\n".join(report.report())


def test_strict_makes_warnings_stop_and_json_is_one_object(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", str(drawn), "--strict", "--json", "--workspace", str(tmp_path / "none"))
    code, out, errors = check(capsys, *words)
    assert code == 2
    said = json.loads(out)
    assert said["verdict"].startswith("keep_tokens_3 can start: 0 errors, 1 warning, ")
    assert said["counts"]["experiment_confounded"] == 1
    assert "changes 2 things from" in errors
    assert not (tmp_path / "none").exists()


def test_a_report_opens_with_the_hypothesis_and_the_cure_of_captions_and_a_bad_picture_stops_with_3(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my pictures"
    shutil.copytree(drawn, folder)
    for caption in sorted(folder.glob("*.txt"))[:20]:
        caption.write_text(f"{caption.read_text().strip()}, hat (#000002)", encoding="utf-8")
    broken = min(folder.glob("*.png"))
    with Image.open(broken) as image:
        image.resize((256, 256), Image.Resampling.LANCZOS).save(broken)
    code, out, errors = check(capsys, "--data", str(folder))
    lines = out.splitlines()
    assert code == 3
    assert f"{broken.name}: is 256x256, not 512x512" in errors
    assert lines[0].startswith("keep_tokens_3 cannot start: 2 errors, ")
    assert lines[1] == "Can it test its hypothesis? In part."
    assert any(line.startswith("Worst captions: ") for line in lines)
    (cure,) = [line for line in lines if line.startswith("Mend them: python -m bespoke ")]
    assert shlex.quote(str(folder)) in cure
    more = "more (bespoke check --all lists them)"
    assert more in out
    assert more not in check(capsys, "--data", str(folder), "--all")[1]


def test_the_parents_share_is_taken_from_the_parents_own_captions_where_they_are_named(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository)
    longer = tmp_path / "longer"
    shutil.copytree(drawn, longer)
    padding = ", ".join(f"and word{number}" for number in range(60))
    for caption in longer.glob("*.txt"):
        caption.write_text(f"{caption.read_text().strip()}, {padding}\n")

    def share_in_parent(**more: Any) -> float:
        report = preflight.check(experiment, data=[str(drawn)], roots=[], **more)
        (share,) = re.findall(r"of samples \(([0-9.]+)% in", report.lines[0])
        return float(share)

    assert share_in_parent() > 90
    # A caption twice too long keeps a shuffled background in well under all of the samples.
    assert share_in_parent(parent_data=[str(longer)]) < 80


def with_picture(folder: Path) -> Path:
    folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    return folder


def test_the_pictures_are_where_they_are_named_else_in_the_first_root_that_has_any(
    repository: Path, tmp_path: Path
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository)
    roots = [tmp_path / "repository", tmp_path / "workspace"]

    def located(*data: str, **more: Any) -> Path:
        return preflight.locate(experiment, data, roots, **more)["training_data"]

    (roots[0] / "training_data").mkdir(parents=True)
    with pytest.raises(DatasetError) as raised:
        located()
    for root in roots:
        assert str(root / "training_data") in str(raised.value)
    assert located(draw=lambda name: tmp_path / name) == tmp_path / "training_data"
    second = with_picture(roots[1] / "training_data")
    assert located() == second
    Image.new("RGB", (8, 8)).save(roots[0] / "training_data" / "a.gif")
    assert located() == roots[0] / "training_data"
    mine = with_picture(tmp_path / "mine")
    assert located(str(mine)) == located(f"training_data={mine}") == mine
    with pytest.raises(DatasetError, match="no pictures found"):
        located(str(tmp_path), draw=lambda name: tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *((each, "no such directory: ") for each in ("n" * 5000, "~nobody/x", "training_data=x")),
        ("traning_data=.", "OPTION traning_data=.: "),
    ],
)
@pytest.mark.parametrize("option", ["data", "parent_data"])
def test_a_folder_that_is_not_there_is_refused_in_a_line(
    repository: Path, option: str, name: str, message: str
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository)
    with pytest.raises(ConfigError) as raised:
        preflight.check(experiment, **{"data": [], option: [name]}, roots=[])
    word = f"--{option.replace('_', '-')}"
    assert str(raised.value).startswith(message.replace("OPTION", word))
    assert "\n" not in str(raised.value)
