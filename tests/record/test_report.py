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
from bespoke.record import pictures, report
from bespoke.record.run_record import RunRecord
from bespoke.record.run_record import shown as shown_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

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
        self.scripts: list[str] = []
        self.feed(self.source)
        self.close()
        self.text = " ".join(self.text.partition("To the content")[2].split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.scripts += [data] if self.tags[-1][0] == "script" and data.strip() else []
        else:
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
        *("The checkpoint to take", "What next", "Hypothesis: Keeping the first three tags"),
        *("Every epoch", "In numbers", "What differed from"),
        *("Known before the first step", "How it went", "Receipt"),
    )
    places = [outline.text.index(text) for text in wanted]
    assert places == sorted(places)


def test_every_picture_of_every_epoch_is_in_the_sheet(outline: Outline, run: RunRecord) -> None:
    images = [each for each in outline.all("img") if each.get("class") != "original"]
    assert len(images) == len(PROMPTS) * (len(run.epochs) + 1)
    assert len({image["alt"] for image in images}) == len(images)
    assert (
        images[len(PROMPTS)]["alt"] == "Epoch 1, green_lady: background chestnut #8a503c, "
        "asked #00ff00, delta E 68: mismatch"
    )


@pytest.mark.parametrize("epoch", [1, 2, 9])
def test_a_picture_keeps_its_own_pixels(run: RunRecord, workspace: Path, epoch: int) -> None:
    """Those of the second epoch are blurred: more than is kept to the last bit, and full colour."""
    picture = run.epochs[epoch].pictures[-1]
    file = workspace / run.epochs[epoch].folder / picture.file
    shown = pictures.drawn(file, picture.sha256)
    assert shown is not None
    with Image.open(file) as drawn:
        off = np.abs(np.asarray(decoded(shown.uri)).astype(int) - np.asarray(drawn))
    assert off.max() <= (0 if epoch > 1 else 6)


def test_noise_stays_noise_and_takes_little(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(128, 20, (512, 512, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    digest = hashlib.sha256((tmp_path / "noise.png").read_bytes()).hexdigest()
    shown = pictures.drawn(tmp_path / "noise.png", digest)
    assert shown is not None
    assert len(shown.uri) < 300_000
    assert np.asarray(decoded(shown.uri)).std() > 15


def test_the_original_that_is_nearest_stands_beside_each_picture(
    outline: Outline, run: RunRecord, workspace: Path
) -> None:
    assert len([each for each in outline.all("img") if each.get("class") == "original"]) == 70
    copied = workspace / "training_data" / "lad_004.png"
    picture = pictures.drawn(copied, hashlib.sha256(copied.read_bytes()).hexdigest())
    originals = pictures.originals(tuple(run.facts["collections"]))
    assert picture is not None
    near = pictures.nearest(picture, originals)
    assert (near[0].name, near[1]) == ("lad_004", 0.0)
    assert pictures.originals((str(workspace / "gone"),)) == ()


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
    images = [each for each in shown.all("img") if each.get("class") != "original"]
    assert len(images) == 2 * (len(PROMPTS) - 3)


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
    best = replace(first, checkpoint="/my out/x-000008.safetensors", checkpoint_sha256="ab" * 32)
    epochs = (*run.epochs[:7], best, run.epochs[8], tied)
    shown = Outline(report.write(replace(run, epochs=epochs), tmp_path / "reports")).text
    box = shown.partition("The checkpoint to take")[2].partition("Hypothesis")[0]
    copied = f"cp '{best.checkpoint}' ."
    for text in (best.checkpoint, "37.9 MB", "ab" * 32, "by the scores: epoch 10", copied):
        assert text in box


def test_epochs_of_the_same_pictures_are_one_row_and_the_base_model_comes_first(
    run: RunRecord, tmp_path: Path
) -> None:
    def epoch(number: int, like: int) -> EpochResult:
        return replace(run.epochs[like], epoch=number)

    epochs = (epoch(1, 0), epoch(2, 4), epoch(3, 4), epoch(4, 4), epoch(5, 5), epoch(0, 0))
    shown = Outline(report.write(replace(run, epochs=epochs), tmp_path / "reports")).text
    sheet = shown.partition("Every epoch")[2]
    names = re.findall(r"(Before training|Epoch \d) \d\.\d", sheet)
    assert names == ["Before training", "Epoch 1", "Epoch 2", "Epoch 5"]
    assert "right in 7 of 7 pictures, before training in 0; right in most prompts" in shown
    assert "Epochs 3–4 drew the same pictures" in sheet


def test_what_pulled_an_epoch_down_is_said(outline: Outline) -> None:
    assert "What pulled it down face unlike the collection (7 of 7)" in outline.text
    assert "✗ hair, eyes" in outline.text


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


@pytest.mark.parametrize(
    ("expected", "epochs", "answer"),
    [
        ("green background by epoch 3 to 4", 3, None),
        ("green background by epoch 3 to 4", 10, False),
        ("green background by epoch 5", 5, True),
        ("8 or more of 10 by epoch 7", 10, True),
        ("8.5 or more of 10 by epoch 7", 10, False),
        ("best epoch later than 7", 10, True),
        ("best epoch later than 8", 10, False),
        ("best epoch later than 8", 9, None),
        ("no oscillation between epochs", 10, True),
        ("no oscillation between epochs", 9, None),
        ("style match not down", 10, None),
        ("green background by epoch 4", 0, None),
    ],
)
def test_an_expectation_is_met_or_not_or_open(
    run: RunRecord, expected: str, epochs: int, answer: bool | None
) -> None:
    status = "completed" if epochs == 10 else "in_progress"
    so_far = replace(run, epochs=run.epochs[:epochs], status=status)
    assert report.met(expected, so_far) is answer


def test_a_background_that_is_lost_again_oscillates(run: RunRecord) -> None:
    lost = replace(run, epochs=(*run.epochs[:6], replace(run.epochs[1], epoch=7)))
    assert report.met("no oscillation between epochs", lost) is False


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
        background["asked"] = {"hex": [f"#00ff00;background:url(//{text})"], "words": [text]}
        wrong = {**background, "verdict": "mismatch"}
        measured = {"background": wrong, "features": {text: wrong}, text: {text: 1.0}}
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
        assert not {"iframe", "object", "base", "form"} & {tag for tag, _ in shown.tags}
        assert shown.scripts == [(report.TEMPLATES / "page.js").read_text()]
        assert len(shown.all("script")) == 1
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


def opened(browser: Browser, file: Path, width: int, scheme: Any) -> tuple[Page, list[Any]]:
    """The page in a window, and whatever it complains of or asks for from elsewhere."""
    view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    wrong: list[Any] = []
    for event in ("console", "pageerror", "dialog"):
        view.on(event, partial(wrong.append))  # type: ignore[call-overload]
    own = (file.as_uri(), "data:image/")
    view.on("request", lambda asked: asked.url.startswith(own) or wrong.append(asked.url))
    view.goto(file.as_uri())
    return view, wrong


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_is_whole_accessible_and_asks_for_nothing(
    browser: Browser, page: Path, run: RunRecord, width: int, scheme: Any
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    spoilt = report.write(hostile(run, "".join(HOSTILE[:3])), page.parent, next_steps=HOSTILE)
    for file in (page, page.with_name("index.html"), spoilt):
        view, wrong = opened(browser, file, width, scheme)
        assert wrong == []
        assert view.evaluate("document.documentElement.scrollWidth") == width
        view.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
        assert view.evaluate("document.documentElement.scrollWidth") == width
        # A picture's cells are enlarged by whole numbers.
        sides = view.eval_on_selector_all("img", "all => all.map(one => one.clientWidth)")
        assert {side % 24 for side in sides} <= {0}
        found = Axe().run(view)
        assert found.violations_count == 0, found.generate_report()
        view.close()


# --- At work in a browser -------------------------------------------------------------------------


def test_a_picture_opens_by_key_to_whole_cells_and_to_its_own_pixels(
    browser: Browser, page: Path
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for width, scheme in ((390, "light"), (1280, "dark")):
        view, wrong = opened(browser, page, width, scheme)
        view.focus("#e1c3")
        view.keyboard.press("Enter")
        assert view.inner_text("#viewer-title") == "blue lad seed 42"
        sides = "all => all.filter(one => one.offsetWidth).map(one => one.offsetWidth)"
        whole = view.eval_on_selector_all("#viewer img", sides)
        assert len(whole) == 2  # and the original beside it
        assert all(side % 24 == 0 and side > width / 3 for side in whole)
        view.keyboard.press("ArrowRight")
        assert view.inner_text("#viewer-epoch-name") == "Epoch 2"
        assert "Epoch 2, blue_lad" in view.inner_text("#viewer-words")
        assert "face unlike the collection" in view.inner_text("#viewer-words")
        view.check("#viewer-real")
        assert view.eval_on_selector_all("#viewer-stack img", sides) == [512]
        assert view.evaluate("document.documentElement.scrollWidth") == width
        found = Axe().run(view)
        assert found.violations_count == 0, found.generate_report()
        view.keyboard.press("Escape")
        assert not view.is_visible("#viewer")
        assert view.evaluate("document.activeElement.id") == "e1c3"
        view.click(".heroes a >> nth=2")
        assert view.inner_text("#viewer-epoch-name") == "Epoch 8"
        assert wrong == []
        view.close()


def test_two_epochs_are_compared_under_a_slider(browser: Browser, page: Path) -> None:
    view, wrong = opened(browser, page, 1280, "light")
    view.check("#only-2", force=True)
    view.click("#compare")
    assert view.inner_text("#viewer-title") == "blue lady seed 42"
    assert view.input_value("#viewer-other") == "Epoch 8"  # the best
    sources = view.eval_on_selector_all("#viewer-stack img", "all => all.map(one => one.src)")
    assert sources == [view.get_attribute(f"#e{epoch}c2 img", "src") for epoch in (1, 8)]
    cut = "getComputedStyle(document.querySelector('#viewer-stack img + img')).clipPath"
    assert view.evaluate(cut) == "inset(0px 0px 0px 50%)"
    view.focus("#viewer-divider")
    view.keyboard.press("ArrowRight")
    assert view.evaluate(cut) == "inset(0px 0px 0px 51%)"
    box = view.locator("#viewer-stack").bounding_box()
    assert box is not None
    view.mouse.move(box["x"] + 10, box["y"] + 50)
    view.mouse.down()
    view.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50, steps=3)
    assert view.evaluate(cut) == "inset(0px 0px 0px 25%)"
    view.select_option("#viewer-other", "nothing")
    assert not view.is_visible("#viewer-divider")
    assert wrong == []
    view.close()


@pytest.mark.parametrize("script", [True, False])
def test_the_sheet_shows_one_prompt_with_and_without_the_script(
    browser: Browser, page: Path, *, script: bool
) -> None:
    view = browser.new_page(java_script_enabled=script)
    view.goto(page.as_uri())
    view.focus("#only-all")
    view.keyboard.press("ArrowRight")
    view.keyboard.press("ArrowRight")
    shown = view.locator(".open:visible")
    assert [each.get_attribute("id") for each in shown.all()] == [f"e{n}c1" for n in range(1, 11)]
    assert (view.locator("button:visible").count() > 0) is script
    link = view.locator("#e10c1").get_attribute("href")
    assert link is not None
    assert (page.parent / link).resolve().is_file()
    view.close()


def test_a_command_is_copied(browser: Browser, page: Path) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    view = context.new_page()
    view.goto(page.as_uri())
    view.click("[data-copies=copy-here]")
    view.get_by_text("Copied").wait_for()
    copied = view.evaluate("navigator.clipboard.readText()")
    assert copied == "cp /workspace/output/keep_tokens_3-000008.safetensors ."
    context.close()


def going_on(run: RunRecord, folder: Path, epochs: int) -> Path:
    so_far = replace(run, status="in_progress", epochs=run.epochs[:epochs], decisions=())
    return report.write(so_far, folder)


def test_the_page_of_a_run_that_goes_on_opens_again_where_the_reader_was(
    browser: Browser, run: RunRecord, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "AGAIN_S", 1)
    folder = workspace / "going on"
    view, wrong = opened(browser, going_on(run, folder, 3), 1280, "light")
    view.check("#only-1", force=True)
    view.click("text=Code, data and machine")
    view.focus("#e2c1")
    view.keyboard.press("Enter")
    view.select_option("#viewer-other", "Epoch 3")
    view.fill("#viewer-divider", "30")
    going_on(run, folder, 4)
    view.wait_for_selector("#row-4", state="attached")
    view.wait_for_load_state()
    assert view.inner_text("#viewer-epoch-name") == "Epoch 2"
    assert view.input_value("#viewer-other") == "Epoch 3"
    assert view.input_value("#viewer-divider") == "30"
    view.keyboard.press("Escape")
    assert view.evaluate("document.activeElement.id") == "e2c1"
    top = "document.getElementById('row-3').getBoundingClientRect().top"
    view.evaluate("document.getElementById('row-3').scrollIntoView()")
    before = view.evaluate(top)
    # The last one has more above the sheet.
    ended = report.write(replace(run, epochs=run.epochs[:5]), folder)
    view.wait_for_selector("#row-5", state="attached")
    view.wait_for_load_state()
    assert view.evaluate(top) == pytest.approx(before, abs=2)
    assert view.is_checked("#only-1")
    assert view.locator("details[open]").count() == 1
    assert not re.search("refresh=|equiv=.refresh", ended.read_text())
    assert wrong == []
    view.close()


def test_it_opens_again_without_the_script_too(
    browser: Browser, run: RunRecord, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "AGAIN_S", 1)
    view = browser.new_page(java_script_enabled=False)
    view.goto(going_on(run, workspace / "no script", 1).as_uri())
    going_on(run, workspace / "no script", 2)
    view.wait_for_selector("#row-2")
    view.close()
