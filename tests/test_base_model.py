"""The base model: which file is trained on, how it is fetched, what is refused."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from bespoke import base_model
from bespoke.base_model import BaseModel, Pinned, resolve
from bespoke.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parent.parent
# More than one of huggingface_hub's blocks of 10 MB: what comes of less is not kept.
CONTENT = np.random.default_rng(1).bytes(24_000_000)
HALF = 15_000_000
PINNED = Pinned(
    repository="owner/model",
    revision="0123456789abcdef0123456789abcdef01234567",
    file="model.safetensors",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    fallback="copy/archive",
)


class Hub(ThreadingHTTPServer):
    """As much of the hub as hf_hub_download speaks with, for one file of two repositories."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.requests: list[tuple[str, str, str | None]] = []
        self.content = CONTENT
        self.statuses = {"owner": 200, "copy": 200}
        self.cuts = 0
        self.gone_after_a_cut = False
        self.down = False
        self.stalled: threading.Event | None = None
        self.authorizations: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetches(self) -> list[str | None]:
        """The Range header of each GET."""
        return [asked for method, _, asked in self.requests if method == "GET"]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is what some tests are about."""


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        hub = self.server
        if hub.down:
            self.close_connection = True
            return
        asked = self.headers.get("Range")
        hub.requests.append((method, self.path, asked))
        hub.authorizations.append(self.headers.get("Authorization"))
        status = hub.statuses[self.path.split("/")[1]]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = hub.content[start:] if status == 200 else b""
        self.send_response(206 if asked and status == 200 else status)
        if status == 200:
            self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
            self.send_header("X-Repo-Commit", PINNED.revision)
            if asked:
                last = len(hub.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(hub.content)}")
        elif status == 404:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if method == "GET":
            self._send(body)

    def _send(self, body: bytes) -> None:
        hub = self.server
        if hub.stalled is not None:
            self.wfile.write(body[:HALF])
            hub.stalled.wait(60)
        elif hub.cuts > 0:
            hub.cuts -= 1
            hub.down = hub.gone_after_a_cut
            self.wfile.write(body[:HALF])
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub (of the trainer's packages) is not installed")
    server = Hub()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    if server.stalled is not None:
        server.stalled.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetch(models: Path, pinned: Pinned = PINNED, said: list[str] | None = None) -> BaseModel:
    announce = (said if said is not None else []).append
    return resolve(pinned.repository, models=models, announce=announce, pinned=pinned)


def test_the_pinned_file_is_fetched_verified_and_named(hub: Hub, models: Path) -> None:
    model = fetch(models)
    final = models / PINNED.file
    assert model == BaseModel(path=str(final), sha256=PINNED.sha256, verified=True, hub=False)
    assert final.read_bytes() == CONTENT
    assert f"/owner/model/resolve/{PINNED.revision}/{PINNED.file}" in hub.requests[0][1]
    assert sorted(path.name for path in models.iterdir()) == [
        ".lock",
        "model.safetensors",
        "model.safetensors.verified",
    ]


def test_the_second_start_asks_the_network_nothing_and_hashes_nothing(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch(models)
    asked = len(hub.requests)
    said: list[str] = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch(models, said=said) == first
    assert len(hub.requests) == asked
    assert said == []


def test_a_download_that_breaks_off_goes_on_by_itself(hub: Hub, models: Path) -> None:
    hub.cuts = 1
    fetch(models)
    assert (models / PINNED.file).read_bytes() == CONTENT
    first, second = hub.fetches()
    assert first is None
    assert second is not None
    assert 10_000_000 <= int(second.removeprefix("bytes=").rstrip("-")) <= HALF


def test_a_killed_download_is_taken_up_by_the_next_start(hub: Hub, models: Path) -> None:
    hub.stalled = threading.Event()
    script = (
        "import sys; from pathlib import Path; from bespoke import base_model as b; "
        f"b.resolve('owner/model', models=Path(sys.argv[1]), announce=print, pinned=b.{PINNED!r})"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(models)],
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in models.rglob("*.incomplete")):
        assert time.monotonic() < deadline, "nothing of the download arrived"
        assert child.poll() is None, "the download ended by itself"
        time.sleep(0.05)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (models / PINNED.file).exists()
    hub.stalled.set()
    hub.stalled = None
    fetch(models)
    assert (models / PINNED.file).read_bytes() == CONTENT
    assert hub.fetches()[-1] not in (None, "bytes=0-")


def test_a_server_that_goes_away_is_one_line_and_what_came_is_kept(hub: Hub, models: Path) -> None:
    hub.cuts, hub.gone_after_a_cut = 1, True
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1 cannot be reached or broke off") as caught:
        fetch(models)
    assert "GB that came are kept" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    came = sum(part.stat().st_size for part in models.rglob("*.incomplete"))
    assert 10_000_000 <= came <= HALF
    hub.down = False
    fetch(models)
    assert (models / PINNED.file).read_bytes() == CONTENT
    assert hub.fetches() == [None, f"bytes={came}-"]


def test_no_server_is_one_line_that_says_where_else_the_file_may_come_from(
    hub: Hub, models: Path
) -> None:
    hub.down = True
    with pytest.raises(ConfigError, match="cannot be reached") as caught:
        fetch(models)
    assert str(models / PINNED.file) in str(caught.value)
    assert "HF_ENDPOINT" in str(caught.value)


def test_another_files_content_is_rejected_by_its_hash(hub: Hub, models: Path) -> None:
    hub.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(ConfigError, match=r"has sha256 [0-9a-f]{64}, not [0-9a-f]{64}"):
        fetch(models)
    assert not (models / PINNED.file).exists()
    assert (models / f"{PINNED.file}.rejected").read_bytes() == hub.content
    hub.content = CONTENT
    assert fetch(models).verified


def test_another_size_is_rejected_with_both_numbers(hub: Hub, models: Path) -> None:
    hub.content = CONTENT[:-5]
    with pytest.raises(ConfigError, match="is 23,999,995 bytes, not 24,000,000"):
        fetch(models)
    assert (models / f"{PINNED.file}.rejected").stat().st_size == 23_999_995


@pytest.mark.parametrize("status", [401, 404])
def test_the_copy_is_tried_where_the_repository_is_gone_or_closed(
    hub: Hub, models: Path, status: int
) -> None:
    hub.statuses["owner"] = status
    said: list[str] = []
    assert fetch(models, said=said).verified
    assert any(f"answered {status}" in line and "copy/archive" in line for line in said)
    assert "/copy/archive/resolve/main/" in hub.requests[-1][1]


@pytest.mark.parametrize(
    ("status", "advice"), [(404, "place the file at"), (401, "HF_TOKEN"), (503, "start again")]
)
def test_a_refusal_by_both_names_the_status_and_the_way_out(
    hub: Hub, models: Path, status: int, advice: str
) -> None:
    hub.statuses = {"owner": status, "copy": status}
    with pytest.raises(ConfigError, match=f"answered {status}") as caught:
        fetch(models)
    assert advice in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_refused_token_is_named_by_its_variable_and_never_shown(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_notARealToken0123456789"
    monkeypatch.setenv("HF_TOKEN", secret)
    hub.statuses = {"owner": 401, "copy": 401}
    said: list[str] = []
    with pytest.raises(ConfigError, match="unset HF_TOKEN") as caught:
        fetch(models, said=said)
    assert f"Bearer {secret}" in hub.authorizations
    assert secret not in "".join([str(caught.value), *said, *capfd.readouterr()])


def test_runpods_switch_to_a_missing_package_does_not_stop_the_download(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_ENABLE_HF_TRANSFER", "1")
    assert fetch(models).verified


def test_offline_is_said_before_anything_is_asked(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE=1 forbids fetching it"):
        fetch(models)
    assert hub.requests == []


def test_a_disk_with_too_little_room_is_refused_before_the_download(hub: Hub, models: Path) -> None:
    too_big = replace(PINNED, size=shutil.disk_usage(models.parent).free + 1)
    with pytest.raises(ConfigError, match=r"GB free, and the base model needs [\d,.]+ GB"):
        fetch(models, too_big)
    assert hub.requests == []


def test_two_runs_at_once_fetch_once(hub: Hub, models: Path) -> None:
    results: list[BaseModel] = []
    threads = [threading.Thread(target=lambda: results.append(fetch(models))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert len(hub.fetches()) == 1


def test_a_file_placed_by_hand_is_hashed_once(models: Path) -> None:
    models.mkdir()
    (models / PINNED.file).write_bytes(CONTENT)
    first: list[str] = []
    second: list[str] = []
    assert fetch(models, said=first).verified
    assert fetch(models, said=second).verified
    assert "verifying" in first[0]
    assert second == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [(CONTENT[:-1], "is 23,999,999 bytes"), (bytes(len(CONTENT)), "has sha256")],
)
def test_a_wrong_file_placed_by_hand_is_left_where_it_is(
    models: Path, content: bytes, problem: str
) -> None:
    models.mkdir()
    (models / PINNED.file).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{problem}.*move it away"):
        fetch(models)
    assert (models / PINNED.file).read_bytes() == content


def test_a_file_changed_after_it_was_verified_is_hashed_again(models: Path) -> None:
    models.mkdir()
    (models / PINNED.file).write_bytes(CONTENT)
    fetch(models)
    (models / PINNED.file).write_bytes(bytes(len(CONTENT)))
    with pytest.raises(ConfigError, match="has sha256"):
        fetch(models)


def test_the_facts_of_record_are_pinned() -> None:
    assert base_model.SD15.size == 4_265_146_304
    assert base_model.SD15.sha256.startswith("6ce01616")
    assert len(base_model.SD15.sha256) == 64
    assert len(base_model.SD15.revision) == 40


# Other answers in pretrained_model_name_or_path.


def checkpoint(path: Path, *names: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(4, np.float16) for name in names}, path)
    return path


SD15_NAMES = (
    "model.diffusion_model.out.2.bias",
    "first_stage_model.decoder.conv_in.bias",
    "cond_stage_model.transformer.text_model.final_layer_norm.bias",
)


def local(path: Path, tmp_path: Path) -> BaseModel:
    return resolve(str(path), models=tmp_path / "models", announce=lambda _: None)


def test_a_local_checkpoint_is_used_as_it_is(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "mine.safetensors", *SD15_NAMES)
    assert local(file, tmp_path) == BaseModel(path=str(file))


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("conditioner.embedders.0.x", "model.diffusion_model.x"), "Stable Diffusion XL"),
        (("cond_stage_model.model.ln_final.bias", *SD15_NAMES), "Stable Diffusion 2"),
        (("lora_unet_mid_block.alpha",), "no UNet"),
        (SD15_NAMES[:1], "no VAE"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(
    tmp_path: Path, names: tuple[str, ...], problem: str
) -> None:
    file = checkpoint(tmp_path / "other.safetensors", *names)
    with pytest.raises(ConfigError, match=f"other.safetensors: .*{problem}"):
        local(file, tmp_path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "cut.safetensors", *SD15_NAMES)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        local(file, tmp_path)


def diffusers_folder(folder: Path, kind: str = "StableDiffusionPipeline") -> Path:
    for part in ("unet", "text_encoder", "vae"):
        checkpoint(folder / part / "model.safetensors", "weight")
        (folder / part / "config.json").write_text("{}")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return folder


def test_a_diffusers_folder_is_used_as_it_is(tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "folder")
    assert local(folder, tmp_path) == BaseModel(path=str(folder))


def test_a_diffusers_folder_without_a_part_is_refused(tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "folder")
    shutil.rmtree(folder / "vae")
    with pytest.raises(ConfigError, match=r"folder/vae: no config\.json or no weights"):
        local(folder, tmp_path)


def test_a_diffusers_folder_of_sdxl_is_refused(tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "folder", "StableDiffusionXLPipeline")
    with pytest.raises(ConfigError, match="Stable Diffusion XL"):
        local(folder, tmp_path)


@pytest.mark.parametrize("name", ["picture.png", "empty.ckpt"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=f"{name}: not a base model"):
        local(tmp_path / name, tmp_path)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a diffusers folder"):
        local(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "wanted",
    [
        "runwayml/stable-diffusion-v1-5",
        "RunwayML/Stable-Diffusion-v1-5",
        "https://huggingface.co/runwayml/stable-diffusion-v1-5",
    ],
)
def test_the_removed_id_is_answered_with_what_to_write(wanted: str, models: Path) -> None:
    with pytest.raises(ConfigError, match="removed from the hub in August 2024") as caught:
        resolve(wanted, models=models, announce=print)
    line = 'pretrained_model_name_or_path = "stable-diffusion-v1-5/stable-diffusion-v1-5"'
    assert line in str(caught.value)


def test_another_hub_id_is_passed_through_and_said_to_be_unverified(models: Path) -> None:
    said: list[str] = []
    model = resolve("someone/their-model.v2", models=models, announce=said.append)
    assert model == BaseModel(path="someone/their-model.v2", hub=True)
    assert "verified" in said[0]


@pytest.mark.parametrize("wanted", ["", "nothing", "/no/such/place", "models/gone.safetensors"])
def test_what_is_neither_path_nor_id_is_refused_with_both_readings(
    wanted: str, models: Path
) -> None:
    with pytest.raises(ConfigError, match=r"neither a file or folder .* nor a hub id"):
        resolve(wanted, models=models, announce=print)


def test_a_workspace_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/models: cannot be written"):
        fetch(tmp_path / "file" / "models")


def test_the_module_loads_neither_torch_nor_the_hub() -> None:
    script = (
        "import sys, bespoke.base_model; "
        "print(sorted({'torch', 'huggingface_hub', 'safetensors', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# The tokenizer and the model of random weights.

COMPARE = """
import json, sys
from library.strategy_sd import SdTokenizeStrategy
from open_clip.tokenizer import SimpleTokenizer
import instant_clip_tokenizer
ours = SdTokenizeStrategy(v2=False, max_length=225, tokenizer_cache_dir=sys.argv[1])
clip, instant = SimpleTokenizer(), instant_clip_tokenizer.Tokenizer()
texts = json.load(sys.stdin)
print(json.dumps({
    "size": len(ours.tokenizer),
    "length": ours.tokenizer.model_max_length,
    "pad": ours.tokenizer.pad_token,
    "shape": list(ours.tokenize("x")[0].shape),
    "ids": [
        [ours.tokenizer(text).input_ids[1:-1], clip.encode(text), list(instant.encode(text))]
        for text in texts
    ],
}))
"""
ODD = [
    "",
    "  a  b\\t\\tc ",
    "Hello WORLD, it's we'll",
    "na\u00efve caf\u00e9",
    "\u65e5\u672c\u8a9e \u0416\u0417",
    "\U0001f469\u200d\U0001f3a4 punk \U0001f3a8",
    "#ff00aa, #FF00AA",
    "123 4567 a_b-c/d",
    "a\u00a0b",
]
# The trainer's tokenizer and open_clip's mend these with ftfy; instant_clip_tokenizer does not.
MENDED = [
    "&amp; &lt;b&gt;",
    "\u201ccurly\u201d",
    "it\u2019s",
    "\ufb01 ligature",
    "e\u0301 combined",
]


@pytest.mark.trainer
def test_the_trainers_own_tokenizer_reads_ours_as_clip_does(
    trainer_python: str, sd_scripts: Path, tmp_path: Path, real_pictures: Path
) -> None:
    captions = [file.read_text(encoding="utf-8") for file in sorted(real_pictures.glob("*.txt"))]
    done = subprocess.run(
        [trainer_python, "-c", COMPARE, str(base_model.tokenizer(tmp_path / "models"))],
        cwd=sd_scripts,
        input=json.dumps(captions + ODD + MENDED),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["size"], found["length"], found["pad"]) == (49_408, 77, "<|endoftext|>")
    assert found["shape"] == [1, 3, 77]
    assert len(captions) == 203
    same = len(captions) + len(ODD)
    for trainer, clip, instant in found["ids"][:same]:
        assert trainer == clip == instant
    for trainer, clip, instant in found["ids"][same:]:
        assert trainer == clip
        assert trainer != instant


@pytest.mark.trainer
def test_the_tokenizer_is_made_once_and_a_missing_file_is_made_again(
    trainer_python: str, tmp_path: Path
) -> None:
    folder = base_model.tokenizer(tmp_path) / "openai_clip-vit-large-patch14"
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    base_model.tokenizer(tmp_path)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert len(before) == 4
    (folder / "merges.txt").unlink()
    base_model.tokenizer(tmp_path)
    assert (folder / "merges.txt").stat().st_size > 500_000


LOAD = """
import argparse, json, sys, torch
from diffusers import StableDiffusionPipeline
from library import train_util
arguments = argparse.Namespace(pretrained_model_name_or_path=sys.argv[1], v2=False, vae=None)
text_encoder, vae, unet, single_file = train_util._load_target_model(arguments, torch.float32)
torch.manual_seed(0)
with torch.no_grad():
    hidden = text_encoder(torch.full((1, 77), 49407))[0]
    latents = vae.encode(torch.rand(1, 3, 64, 64) * 2 - 1).latent_dist.sample()
    noise = unet(latents * 0.18215, torch.tensor([500]), hidden)
    noise = noise[0] if isinstance(noise, tuple) else noise.sample
    picture = vae.decode(latents).sample
scales = [tensor.float().std().item() for tensor in (hidden, latents, noise, picture)]
pipeline = StableDiffusionPipeline.from_pretrained(sys.argv[1])
print(json.dumps({"scales": scales, "single": single_file,
    "millions": round(sum(p.numel() for p in unet.parameters()) / 1e6),
    "tokens": len(pipeline.tokenizer)}))
"""


@pytest.mark.trainer
def test_the_trainer_loads_the_random_model_and_every_part_gives_finite_numbers(
    trainer_python: str, sd_scripts: Path, random_model: Path
) -> None:
    done = subprocess.run(
        [trainer_python, "-c", LOAD, str(random_model)],
        cwd=sd_scripts,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["single"], found["millions"], found["tokens"]) == (False, 860, 49_408)
    assert all(0.001 < scale < 100 for scale in found["scales"])


def test_locating_writes_nothing_and_names_what_resolving_gives(models: Path) -> None:
    located = base_model.locate(PINNED.repository, models=models, pinned=PINNED)
    random = base_model.locate("random", models=models)
    assert not models.exists()
    models.mkdir()
    (models / PINNED.file).write_bytes(CONTENT)
    assert replace(located, verified=True) == fetch(models)
    assert random == BaseModel(path=str(models / "random-sd15"))


@pytest.mark.trainer
def test_providing_what_was_located_makes_the_tokenizer_too(
    random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "random-sd15").symlink_to(random_model)
    located = base_model.locate("random", models=tmp_path)
    assert base_model.provide(located, models=tmp_path, announce=print) == located
    folder = base_model.tokenizer_folder(tmp_path) / "openai_clip-vit-large-patch14"
    assert len(list(folder.iterdir())) == 4


@pytest.mark.trainer
def test_a_random_model_that_is_there_is_not_built_again(
    random_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "random-sd15").symlink_to(random_model)
    said: list[str] = []
    model = resolve("random", models=tmp_path, announce=said.append)
    assert model == BaseModel(path=str(tmp_path / "random-sd15"))
    assert said == []
