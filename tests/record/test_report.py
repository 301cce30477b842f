"""A run's page: what it says, what it never lets through, and how a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.report import NEXT, PROMPTS, sample
from bespoke.evaluation.gate import Decision
from bespoke.record import report
from bespoke.record.run_record import RunRecord
from bespoke.record.run_record import shown as shown_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from bespoke.evaluation.epoch_result import EpochResult

HOSTILE = (
    "</script><script>alert(1)</script>",
    "\"><img src=http://example.org/x onerror='alert(1)'>",
    "{{ 7*7 }}{% raw %}]]>--><svg/onload=alert(1)>",
    "line one\nline two\r\u202egnp.exe\u202c\u2066\x00\x1b[31m",
    "أمبر 'ltr' \u200f& &amp; \ud800",
)


class Outline(HTMLParser):
    """The tags in order with their attributes, and all text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.source = page.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(self.source)
        self.close()
        self.text = " ".join(self.text.partition("To the content")[2].split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def decoded(source: str | None) -> Image.Image:
    kind, data = str(source).split(",", 1)
    assert kind.startswith("data:image/")
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def run(workspace: Path) -> RunRecord:
    return sample(workspace)


@pytest.fixture(scope="module")
def page(run: RunRecord, workspace: Path) -> Path:
    folder = workspace / report.FOLDER
    report.publish([run], folder)
    return report.write(run, folder, next_steps=NEXT)


@pytest.fixture(scope="module")
def outline(page: Path) -> Outline:
    return Outline(page)


# --- What it says ---------------------------------------------------------------------------------


def test_verdict_and_gate_come_first_and_the_receipt_last(outline: Outline) -> None:
    wanted = (
        *("Best: epoch 8 (9.0 of 10).", "background right in 7 of 7 pictures", "INCONCLUSIVE"),
        *("Every epoch", "In numbers", "What next", "What differed from"),
        *("Known before the first step", "How it went", "Receipt"),
    )
    places = [outline.text.index(text) for text in wanted]
    assert places == sorted(places)


def test_every_picture_of_every_epoch_is_in_the_sheet(outline: Outline, run: RunRecord) -> None:
    images = outline.all("img")
    assert len(images) == len(PROMPTS) * (len(run.epochs) + 1)
    assert len({image["alt"] for image in images}) == len(images)
    assert (
        images[len(PROMPTS)]["alt"] == "Epoch 1, green_lady: background chestnut #8a503c, "
        "asked #00ff00, delta E 68: mismatch"
    )


def test_cells_stay_what_they_are_and_a_blurred_picture_stays_blurred(
    outline: Outline, run: RunRecord, workspace: Path
) -> None:
    first, last = outline.all("img")[len(PROMPTS)], outline.all("img")[-1]
    picture = run.epochs[-1].pictures[-1]
    with Image.open(workspace / run.epochs[-1].folder / picture.file) as drawn:
        cells = np.asarray(drawn.resize((24, 24), Image.Resampling.NEAREST))
    shown = np.asarray(decoded(last["src"]))
    assert np.array_equal(shown, cells.repeat(6, axis=0).repeat(6, axis=1))
    blurred = np.asarray(decoded(first["src"]).resize((24, 24), Image.Resampling.NEAREST))
    assert not np.array_equal(decoded(first["src"]), blurred.repeat(6, axis=0).repeat(6, axis=1))


def test_only_the_picture_that_was_measured_is_shown(run: RunRecord, tmp_path: Path) -> None:
    mine = sample(tmp_path, epochs=1)
    folder, pictures = tmp_path / mine.epochs[0].folder, list(mine.epochs[0].pictures)
    (folder / pictures[0].file).unlink()
    shutil.copy(folder / pictures[2].file, folder / pictures[1].file)
    torn = (folder / pictures[3].file).read_bytes()[:900]
    (folder / pictures[3].file).write_bytes(torn)
    pictures[3] = replace(pictures[3], sha256=hashlib.sha256(torn).hexdigest())
    epoch = replace(mine.epochs[0], pictures=tuple(pictures))
    shown = Outline(report.write(replace(mine, epochs=(epoch,)), tmp_path / "reports"))
    assert shown.text.count("no picture") == 6
    assert len(shown.all("img")) == 2 * (len(PROMPTS) - 3)


def test_the_page_holds_what_is_known(outline: Outline) -> None:
    for text in (
        "training.noise_offset 0.0 training_config.toml",
        "training.xformers False --set True",
        "training.console_log_simple True bespoke : plain lines in the log",
        # 95 + 10,890 + 640 s at 0.34 an hour.
        *("3:13:45", "$1.10", "standstill minutes 12", NEXT[0], NEXT[1]),
    ):
        assert text in outline.text


def test_the_checkpoint_to_take_is_named_with_its_ties(run: RunRecord, tmp_path: Path) -> None:
    first = run.epochs[7]
    tied = replace(run.epochs[9], scores=first.scores)
    best = replace(first, checkpoint="/w/output/x-000008.safetensors", checkpoint_sha256="ab" * 32)
    epochs = (*run.epochs[:7], best, run.epochs[8], tied)
    shown = Outline(report.write(replace(run, epochs=epochs), tmp_path / "reports")).text
    box = shown.partition("The checkpoint to take")[2].partition("Hypothesis")[0]
    for text in (best.checkpoint, "37.9 MB", "ab" * 32):
        assert text in box
    assert "Best: epoch 8 (9.0 of 10)." in shown


# --- What is concluded ----------------------------------------------------------------------------

STOP = Decision(epoch=4, outcome="STOP", reason="0 of 7", evidence={})


@pytest.mark.parametrize(
    ("facts", "tone", "text"),
    [
        ({}, "good", "Best: epoch 8 (9.0 of 10)."),
        ({"decisions": (STOP,)}, "bad", "The hypothesis failed at epoch 4."),
        ({"status": "failed"}, "bad", "Failed. Best: epoch 8 (9.0 of 10)."),
        ({"status": "in_progress", "epochs": ()}, "open", "In progress."),
    ],
)
def test_the_headline_says_how_it_went(
    run: RunRecord, facts: dict[str, Any], tone: str, text: str
) -> None:
    assert report.headline(replace(run, **facts)) == (tone, text)


def test_no_mean_is_called_acceptable_where_most_backgrounds_are_wrong(run: RunRecord) -> None:
    wrong = replace(run, epochs=(replace(run.epochs[0], scores=run.epochs[7].scores),))
    assert report.headline(wrong) == ("bad", "Best: epoch 1 (9.0 of 10).")
    assert report.verdict(wrong.epochs[0]) == "background wrong"


@pytest.mark.parametrize("name", ["Index", "../../etc/passwd", ".env", "", *HOSTILE])
def test_a_page_has_a_plain_name_of_its_own(name: str) -> None:
    made = report.page_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*-[0-9a-f]{8}\.html", made)
    assert report.page_name("keep_tokens-3.1") == "keep_tokens-3.1.html"
    assert report.page_name("a/b") != report.page_name("a b")


# --- What it never lets through -------------------------------------------------------------------


def hostile(run: RunRecord, text: str) -> RunRecord:
    """`run` with `text` wherever text comes from outside."""

    def spoilt(each: EpochResult) -> EpochResult:
        background = {"verdict": text, "colour": f"red;background:url(//{text})", "name": text}
        background["asked"] = {"hex": [f"#00ff00;background:url(//{text})"], "words": []}
        measured = {"background": {**background, "verdict": "mismatch"}, text: {text: 1.0}}
        pictures = (
            replace(each.pictures[0], prompt=text, text=text, measured=measured),
            *each.pictures[1:],
        )
        return replace(each, pictures=pictures)

    finding = {"code": text, "severity": "error", "file": text, "message": text}
    row = {"value": text, "from": "--set", "was": text, "was_from": text, "why": text}
    return replace(
        run,
        **dict.fromkeys(("name", "parent", "status", "ending", "started", "hypothesis"), text),
        starts={text: {text: 1.0}},
        expected=(text,),
        settings={text: row},
        preflight={"verdict": text, "findings": [finding]},
        facts={text: {text: text}},
        epochs=tuple(spoilt(each) for each in run.epochs[:2]),
        decisions=(Decision(epoch=4, outcome="GO", reason=text, evidence={text: text}),),
        curves={"loss": [(1, 0.1), (2, 0.2)]},
        interruptions=({"time": text, "event": text, text: text},),
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(
    run: RunRecord, workspace: Path, tmp_path: Path, text: str
) -> None:
    spoilt = hostile(run, text)
    folder = workspace / "hostile"
    page = report.write(spoilt, folder, next_steps=[text])
    index = report.publish([spoilt], folder, "another")[-1]
    for shown in (Outline(page), Outline(index)):
        assert not {"script", "iframe", "object", "base", "form"} & {tag for tag, _ in shown.tags}
        for tag, attributes in shown.tags:
            assert not [name for name in attributes if name.startswith("on")], tag
            assert "url(" not in str(attributes.get("style"))
            assert tag != "img" or str(attributes["src"]).startswith("data:image/")
        assert not re.search("[\u202a-\u202e\u200e\u200f\x00\x1b\r]", shown.source)
        seen = shown_text(text, kept="\n")
        assert " ".join(seen.split()) in shown.text


# --- In a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as play:
        # Chromium refuses to sandbox itself for root, which a container's user often is.
        started = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_is_whole_accessible_and_asks_for_nothing(
    browser: Browser, page: Path, run: RunRecord, width: int, scheme: Any
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    spoilt = report.write(hostile(run, "".join(HOSTILE[:3])), page.parent, next_steps=HOSTILE)
    for file in (page, page.with_name("index.html"), spoilt):
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        seen: list[Any] = []
        for event in ("console", "pageerror", "dialog", "request"):
            view.on(event, partial(seen.append))  # type: ignore[call-overload]
        view.goto(file.as_uri())
        own = (file.as_uri(), "data:image/")
        assert [each for each in seen if not getattr(each, "url", "").startswith(own)] == []
        assert view.evaluate("document.documentElement.scrollWidth") == width
        view.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
        assert view.evaluate("document.documentElement.scrollWidth") == width
        # A picture's cells are enlarged by whole numbers.
        sides = view.eval_on_selector_all("img", "all => all.map(one => one.clientWidth)")
        assert {side % 24 for side in sides} <= {0}
        found = Axe().run(view)
        assert found.violations_count == 0, found.generate_report()
        view.close()
