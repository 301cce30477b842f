"""The locked sets are exact, hashed, free of addresses, and at the trainer's own versions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

LOCKS = Path(__file__).resolve().parent.parent / "locks"
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^\s;\\]+)")
# The headless build is the same module without the window libraries that a slim image lacks.
STANDS_FOR = {"opencv-python": "opencv-python-headless"}


def pins(name: str) -> dict[str, set[str]]:
    """Each package's versions: more than one where they differ by Python version."""
    versions: dict[str, set[str]] = {}
    for line in (LOCKS / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if pin := PIN.match(line):
            versions.setdefault(pin[1].lower(), set()).add(pin[2])
    return versions


@pytest.mark.parametrize("name", ["orchestrator", "trainer", "tests"])
def test_a_lock_is_exact_hashed_names_no_address_and_shares_its_versions(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        assert PIN.match(entry), entry
        assert "--hash=sha256:" in entry, entry
    own, trainer = pins(name), pins("trainer")
    assert {each for each in own.keys() & trainer.keys() if own[each] != trainer[each]} == set()


def test_the_trainers_lock_holds_every_pin_of_the_submodules_requirements(sd_scripts: Path) -> None:
    lines = (sd_scripts / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith(("#", "-e"))]
    assert len(wanted) >= 20
    for line in wanted:
        pin = PIN.match(line)
        name = (pin[1] if pin else line).lower()
        versions = pins("trainer")[STANDS_FOR.get(name, name)]
        assert pin is None or versions == {pin[2]}, name


def test_the_package_declares_what_the_orchestrators_lock_was_made_from() -> None:
    project = (LOCKS.parent / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.partition("\ndependencies = [\n")[2].partition("\n]")[0]
    lines = (LOCKS / "orchestrator.in").read_text(encoding="utf-8").splitlines()
    declared = {line for line in lines if line and not line.startswith("#")}
    assert set(re.findall(r'"([^"]+)"', listed)) == declared
