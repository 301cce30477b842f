"""Image, template and task fit the project and one another, and the facts of who reads them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from bespoke import request
from bespoke.deploy import package, pod

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
TEMPLATE: dict[str, Any] = json.loads((REPOSITORY / "deploy/runpod-template.json").read_bytes())
ENTRY: list[str] = json.loads(DOCKERFILE.rpartition("ENTRYPOINT ")[2])


def test_the_image_lets_in_what_a_package_holds_and_what_the_build_needs_alone() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[1] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    locks = {"locks/orchestrator.txt", "locks/trainer.txt"}
    assert let_in == (set(package.PROJECT) - {"locks"}) | locks | {
        "deploy/image.py",
        "tools/options_scan.py",
        "vendor/sd-scripts",
    }
    for kept_out in ("**/.git", "**/.env*", "**/__pycache__"):
        assert lines.index(kept_out) > max(lines.index(f"!{name}") for name in let_in)
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE)
    assert copied == ["setup.sh", *sorted(locks, reverse=True), "vendor/sd-scripts", "."]


def test_the_template_has_the_fields_that_the_api_takes_and_no_secret_stands_in_it() -> None:
    fields = "name image args disk env ports mounts allowedCudaVersions startSsh startJupyter"
    assert set(TEMPLATE) == set(fields.split())
    assert request.parse(shlex.split(TEMPLATE["args"])).experiment == "keep_tokens_3"
    assert TEMPLATE["mounts"] == {"persistent": {"size": 40, "path": "/workspace"}}
    assert TEMPLATE["env"]["BESPOKE_WORKSPACE"] == "/workspace"
    assert TEMPLATE["env"]["BESPOKE_POD_WHEN_DONE"] == "stop"
    assert re.fullmatch(r"\{\{ RUNPOD_SECRET_\w+ \}\}", TEMPLATE["env"]["BESPOKE_REPORT_TOKEN"])
    ports = {port.removesuffix("/http") for port in TEMPLATE["ports"]}
    (exposed,) = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert set(exposed.split()) == ports
    assert set(re.findall(r"--port (\d+)", " ".join(pod.SERVICES.values()))) == ports


def test_each_task_has_a_workspace_of_its_own_and_ends_when_the_run_does() -> None:
    yaml = pytest.importorskip("yaml")
    task = yaml.safe_load((REPOSITORY / "deploy/dstack.yml").read_text(encoding="utf-8"))
    assert task["image"] == TEMPLATE["image"]
    (command,) = task["commands"]
    words = shlex.split(command)
    assert words[:2] == ENTRY[-2:]
    chosen = request.parse(words[2:])
    assert chosen.experiment == "$EXPERIMENT"
    (volume,) = task["volumes"]
    assert chosen.workspace == Path(volume["path"]) / "runs" / "$EXPERIMENT"
    assert chosen.data == (f"{volume['path']}/training_data",)
    # RUNPOD_POD_ID is set there too, and bespoke.deploy.pod would never end.
    assert "BESPOKE_POD_BOOTED=1" in task["env"]
    script = (REPOSITORY / "start_training.sh").read_text(encoding="utf-8")
    assert '[ -z "${BESPOKE_POD_BOOTED:-}" ]' in script
