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


def yaml_of(name: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


parsed = request.parse


def test_the_image_starts_the_project_under_an_init() -> None:
    assert ENTRY == ["tini", "-g", "--", "bash", "/opt/bespoke/start_training.sh"]
    assert re.search(r"^WORKDIR /opt/bespoke$", DOCKERFILE, re.MULTILINE)
    assert "CMD [" in DOCKERFILE.partition("HEALTHCHECK")[2].partition("\nENTRYPOINT")[0]
    # Nothing stands in for the arguments: those given after IMAGE are all there are.
    assert not re.search(r"^CMD ", DOCKERFILE, re.MULTILINE)
    assert "<<" not in DOCKERFILE


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


def test_the_template_has_the_fields_that_the_api_takes() -> None:
    fields = "name image args disk env ports mounts allowedCudaVersions startSsh startJupyter"
    assert set(TEMPLATE) == set(fields.split())
    assert parsed(shlex.split(TEMPLATE["args"])).experiment == "keep_tokens_3"
    assert TEMPLATE["mounts"] == {"persistent": {"size": 40, "path": "/workspace"}}
    assert TEMPLATE["env"]["BESPOKE_WORKSPACE"] == TEMPLATE["mounts"]["persistent"]["path"]
    # The CUDA 12.8 build of torch runs on every driver of CUDA 12.0 and later.
    assert all(float(version) >= 12.0 for version in TEMPLATE["allowedCudaVersions"])
    # The image holds neither.
    assert TEMPLATE["startSsh"] is TEMPLATE["startJupyter"] is False


def test_the_templates_ports_are_those_that_the_image_opens_and_a_pod_serves() -> None:
    ports = {port.removesuffix("/http") for port in TEMPLATE["ports"]}
    (exposed,) = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert set(exposed.split()) == ports
    assert set(re.findall(r"--port (\d+)", " ".join(pod.SERVICES.values()))) == ports


def test_the_templates_variables_are_read_and_no_secret_stands_in_it() -> None:
    sources = [path.read_text("utf-8") for path in (REPOSITORY / "bespoke").rglob("*.py")]
    for name, value in TEMPLATE["env"].items():
        assert any(f'"{name}"' in source for source in sources), name
        if "TOKEN" in name or "KEY" in name:
            assert re.fullmatch(r"\{\{ RUNPOD_SECRET_\w+ \}\}", value)
    assert TEMPLATE["env"]["BESPOKE_POD_WHEN_DONE"] == "stop"


def test_each_task_has_a_workspace_of_its_own_and_ends_when_the_run_does() -> None:
    task = yaml_of("deploy/dstack.yml")
    assert task["type"] == "task"
    assert task["image"] == TEMPLATE["image"]
    (command,) = task["commands"]
    words = shlex.split(command)
    assert words[:2] == ENTRY[-2:]
    chosen = parsed(words[2:])
    assert chosen.experiment == "$EXPERIMENT"
    (volume,) = task["volumes"]
    assert chosen.workspace == Path(volume["path"]) / "runs" / "$EXPERIMENT"
    assert chosen.data == (f"{volume['path']}/training_data",)
    environment = dict(line.split("=", 1) for line in task["env"])
    assert environment["EXPERIMENT"] == "keep_tokens_3"
    # RUNPOD_POD_ID is set there too, and bespoke.deploy.pod would never end.
    assert environment["BESPOKE_POD_BOOTED"] == "1"
    script = (REPOSITORY / "start_training.sh").read_text(encoding="utf-8")
    assert '[ -z "${BESPOKE_POD_BOOTED:-}" ]' in script
    assert task["backends"] == ["runpod"]
