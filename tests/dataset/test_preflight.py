"""Before the first step it is said whether a run can start, and what it can show."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from bespoke.dataset import preflight
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import config

if TYPE_CHECKING:
    from pathlib import Path


def examined(repository: Path, folder: Path, name: str, *overrides: str) -> preflight.Preflight:
    experiment = config.load(name, repository=repository, overrides=overrides)
    return preflight.check(experiment, data=[str(folder)], roots=[])


def check(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bespoke", "check", *arguments],
        cwd=repository, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


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
    sets = [word for text in same for word in ("--set", text)]
    allowed = check(repository, "--data", str(drawn), *sets, "--allow-no-op")
    assert allowed.returncode == 0, allowed.stderr


def test_strict_makes_warnings_stop(repository: Path, drawn: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "none"
    done = check(repository, "--data", str(drawn), "--strict", "--workspace", str(workspace))
    assert done.returncode == 2
    assert done.stdout.startswith("keep_tokens_3 can start: 0 errors, 1 warning, ")
    assert "changes 2 things from" in done.stderr
    assert not workspace.exists()


def test_a_broken_picture_stops_with_3_and_its_name(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted(drawn.iterdir())[:8]:
        (folder / path.name).write_bytes(path.read_bytes())
    broken = min(folder.glob("*.png"))
    with Image.open(broken) as image:
        image.resize((256, 256), Image.Resampling.LANCZOS).save(broken)
    report = examined(repository, folder, "keep_tokens_3")
    refusal = report.refusal()
    assert isinstance(refusal, DatasetError)
    assert f"{broken.name}: is 256x256, not 512x512" in str(refusal)
    assert check(repository, "--data", str(folder)).returncode == 3


def test_the_report_opens_with_the_hypothesis_the_worst_captions_and_their_cure(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my pictures"
    shutil.copytree(drawn, folder)
    for number, caption in enumerate(sorted(folder.glob("*.txt"))[:20]):
        text = caption.read_text(encoding="utf-8").strip()
        moved = re.sub(r"^(.*?), ((?:[^,]* )?background[^,]*), (.*)$", r"\1, \3, \2", text)
        codes = ", ".join(f"hat (#0{number % 10}0{n}02)" for n in range(3 if number == 7 else 1))
        caption.write_text(f"{moved}, {codes}", encoding="utf-8")
    lines = check(repository, "--data", str(folder)).stdout.splitlines()
    assert lines[0].startswith("keep_tokens_3 can start: 0 errors, ")
    assert lines[1] == "Can it test its hypothesis? In part."
    worst = lines.index("Worst captions:", 0, 8)
    assert re.search(r"faults? in its hex codes: .*, and \d more$|repeats 'hat'", lines[worst + 1])
    assert lines[worst + 4].startswith("Mend them: python -m bespoke captions repair ")
    assert shlex.quote(str(folder)) in lines[worst + 4]
    every = check(repository, "--data", str(folder), "--all").stdout.splitlines()
    assert sum(line.endswith("more (bespoke check --all lists them)") for line in lines) >= 1
    assert not any(line.endswith("more (bespoke check --all lists them)") for line in every)


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


def test_json_is_printed_where_there_is_nothing_to_look_into(
    repository: Path, tmp_path: Path
) -> None:
    done = check(repository, "--data", str(tmp_path), "--json")
    assert done.returncode == 3
    assert str(tmp_path) in json.loads(done.stdout)["verdict"]
    assert done.stderr.startswith("bespoke: no pictures found")
    unknown = check(repository, "--experiment", "keep_token_3", "--json")
    assert unknown.returncode == 2
    assert "keep_token_3 cannot start" in json.loads(unknown.stdout)["verdict"]


def test_there_is_no_parents_data_without_a_parent(repository: Path, drawn: Path) -> None:
    experiment = config.load("final_corrected_captions", repository=repository)
    with pytest.raises(ConfigError, match="--parent-data: this experiment has no parent"):
        preflight.check(experiment, data=[str(drawn)], parent_data=[str(drawn)], roots=[])


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
        ("n" * 300, "no such directory: "),
        ("n" * 5000, "no such directory: "),
        ("~nosuchuser/x", "no such directory: "),
        ("training_data=nowhere", "no such directory: "),
        ("traning_data=.", "OPTION traning_data=.: "),
    ],
)
@pytest.mark.parametrize("option", ["--data", "--parent-data"])
def test_a_folder_that_is_not_there_is_refused_in_a_line(
    repository: Path, drawn: Path, option: str, name: str, message: str
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository)
    data = {"--data": [str(drawn)], "--parent-data": []} | {option: [name]}
    with pytest.raises(ConfigError) as raised:
        preflight.check(
            experiment, data=data["--data"], parent_data=data["--parent-data"], roots=[]
        )
    assert str(raised.value).startswith(message.replace("OPTION", option))
    assert "\n" not in str(raised.value)
