"""Before the first step it is said whether a run can start, and what it can show."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bespoke import config, preflight, prompts
from bespoke.errors import ConfigError, DatasetError


def examined(repository: Path, folder: Path, name: str, *overrides: str) -> preflight.Preflight:
    known = [config.load(each, repository=repository) for each in config.names(repository)]
    experiment = config.load(name, repository=repository, overrides=overrides)
    parent = next((each for each in known if each.name == experiment.parent), None)
    data = {"training_data": folder}
    return preflight.examine(experiment, data, parent=parent, known=known)


def check(repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bespoke", "check", *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def report(repository: Path, real_pictures: Path) -> dict[str, Any]:
    done = check(repository, "--data", str(real_pictures), "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_counts_of_the_collection_come_out(report: dict[str, Any]) -> None:
    counts = report["counts"]
    assert counts["caption_cut"] == 25
    assert counts["colour_shared_background"] == 167
    assert counts["colour_background"] == 2
    assert counts["colour_absent"] == 1
    assert "picture_cells" not in counts
    assert "picture_copy" not in counts
    assert len(report["findings"]) == sum(counts.values())


def test_the_verdict_says_why_keep_tokens_3_cannot_test_its_hypothesis(
    report: dict[str, Any],
) -> None:
    first, subject, *rest = report["verdict"].splitlines()
    assert first.startswith("keep_tokens_3 can start")
    assert re.match(
        r"background reaches the encoder whole in 9\d\.\d% of samples, 9\d\.\d% in "
        r"final_corrected_captions; no kept tag holds a colour$",
        subject,
    )
    text = "\n".join(rest)
    assert "changes 2 things at once" in text
    assert "one of 2 fixed prefixes" in text
    assert "no tag is ever dropped" in text


def test_the_sight_gives_each_class_here_and_in_the_parent(report: dict[str, Any]) -> None:
    background = report["sight"]["background"]
    # A dropout of 5% takes that share from what the parent shows.
    assert background["here"] == pytest.approx(background["parent"] * 0.95, abs=0.003)
    assert {"hair", "eyes", "lips", "skin", "palette", "style"} <= set(report["sight"])


def test_each_finding_of_the_report_has_its_fields(report: dict[str, Any]) -> None:
    for found in report["findings"]:
        assert set(found) == {"code", "severity", "file", "tag", "message", "measured"}
        assert found["severity"] in ("error", "warning", "note")
        assert found["message"]


def codes_in(source: str) -> set[str]:
    """The codes that a module's calls of error(), finding() and found() carry."""
    codes = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        if name in ("error", "finding", "found"):
            codes |= {w for w in words[:2] if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", str(w))}
    return codes


def test_every_code_that_can_be_found_is_explained_in_the_docs_and_no_other(
    repository: Path,
) -> None:
    text = (repository / "docs" / "findings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in (repository / "bespoke").glob("*.py")]
    assert len(documented) == len(set(documented))
    assert set(documented) == set().union(*map(codes_in, sources))


def test_a_child_that_changes_nothing_is_refused_unless_told_otherwise(
    repository: Path, drawn: Path
) -> None:
    same = ("dataset.keep_tokens=1", "dataset.caption_dropout_rate=0.0")
    flight = examined(repository, drawn, "keep_tokens_3", *same)
    assert flight.counts["experiment_inert"] == 1
    refusal = flight.refusal()
    assert isinstance(refusal, ConfigError)
    sets = [word for text in same for word in ("--set", text)]
    asked = check(repository, "--data", str(drawn), *sets, "--allow-inert")
    assert asked.returncode == 0, asked.stderr
    assert check(repository, "--data", str(drawn), *sets).returncode == 2


def test_strict_makes_warnings_stop(repository: Path, drawn: Path) -> None:
    assert check(repository, "--data", str(drawn)).returncode == 0
    done = check(repository, "--data", str(drawn), "--strict")
    assert done.returncode == 2
    assert "changes 2 things at once" in done.stderr


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
    flight = examined(repository, folder, "keep_tokens_3")
    refusal = flight.refusal()
    assert isinstance(refusal, DatasetError)
    assert f"{broken.name}: is 256x256, not 512x512" in str(refusal)
    assert check(repository, "--data", str(folder)).returncode == 3


def test_three_examples_are_shown_of_a_kind_and_all_where_asked(
    repository: Path, real_pictures: Path
) -> None:
    some = check(repository, "--data", str(real_pictures)).stdout
    whole = check(repository, "--data", str(real_pictures), "--all").stdout
    assert "warning: colour_shared_background (167)" in some
    assert some.count(": the words are taught one colour") < 10
    assert whole.count(": the words are taught one colour") >= 167
    assert len(some.splitlines()) < 80


def test_check_makes_no_workspace(repository: Path, drawn: Path, tmp_path: Path) -> None:
    done = check(repository, "--data", str(drawn), "--workspace", str(tmp_path / "none"))
    assert done.returncode == 0
    assert not (tmp_path / "none").exists()


def test_the_drawn_collection_has_no_finding_of_its_own(repository: Path, drawn: Path) -> None:
    flight = examined(repository, drawn, "keep_tokens_3")
    assert [str(found) for found in flight.data_findings] == []


@pytest.mark.parametrize("name", config.names(Path(__file__).resolve().parent.parent))
def test_no_experiment_of_the_project_has_options_that_cannot_run(
    repository: Path, drawn: Path, name: str
) -> None:
    flight = examined(repository, drawn, name)
    assert [f for f in flight.option_findings if f.severity == "error"] == []


def test_repairing_captions_shows_what_a_second_check_finds(
    repository: Path, real_pictures: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "bespoke",
        "captions",
        "repair",
        "--out",
        str(tmp_path / "new"),
    ]
    done = subprocess.run(
        [*command, "--data", str(real_pictures)],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "colour_shared_background: 167 -> 0" in done.stdout
    assert "hex_codes_min = 2" in done.stdout
    again = check(repository, "--data", str(tmp_path / "new"), "--json")
    counts = json.loads(again.stdout)["counts"]
    assert counts["caption_hex_few"] == 203, "the old promise does not hold of the new version"
    assert "caption_cut" not in counts
    assert "colour_loose" not in counts


def test_the_parents_share_is_taken_from_the_parents_own_captions_where_they_are_named(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    known = [config.load(name, repository=repository) for name in config.names(repository)]
    parent = next(each for each in known if each.name == "final_corrected_captions")
    one = config.load("keep_tokens_3", repository=repository)
    promise = replace(one.specs["training_data"], caption_version="shorter_v1")
    experiment = replace(one, specs={"training_data": promise})
    longer = tmp_path / "longer"
    longer.mkdir()
    for path in drawn.iterdir():
        text = path.read_text(encoding="utf-8").strip() if path.suffix == ".txt" else ""
        if text:
            padding = ", ".join(f"and word{number}" for number in range(60))
            (longer / path.name).write_text(f"{text}, {padding}\n", encoding="utf-8")
        else:
            (longer / path.name).symlink_to(path)
    data = {"training_data": drawn}
    unseen = preflight.examine(experiment, data, parent=parent)
    assert unseen.counts["parent_captions_unseen"] == 1
    assert unseen.before["background"] > 0.9
    seen = preflight.examine(experiment, data, parent=parent, parent_data={"training_data": longer})
    assert "parent_captions_unseen" not in seen.counts
    # A caption twice too long keeps a shuffled background in well under all of the samples.
    assert seen.before["background"] < 0.8
    assert seen.sight == unseen.sight


def test_json_is_printed_where_there_is_nothing_to_look_into(
    repository: Path, tmp_path: Path
) -> None:
    done = check(repository, "--data", str(tmp_path), "--json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["counts"] == {"pictures_none": 1}
    assert str(tmp_path) in told["verdict"]
    assert done.stderr.startswith("bespoke: no pictures found")
    unknown = check(repository, "--experiment", "keep_token_3", "--json")
    assert unknown.returncode == 2
    assert json.loads(unknown.stdout)["counts"] == {"experiment_refused": 1}
    refused = check(repository, "--parent-data", str(tmp_path / "no"), "--data", str(tmp_path))
    assert refused.returncode in (2, 3)
    assert "Traceback" not in refused.stderr


def test_the_prompts_are_looked_at_as_they_are_rendered(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository)

    def found(text: str) -> list[str]:
        file = tmp_path / "p.toml"
        file.write_text(f'[prompts.a]\ntext = "{text}"\n', encoding="utf-8")
        flight = preflight.examine(
            experiment, {"training_data": drawn}, parent=None, prompts=prompts.load(file)
        )
        return [code for code in flight.counts if code.startswith("prompt_")]

    assert found("pink hair (#ff66cc), " + "a " * 200) == []
    assert found("a " * 226) == ["prompt_too_long"]
