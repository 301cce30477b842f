"""Before the first step it is said whether a run can start, and what it can show."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from bespoke.dataset import preflight
from bespoke.errors import ConfigError, DatasetError
from bespoke.experiment import config, prompts


def examined(repository: Path, folder: Path, name: str, *overrides: str) -> preflight.Prereport:
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


def codes_in(source: str) -> set[str]:
    """The codes that a module's calls of error(), finding() and found() carry."""
    codes = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        if name in ("error", "finding", "warning"):
            codes |= {w for w in words[:2] if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", str(w))}
    return codes


def test_every_code_that_can_be_found_is_explained_in_the_docs_and_no_other(
    repository: Path,
) -> None:
    text = (repository / "docs" / "findings.md").read_text(encoding="utf-8")
    documented = re.findall(r"^### `(\w+)`$", text, re.MULTILINE)
    sources = [path.read_text(encoding="utf-8") for path in (repository / "bespoke").rglob("*.py")]
    assert len(documented) == len(set(documented))
    assert set(documented) == set().union(*map(codes_in, sources))


def test_a_child_that_changes_nothing_is_refused_unless_told_otherwise(
    repository: Path, drawn: Path
) -> None:
    same = ("dataset.keep_tokens=1", "dataset.caption_dropout_rate=0.0")
    report = examined(repository, drawn, "keep_tokens_3", *same)
    assert report.counts["experiment_no_op"] == 1
    refusal = report.refusal()
    assert isinstance(refusal, ConfigError)
    sets = [word for text in same for word in ("--set", text)]
    for flag in ("--allow-no-op", "--allow-inert"):
        allowed = check(repository, "--data", str(drawn), *sets, flag)
        assert allowed.returncode == 0, allowed.stderr
    refused = check(repository, "--data", str(drawn), *sets)
    assert refused.returncode == 2
    assert (refused.stdout + refused.stderr).count("would train exactly what") == 1
    assert "--allow-no-op" in refused.stderr


def test_strict_makes_warnings_stop(repository: Path, drawn: Path) -> None:
    assert check(repository, "--data", str(drawn)).returncode == 0
    done = check(repository, "--data", str(drawn), "--strict")
    assert done.returncode == 2
    assert "changes 2 things from" in done.stderr


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
    worst = lines.index("Worst captions:")
    assert worst < 8
    assert lines[worst + 1].endswith(": repeats 'hat', and 3 more")
    assert lines[worst + 4].startswith("Mend them: python -m bespoke captions repair ")
    assert shlex.quote(str(folder)) in lines[worst + 4]
    every = check(repository, "--data", str(folder), "--all").stdout.splitlines()
    assert sum(line.endswith("more (--all lists them)") for line in lines) >= 1
    assert not any(line.endswith("more (--all lists them)") for line in every)


def test_check_makes_no_workspace(repository: Path, drawn: Path, tmp_path: Path) -> None:
    done = check(repository, "--data", str(drawn), "--workspace", str(tmp_path / "none"))
    assert done.returncode == 0
    assert not (tmp_path / "none").exists()


def test_the_drawn_collection_has_no_finding_of_its_own(repository: Path, drawn: Path) -> None:
    report = examined(repository, drawn, "keep_tokens_3")
    assert [str(found) for found in report.data_findings] == []


@pytest.mark.parametrize("name", config.names(Path(__file__).resolve().parents[2]))
def test_no_experiment_of_the_project_has_options_that_cannot_run(
    repository: Path, drawn: Path, name: str
) -> None:
    report = examined(repository, drawn, name)
    assert [f for f in report.option_findings if f.severity == "error"] == []


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
    assert seen.exposure == unseen.exposure


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


@pytest.mark.parametrize(
    "name", ["n" * 300, "n" * 5000, "~nosuchuser/x", "training_data=" + "n" * 300]
)
@pytest.mark.parametrize("option", ["--data", "--parent-data"])
def test_a_name_that_is_no_folder_is_refused_in_a_line(
    repository: Path, drawn: Path, option: str, name: str
) -> None:
    data = [] if option == "--data" else ["--data", str(drawn)]
    done = check(repository, *data, option, name)
    assert done.returncode == 2
    assert done.stderr.startswith("bespoke: no such directory: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_prompts_are_looked_at_as_they_are_rendered(
    repository: Path, drawn: Path, tmp_path: Path
) -> None:
    experiment = config.load("keep_tokens_3", repository=repository)

    def found(text: str) -> list[str]:
        file = tmp_path / "p.toml"
        file.write_text(f'[prompts.a]\ntext = "{text}"\n', encoding="utf-8")
        report = preflight.examine(
            experiment, {"training_data": drawn}, parent=None, prompts=prompts.load(file)
        )
        return [code for code in report.counts if code.startswith("prompt_")]

    assert found("pink hair (#ff66cc), " + "a " * 200) == []
    assert found("a " * 226) == ["prompt_too_long"]
