"""The report in a real browser; skipped where Debian's Chromium is not installed."""

from itertools import product

import pytest

from browsing import COLOURS, contrast, luminance
from factory import write_run
from family import few
from qwen2vl_rs.reporting.evidence import from_run
from qwen2vl_rs.reporting.page import write_report

pytestmark = pytest.mark.slow  # they start a browser

WIDTHS = (1280, 390)

# Colours of a text and of the nearest ground that is painted below it, by selector.


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    run = write_run(folder, images=12)
    return {
        lang: write_report(from_run(run), folder / lang, lang).html.as_uri()
        for lang in ("en", "zh")
    }


@pytest.fixture
def look(browser, pages):
    """Open a report; afterwards there must have been no error and no request but for the page."""
    opened, troubles = [], []

    def look(lang="en", width=1280, scheme="light", scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            java_script_enabled=scripts,
        )
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda said: troubles.append(said.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda r: r.url.startswith("data:") or r.url == pages[lang] or troubles.append(r.url),
        )
        page.goto(pages[lang])
        return page

    yield look
    for context in opened:
        context.close()
    assert not troubles


@pytest.mark.parametrize(("width", "lang"), few(product(WIDTHS, ("en", "zh")), 1, 2))
def test_nothing_is_wider_than_the_window(look, lang, width):
    page = look(lang, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # of boxes that scroll by themselves, only matrices may be wider than they show
    hidden = page.evaluate(
        "[...document.querySelectorAll('.table-box')].filter("
        "b => b.scrollWidth > b.clientWidth && !b.querySelector('.matrix')).length"
    )
    assert hidden == 0


@pytest.mark.parametrize("width", few(WIDTHS, 1))
def test_no_text_is_cut_or_broken_letter_by_letter(look, width):
    page = look(width=width)
    narrow = page.evaluate(
        "[...document.querySelectorAll('td, th, caption, .tiles li, .strip-name, .lead')].filter("
        "e => e.offsetParent && e.innerText.length > 3 && e.offsetWidth < 30 "
        "&& getComputedStyle(e.closest('thead') ?? e).clipPath === 'none').map(e => e.innerText)"
    )
    assert narrow == []


def test_tables_are_lists_on_a_phone(look):
    cell = "#types tbody td:nth-child(3)"
    wide, narrow = look(width=1280), look(width=390)
    assert wide.eval_on_selector(cell, "e => getComputedStyle(e).display") == "table-cell"
    assert wide.locator("#types thead th").first.is_visible()
    label = narrow.eval_on_selector(cell, "e => getComputedStyle(e, '::before').content")
    assert label == '"Before"'
    assert narrow.eval_on_selector(cell, "e => e.offsetWidth") > 80


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_language(look, lang):
    page = look(lang)
    assert page.title() == {"en": "Before and after: small", "zh": "前后对比：small"}[lang]
    assert page.locator("html").get_attribute("lang") == {"en": "en", "zh": "zh-CN"}[lang]
    verdict = page.locator(".verdict").inner_text()
    assert verdict.startswith({"en": "Fine-tuning raised OA", "zh": "微调使总体准确率"}[lang])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(look, scheme):
    page = look(scheme=scheme)
    seen = 0
    for selector in ("p", "h2", "small", "caption", "th", "nav a", ".word", ".sign", ".tick", "dt"):
        for text, ground in page.evaluate(COLOURS, selector):
            seen += 1
            assert contrast(text, ground) >= 4.5, (selector, text, ground)
    assert seen > 100
    ((_, ground),) = page.evaluate(COLOURS, "body")
    assert (luminance(ground) < 0.05) is (scheme == "dark")


def test_it_is_the_same_without_scripts(look):
    page = look(scripts=False)
    assert page.locator("section").count() == 10
    assert page.locator("article img").count() == page.locator("article").count() > 12
    page.locator("summary").click()
    assert page.locator("pre").is_visible()


def test_pictures_and_charts_are_drawn(look):
    page = look()
    sizes = page.eval_on_selector_all("article img", "all => all.map(e => e.naturalWidth)")
    assert set(sizes) == {56}
    boxes = page.eval_on_selector_all(
        ".plot .line, .strip .mark",
        "all => all.map(e => e.getBoundingClientRect()).map(b => Math.max(b.width, b.height))",
    )
    assert len(boxes) > 40
    assert min(boxes) > 0


def test_in_print_everything_is_on_paper(look):
    page = look(scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("nav").is_visible()
    assert page.locator("pre").is_visible()
    ((text, ground),) = page.evaluate(COLOURS, "body")
    assert (text[:3], ground[:3]) == ([0, 0, 0], [255, 255, 255])
    assert page.pdf(format="A4").startswith(b"%PDF")
