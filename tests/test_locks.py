"""The locked sets are exact, hashed, free of addresses, and at the trainer's own versions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;\\]+)")
# The headless build is the same module without the window libraries that a slim image lacks.
STANDS_FOR = {"opencv-python": "opencv-python-headless"}


def pins(text: str) -> dict[str, set[str]]:
    """Each package's versions: more than one where they differ by Python version."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        pin = PIN.match(line)
        if pin:
            found.setdefault(pin[1].lower(), set()).add(pin[2])
    return found


@pytest.mark.parametrize("name", ["orchestrator", "trainer", "tests"])
def test_a_lock_is_exact_hashed_and_names_no_address(repository: Path, name: str) -> None:
    text = (repository / "locks" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    entries = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
    assert len(entries) >= 10
    for entry in entries:
        assert PIN.match(entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_trainers_lock_holds_every_pin_of_the_submodules_requirements(
    repository: Path, sd_scripts: Path
) -> None:
    locked = pins((repository / "locks" / "trainer.txt").read_text(encoding="utf-8"))
    lines = (sd_scripts / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-e"))]
    assert len(wanted) >= 20
    for line in wanted:
        pin = PIN.match(line)
        name = (pin[1] if pin else line).lower()
        name = STANDS_FOR.get(name, name)
        assert name in locked, f"{name} is not in the lock"
        if pin:
            assert locked[name] == {pin[2]}, name


@pytest.mark.parametrize("name", ["orchestrator", "tests"])
def test_sets_that_share_a_package_share_its_versions(repository: Path, name: str) -> None:
    trainer = pins((repository / "locks" / "trainer.txt").read_text(encoding="utf-8"))
    own = pins((repository / "locks" / f"{name}.txt").read_text(encoding="utf-8"))
    shared = {package for package in own if package in trainer}
    assert shared
    assert {package: own[package] for package in shared} == {
        package: trainer[package] for package in shared
    }


def test_the_package_declares_what_the_orchestrators_lock_was_made_from(repository: Path) -> None:
    project = (repository / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)\n\]", project, re.DOTALL | re.MULTILINE)
    assert listed
    declared = set(re.findall(r'"([^"]+)"', listed[1]))
    lines = (repository / "locks" / "orchestrator.in").read_text(encoding="utf-8").splitlines()
    assert declared == {line for line in lines if line and not line.startswith("#")}
