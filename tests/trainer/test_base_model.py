"""The base model: which file is trained on, how it is fetched, what is refused."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bespoke.errors import ConfigError
from bespoke.trainer import base_model
from bespoke.trainer.base_model import TOKENIZER, BaseModel, locate, provide, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
CONTENT = np.random.default_rng(1).bytes(24_000_000)
HALF = 15_000_000
URL = f"/owner/model/resolve/{base_model.REVISION}/{base_model.FILE}"


class Hub(ThreadingHTTPServer):
    """As much of the hub as one file of two repositories needs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.requests: list[tuple[str, str | None]] = []
        self.content = CONTENT
        self.statuses = {"owner": 200, "copy": 200}
        self.cuts = 0
        self.gone_after_a_cut = False
        self.down = False
        self.authorizations: list[str | None] = []

    def starts(self) -> list[int]:
        """The first byte that each request asked for."""
        return [int((asked or "bytes=0-")[6:-1]) for _, asked in self.requests]


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        pass

    def do_HEAD(self) -> None:
        """What the hub says of a file before it is sent."""
        hub = self.server
        if hub.down:
            self.close_connection = True
            return
        hub.authorizations.append(self.headers.get("Authorization"))
        status = hub.statuses[self.path.split("/")[1]]
        self.send_response(status)
        self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
        self.send_header("ETag", f'"{hashlib.sha256(hub.content).hexdigest()}"')
        self.send_header("Content-Length", str(len(hub.content)))
        self.end_headers()

    def do_GET(self) -> None:
        hub = self.server
        if hub.down:
            self.close_connection = True
            return
        asked = self.headers.get("Range")
        hub.requests.append((self.path, asked))
        hub.authorizations.append(self.headers.get("Authorization"))
        status = hub.statuses[self.path.split("/")[1]]
        partial = status == 200
        body = hub.content[hub.starts()[-1] if partial else 0 :] if status == 200 else b""
        self.send_response(206 if partial else status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body)

    def _send(self, body: bytes) -> None:
        hub = self.server
        if hub.cuts > 0:
            hub.cuts -= 1
            hub.down = hub.gone_after_a_cut
            self.wfile.write(body[:HALF])
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    # Read when it is imported, and another test may have done so.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace's folder for models, and a smaller file in the place of the pinned one."""
    monkeypatch.setattr(base_model, "PINNED", "owner/model")
    monkeypatch.setattr(base_model, "COPIES", ("copy/archive", "old/model"))
    monkeypatch.setattr(base_model, "SIZE", len(CONTENT))
    monkeypatch.setattr(base_model, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    return tmp_path / "models"


def fetch(models: Path, said: list[str] | None = None) -> bytes:
    """What the file holds once it is there."""
    base_model.fetch(models, (said if said is not None else []).append)
    return (models / base_model.FILE).read_bytes()


def test_the_pinned_file_is_fetched_verified_and_once(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetch(models) == CONTENT
    assert hub.requests == [(URL, None)]
    said: list[str] = []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetch(models, said=said)
    assert len(hub.requests) == 1
    assert said == []


def test_a_download_that_breaks_off_is_resumed_by_itself_and_no_address_is_shown(
    hub: Hub, models: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.cuts = 1
    assert fetch(models) == CONTENT
    assert "http" not in "".join(capfd.readouterr())
    first, second = hub.starts()
    assert first == 0
    assert 0 < second <= HALF


def test_a_server_that_goes_away_is_one_line_and_what_came_is_kept(hub: Hub, models: Path) -> None:
    hub.cuts, hub.gone_after_a_cut = 1, True
    with pytest.raises(ConfigError, match=r"download failed: .*; check the network") as caught:
        fetch(models)
    assert "start again to resume" in str(caught.value)
    assert str(models / base_model.FILE) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    (part,) = models.glob(".cache/**/*.incomplete")
    kept = part.stat().st_size
    assert kept
    hub.down = False
    assert fetch(models) == CONTENT
    assert hub.starts() == [0, kept]


@pytest.mark.parametrize("content", [CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]), CONTENT[:-5]])
def test_another_files_content_is_refused(hub: Hub, models: Path, content: bytes) -> None:
    hub.content = content
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"not the file of 24,000,000 bytes .*; delete it"):
            fetch(models)
    assert len(hub.requests) == 1
    hub.content = CONTENT
    (models / base_model.FILE).unlink()
    assert fetch(models) == CONTENT


@pytest.mark.parametrize("status", [401, 404])
def test_the_copy_is_tried_where_the_repository_is_gone_or_closed(
    hub: Hub, models: Path, status: int
) -> None:
    hub.statuses["owner"] = status
    said: list[str] = []
    assert fetch(models, said=said) == CONTENT
    assert f"download failed: owner/model: HTTP {status}" in said
    assert "/copy/archive/resolve/main/" in hub.requests[-1][0]


def test_a_refused_token_is_named_by_its_variable_and_never_shown(
    hub: Hub, models: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_notARealToken0123456789"
    monkeypatch.setenv("HF_TOKEN", secret)
    hub.statuses = {"owner": 401, "copy": 401}
    said: list[str] = []
    with pytest.raises(ConfigError, match=r"HTTP 401; .*HF_TOKEN.*place the") as caught:
        fetch(models, said=said)
    assert f"Bearer {secret}" in hub.authorizations
    assert secret not in "".join([str(caught.value), *said, *capfd.readouterr()])


def test_a_file_placed_by_hand_is_hashed_once_and_again_where_it_changed(models: Path) -> None:
    models.mkdir()
    (models / base_model.FILE).write_bytes(CONTENT)
    said: list[str] = []
    fetch(models, said=said)
    fetch(models, said=said)
    assert len(said) == 1
    for content in (bytes(len(CONTENT)), b"x"):
        (models / base_model.FILE).write_bytes(content)
        with pytest.raises(ConfigError, match="delete it, and it is downloaded again"):
            fetch(models)
        assert (models / base_model.FILE).read_bytes() == content


def test_models_are_located_without_writing_anything(models: Path, tmp_path: Path) -> None:
    for name in ("OWNER/MODEL", *base_model.COPIES):
        pinned = locate(name, models=models)
        assert pinned == BaseModel(path=str(models / base_model.FILE), sha256=base_model.SHA256)
    assert locate("random", models=models) == BaseModel(path=str(models / "random-sd15"))
    assert locate(str(tmp_path), models=models) == BaseModel(path=str(tmp_path))
    assert not models.exists()


@pytest.mark.parametrize("wanted", ["", "nothing", "/no/such/place", "someone/their-model"])
def test_what_is_not_here_is_refused_with_what_to_write(wanted: str, models: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file or folder: .*; write the path"):
        locate(wanted, models=models)


# The tokenizer and the model of random weights.


COMPARE = """
from library.strategy_sd import SdTokenizeStrategy
from open_clip.tokenizer import SimpleTokenizer
import instant_clip_tokenizer
ours = SdTokenizeStrategy(v2=False, max_length=225, tokenizer_cache_dir=asked["tokenizer"])
clip, instant = SimpleTokenizer(), instant_clip_tokenizer.Tokenizer()
facts = [len(ours.tokenizer), ours.tokenizer.model_max_length, ours.tokenizer.pad_token]
shape = list(ours.tokenize("x")[0].shape)
answer = [facts, shape] + [
    [ours.tokenizer(text).input_ids[1:-1], clip.encode(text), list(instant.encode(text))]
    for text in asked["texts"]
]
"""
ODD = [
    "",
    "  a  b\\t\\tc ",
    "HELLO, it's we'll",
    "na\u00efve \u65e5\u672c \u0416",
    "\U0001f469\u200d\U0001f3a4",
    "#ff00aa, 12 a_b-c/d\u00a0e",
]
# The trainer's tokenizer and open_clip's mend these with ftfy; instant_clip_tokenizer does not.
MENDED = ["&amp; &lt;b&gt;", "\u201ccurly\u201d", "\ufb01 ligature", "e\u0301 combined"]


@pytest.mark.trainer
def test_the_trainers_own_tokenizer_reads_ours_as_clip_does(
    ask_trainer: Callable[[str, Any], Any], tmp_path: Path, drawn: Path
) -> None:
    captions = [file.read_text(encoding="utf-8") for file in sorted(drawn.glob("*.txt"))]
    write_tokenizer(tmp_path / TOKENIZER)
    asked = {"tokenizer": str(tmp_path), "texts": [*captions, *ODD, *MENDED]}
    facts, shape, *found = ask_trainer(COMPARE, asked)
    assert facts == [49_408, 77, "<|endoftext|>"]
    assert shape == [1, 3, 77]
    assert len(captions) == 203
    for trainer, clip, instant in found[: -len(MENDED)]:
        assert trainer == clip == instant
    for trainer, clip, instant in found[-len(MENDED) :]:
        assert trainer == clip
        assert trainer != instant


@pytest.mark.trainer
def test_providing_makes_the_tokenizer_once_and_leaves_a_whole_random_model_alone(
    random_model: Path, models: Path
) -> None:
    models.mkdir()
    (models / "random-sd15").symlink_to(random_model)
    said: list[str] = []
    located = locate("random", models=models)
    assert provide(located, models=models, announce=said.append) == located
    assert said == []
    folder = base_model.tokenizer_folder(models) / TOKENIZER
    before = (folder / "vocab.json").stat().st_mtime_ns
    provide(located, models=models, announce=said.append)
    assert (folder / "vocab.json").stat().st_mtime_ns == before


def test_a_random_model_that_cannot_be_built_says_why(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.mkdir()
    (models / "torch.py").write_text("raise ImportError('no torch here')")
    monkeypatch.setenv("PYTHONPATH", str(models))
    with pytest.raises(ConfigError, match=r"could not be built \(.*\); it needs the trainer"):
        base_model.random_sd15(models / "random-sd15", print)
    assert not (models / "random-sd15").exists()
