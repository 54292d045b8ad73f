"""The page of the server in a real browser; skipped where Debian's Chromium is not installed."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio

from browsing import COLOURS, contrast, luminance
from family import few
from qwen2vl_rs.predict.session import Session
from serving import Held, metric, serving, until

pytestmark = pytest.mark.slow  # they start a browser

WIDTHS = (1280, 390)
SHOTS = os.environ.get("QWEN2VL_RS_SHOTS")  # a folder for screenshots, to look at
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = DATA / "rsvqa-lr" / "Images_LR" / "102.tif"
QUESTIONS = ["Is there a road?", "How many roads are there?", "What do you see?"]


@pytest.fixture(scope="module")
def engine(trained):
    return Held(Session.open(Path(trained[0]) / "output" / "Qwen2-VL-2B"))


@pytest.fixture(scope="module")
def server(engine):
    with serving(engine, name="small-run") as server:
        yield server


@pytest.fixture(scope="module")
def geotiff(tmp_path_factory):
    """A scene of 16 bits and four bands, as satellites deliver them."""
    path = tmp_path_factory.mktemp("scene") / "scene 16.tif"
    rows, columns = np.mgrid[0:160, 0:200]
    river = np.abs(columns - 90 - 30 * np.sin(rows / 30)) < 9
    fields = 900 + 700 * ((rows // 40 + columns // 50) % 3) + (rows * 7 + columns * 13) % 90
    bands = [np.where(river, low, fields * share) for low, share in
             ((300, 1.0), (420, 1.3), (700, 0.7), (150, 2.2))]  # fmt: skip
    with rasterio.open(
        path, "w", driver="GTiff", width=200, height=160, count=4, dtype="uint16",
        crs="EPSG:32631", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 4e6),
    ) as file:  # fmt: skip
        file.write(np.stack(bands).astype(np.uint16))
    return path


@pytest.fixture
def visit(browser, server):
    """Open the page; afterwards there must have been no error and no request to elsewhere."""
    opened, troubles = [], []

    def visit(url=server.url, width=1280, scheme="light", locale="en-US", touch=False, expected=()):
        context = browser.new_context(
            viewport={"width": width, "height": 900 if width > 500 else 780},
            color_scheme=scheme, locale=locale, has_touch=touch, is_mobile=touch,
        )  # fmt: skip
        opened.append(context)
        page = context.new_page()
        page.on(
            "console",
            lambda said: any(e in said.text for e in expected) or troubles.append(said.text),
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda r: r.url.startswith(("data:", "blob:", url)) or troubles.append(r.url),
        )
        page.goto(url)
        page.locator("#language").wait_for()
        return page

    yield visit
    for context in opened:
        context.close()
    assert not troubles


def drop(page, path, name=None):
    """Drop a file on the page, as from a file manager."""
    import base64

    data = page.evaluate_handle(
        """([text, name]) => {
          const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], name));
          return data;
        }""",
        [base64.b64encode(path.read_bytes()).decode(), name or path.name],
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": data})
    page.dispatch_event("body", "drop", {"dataTransfer": data})


def shot(page, name):
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def asked(page, questions):
    """Ask and wait for the answers, as (question, text by side)."""
    page.fill("#questions", "\n".join(questions))
    page.click("#ask")
    page.locator(".card").nth(len(questions) - 1).wait_for()
    page.locator("#spin").wait_for(state="hidden")
    rows = page.locator(".card").all()
    return [
        (
            row.locator(".question").evaluate("e => e.firstChild.textContent"),
            [e.inner_text() for e in row.locator(".said").all()],
        )
        for row in rows
    ]


@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    few(
        [
            (1280, "light", "en-US"),
            (1280, "dark", "zh-CN"),
            (390, "dark", "en-US"),
            (390, "light", "zh-CN"),
        ],
        0,
        3,
    ),
)
def test_drop_ask_and_compare(visit, geotiff, width, scheme, locale):
    page = visit(width=width, scheme=scheme, locale=locale, touch=width < 500)
    look = f"{width}-{scheme}-{locale[:2]}"
    shot(page, f"{look}-1-empty")
    drop(page, geotiff)
    page.locator("#seen").wait_for()
    assert page.locator("#facts").inner_text() == "scene 16.tif · 200 × 160 px"
    assert page.locator("#picture").evaluate("e => e.decode().then(() => e.naturalWidth)") == 200
    rows = asked(page, QUESTIONS)
    assert [question for question, _ in rows] == QUESTIONS
    assert all(len(texts) == 2 for _, texts in rows)
    names = page.locator(".card").first.locator(".who").all_inner_texts()
    assert names == {"en": ["fine-tuned", "base model"], "zh": ["微调后", "基座模型"]}[locale[:2]]
    assert rows[0][1][0] in ("yes", "no")
    bars = page.eval_on_selector_all(".bar i", "all => all.map(e => e.offsetWidth)")
    assert len(bars) == 6
    assert max(bars) > 20
    different = [len({t.lower() for t in texts}) > 1 for _, texts in rows]
    assert any(different), "base and fine-tuned say the same to everything"
    marked = [row.locator(".differs").count() == 1 for row in page.locator(".card").all()]
    assert marked == different
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shot(page, f"{look}-2-answers")
    page.locator("#part").click()
    shot(page, f"{look}-3-part")


@pytest.mark.skipif(not REAL.is_file(), reason="no real tiles beside the checkout")
def test_a_real_tile(visit):
    page = visit()
    drop(page, REAL)
    page.locator("#seen").wait_for()
    assert page.locator("#facts").inner_text() == f"{REAL.name} · 256 × 256 px"
    assert len(asked(page, QUESTIONS)) == 3
    shot(page, "1280-real")


@pytest.mark.parametrize("width", few(WIDTHS, 1))
def test_a_text_file_named_tif_is_told_readably(visit, tmp_path, width):
    page = visit(width=width, expected=["400"])
    path = tmp_path / "notes.tif"
    path.write_text("no image at all\n")
    drop(page, path)
    error = page.locator("#error .error")
    error.wait_for()
    text = error.inner_text()
    assert text.split("\n")[0] == "This file is not a readable image"
    assert "\nnotes.tif: not an image of a known format" in text
    assert "TIFF, PNG" in text
    assert page.locator("#drop").is_visible()
    shot(page, f"{width}-error")
    page.locator("#language").click()
    assert error.inner_text().startswith("此文件不是可读取的影像")


def test_a_box_is_drawn_and_asked_about(visit, engine, geotiff):
    page = visit()
    drop(page, geotiff)
    page.locator("#seen").wait_for()
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + stage["width"] * 0.25, stage["y"] + stage["height"] * 0.25)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] * 0.6, stage["y"] + stage["height"] * 0.5)
    page.mouse.move(stage["x"] + stage["width"] * 0.75, stage["y"] + stage["height"] * 0.75)
    page.mouse.up()
    edges = [
        int(page.locator(f"#edge-{e}").input_value()) for e in ("left", "top", "right", "bottom")
    ]
    assert edges == pytest.approx([50, 40, 150, 120], abs=2)
    boxed = asked(page, ["What do you see?"])
    page.locator("#edge-left").fill("0")  # by keyboard
    assert page.locator("#box").evaluate("e => e.style.left") == "0%"
    page.locator("#part").click()
    assert not page.locator("#box").is_visible()
    assert "about the part 0–" not in page.locator("#answers h2").inner_text()
    assert "about the part" in page.locator("#answers h2").inner_text()
    whole = asked(page, ["What do you see?"])
    page.wait_for_function("!document.querySelector('#answers h2 small')")
    assert boxed[0][0] == whole[0][0]
    assert page.locator("#history li").count() == 2
    assert "a part of the image" in page.locator("#history li").nth(1).inner_text()


def test_a_finger_scrolls_until_a_part_is_wanted(visit, geotiff):
    page = visit(width=390, touch=True)
    drop(page, geotiff)
    page.locator("#seen").wait_for()
    assert page.locator("#stage").evaluate("e => getComputedStyle(e).touchAction") == "auto"
    page.locator("#part").tap()
    assert page.locator("#stage").evaluate("e => getComputedStyle(e).touchAction") == "none"
    assert page.locator("#box").is_visible()


def test_by_keyboard_alone(visit, geotiff):
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "language"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    page.locator("#file").set_input_files(geotiff)
    page.locator("#seen").wait_for()
    page.wait_for_function("document.activeElement.id === 'questions'")
    page.keyboard.type("Is there a road?")
    page.keyboard.press("Enter")
    page.keyboard.type("How many roads are there?")
    page.keyboard.press("Control+Enter")
    page.locator(".card").nth(1).wait_for()


def test_history_brings_back_image_and_answers(visit, geotiff, tmp_path):
    other = tmp_path / "other.png"
    from PIL import Image

    Image.new("RGB", (80, 60), "green").save(other)
    page = visit()
    drop(page, geotiff)
    page.locator("#seen").wait_for()
    first = asked(page, QUESTIONS)
    drop(page, other)
    page.get_by_text("other.png · 80 × 60 px").wait_for()
    assert not page.locator("#answers").is_visible()
    asked(page, QUESTIONS[:1])
    items = page.locator("#history button")
    assert items.count() == 2
    items.nth(1).click()
    assert page.locator("#facts").inner_text().startswith("scene 16.tif")
    assert page.locator(".card").count() == 3
    assert page.locator(".card .said").first.inner_text() == first[0][1][0]
    shot(page, "1280-history")


def test_stopping_frees_the_place(visit, engine, server, geotiff):
    page = visit()
    drop(page, geotiff)
    page.locator("#seen").wait_for()
    withdrawn = metric(server, "withdrawn_total")
    with engine.shut():
        page.fill("#questions", "What?")
        page.click("#ask")
        assert engine.entered.wait(20)
        until(lambda: metric(server, "waiting") == 1)  # the base's turn
        shot(page, "1280-busy")
        page.click("#stop")
        until(lambda: metric(server, "withdrawn_total") == withdrawn + 1)
    page.locator("#spin").wait_for(state="hidden")
    assert page.locator("#error .error").count() == 0


def test_contrast(visit, geotiff):
    page = visit()
    drop(page, geotiff)
    page.locator("#seen").wait_for()
    asked(page, QUESTIONS)
    selectors = (
        *(".question", ".said", ".who", ".percent", "h2", ".key", ".plain", ".main", "#facts"),
        *(".chips button", ".label small", "footer", ".differs", ".what", ".what small"),
    )
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        seen = 0
        for selector in selectors:
            for text, ground in page.evaluate(COLOURS, selector):
                seen += 1
                assert contrast(text, ground) >= 4.5, (selector, text, ground)
        assert seen > 30
        ((_, ground),) = page.evaluate(COLOURS, "body")
        assert (luminance(ground) < 0.05) is (scheme == "dark")


def test_a_token_is_asked_for_and_kept(visit, engine):
    with serving(engine, token="secret") as server:
        page = visit(server.url, expected=["401"])
        page.locator("#token").wait_for()
        assert not page.locator("#main").is_visible()
        page.fill("#token", "wrong")
        page.click("#door button")
        page.get_by_text("The token is wrong").wait_for(state="attached")
        page.locator("#token").wait_for()
        page.fill("#token", "secret")
        page.click("#door button")
        page.locator("#main").wait_for()
        page.get_by_text("small", exact=True).wait_for()
        shot(page, "1280-token")
        page.reload()
        page.get_by_text("small", exact=True).wait_for()
        assert page.locator("#main").is_visible()
