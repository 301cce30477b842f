"""No secret reaches anything that is written or shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bespoke import redact
from tests.rehearsals import command, run

if TYPE_CHECKING:
    from pathlib import Path

CANARIES = {
    "HF_TOKEN": "hf_canary0token0123456789",
    "RUNPOD_API_KEY": "rpa_canary0key/with+odd=signs",
    "WANDB_API_KEY": "wandbcanary0123456789",
    "BESPOKE_DATABASE_URL": "postgres://artist:canary-pass0@db.example:6543/postgres",
    "MY_SECRET": 'canary-secret\\with"quotes',
    "AWS_SECRET_ACCESS_KEY": "canary-aws/secret+key",
    "AWS_SESSION_TOKEN": "canary-aws-session",
    "FSSPEC_S3_SECRET": "canary-fsspec-secret",
}


def test_values_of_secret_variables_and_passwords_in_addresses_are_veiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**CANARIES, "SHORT_TOKEN": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(redact, "_secrets", redact._secrets.__wrapped__)
    monkeypatch.setenv("FSSPEC_S3", '{"key": "its-access-key", "secret": "in-json-secret"}')
    secrets = (*CANARIES.values(), "its-access-key", "in-json-secret")
    assert {redact.veiled(value) for value in secrets} == {"***"}
    text = "mysql://me:pa55word@host/x, http://host:80/y, true or 1 stay, and so does a/b"
    assert redact.veiled(text) == text.replace("pa55word", "***")


@pytest.mark.parametrize("fault", ["", "fail"])
def test_a_whole_run_writes_and_shows_no_canary(tmp_path: Path, fault: str) -> None:
    secret = f"training.metadata_description={CANARIES['HF_TOKEN']}"
    variables = {**CANARIES, "BESPOKE_FAKE_TRAINER_FAULT": fault}
    done = run(command(tmp_path, "--no-test", "--set", secret), **variables)
    assert done.returncode == (4 if fault else 0), done.stderr
    texts = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(texts) > 8
    for name, content in {**texts, "shown": (done.stdout + done.stderr).encode()}.items():
        for canary in ("canary0token", "canary0key", "wandbcanary", "canary-pass0", "canary-secr"):
            assert canary.encode() not in content, name
