"""Write docs/img/report.jpg, README's picture, from the report of a demo.

    python docs/make_picture.py demo

Shows the key metrics and the first example of each question type from
``demo/output/demo/report.html``. Requires Chromium and playwright, as the browser tests do.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).with_name("img") / "report.jpg"
CASES = 4  # one per question type: the report takes them in turn
KEPT = f"""
const main = document.querySelector('main');
const tiles = document.querySelector('ul.tiles');
const cases = document.querySelector('.cases');
[...cases.children].slice({CASES}).forEach(one => one.remove());
main.replaceChildren(tiles, cases);
main.style.padding = '12px';
tiles.style.marginTop = '0';
"""


def main() -> None:
    """Write the picture."""
    report = Path(sys.argv[1]).resolve() / "output" / "demo" / "report.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 960, "height": 400}, color_scheme="light")
        page.goto(report.as_uri())
        page.evaluate(KEPT)
        shot = page.locator("main").screenshot()
        browser.close()
    Image.open(io.BytesIO(shot)).convert("RGB").save(PICTURE, quality=85, optimize=True)


if __name__ == "__main__":
    main()
