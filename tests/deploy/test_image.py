"""Image, template and task fit the project and one another, and the facts of who reads them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from dstack._internal.core.models.configurations import parse_apply_configuration

from bespoke import request
from bespoke.deploy import package, pod

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
TEMPLATE: dict[str, Any] = json.loads((REPOSITORY / "deploy/runpod-template.json").read_bytes())
ENTRY: list[str] = json.loads(DOCKERFILE.rpartition("ENTRYPOINT ")[2])


def yaml_of(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


parsed = request.parse


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


# What RunPod's REST API 2.0.0 takes for a template (its OpenAPI file, August 2026).
TAKEN = {
    *("name", "image", "args", "disk", "env", "ports", "mounts", "registry", "category"),
    *("public", "serverless", "startSsh", "startJupyter"),
}


def test_the_template_is_one_that_the_api_takes_and_holds_no_secret() -> None:
    assert TEMPLATE.keys() <= TAKEN
    assert parsed(shlex.split(TEMPLATE["args"])).experiment == "keep_tokens_3"
    volume, environment = TEMPLATE["mounts"]["persistent"], TEMPLATE["env"]
    assert volume["size"] >= 10
    assert environment["BESPOKE_WORKSPACE"] == volume["path"] == "/workspace"
    # The image holds neither.
    assert TEMPLATE["startSsh"] is TEMPLATE["startJupyter"] is False
    assert re.fullmatch(r"\{\{ RUNPOD_SECRET_\w+ \}\}", environment["BESPOKE_REPORT_TOKEN"])
    assert environment["BESPOKE_POD_WHEN_DONE"] == "stop"


def test_a_pod_is_asked_for_a_driver_and_has_a_last_hour() -> None:
    guide = (REPOSITORY / "docs/shipping.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"runpodctl pod create .+?\n```", guide, re.DOTALL)
    assert "--min-cuda-version 12.0 " in command
    assert "--terminate-after " in command


def test_the_templates_ports_are_those_that_the_image_opens_and_a_pod_serves() -> None:
    ports = {port.removesuffix("/http") for port in TEMPLATE["ports"]}
    (exposed,) = re.findall(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert set(exposed.split()) == ports
    assert set(re.findall(r"--port (\d+)", " ".join(pod.SERVICES.values()))) == ports


def test_a_task_is_one_that_dstack_takes_and_ends_when_the_run_does() -> None:
    task = parse_apply_configuration(yaml_of("deploy/dstack.yml"))
    assert task.image == TEMPLATE["image"]
    (command,) = task.commands
    words = shlex.split(command)
    assert words[:2] == ENTRY[-2:]
    chosen = parsed(words[2:])
    assert chosen.experiment == "$EXPERIMENT"
    (volume,) = task.volumes
    assert chosen.workspace == Path(volume.path) / "runs" / "$EXPERIMENT"
    (pictures,) = task.files
    assert chosen.data == (pictures.path,)
    assert (REPOSITORY / "deploy" / pictures.local_path).resolve() == REPOSITORY / "training_data"
    environment = task.env.as_dict()
    assert environment["EXPERIMENT"] == "keep_tokens_3"
    # RUNPOD_POD_ID is set there too, and bespoke.deploy.pod would never end.
    assert environment["BESPOKE_POD_BOOTED"] == "1"
    script = (REPOSITORY / "start_training.sh").read_text(encoding="utf-8")
    assert '[ -z "${BESPOKE_POD_BOOTED:-}" ]' in script
    assert [backend.value for backend in task.backends] == ["runpod"]


def test_what_a_task_can_cost_has_an_end() -> None:
    task = parse_apply_configuration(yaml_of("deploy/dstack.yml"))
    assert task.max_price * task.max_duration / 3600 <= 12
    assert task.utilization_policy.min_gpu_utilization > 0
    volume = parse_apply_configuration(yaml_of("deploy/dstack-volume.yml"))
    assert volume.name == task.volumes[0].name
