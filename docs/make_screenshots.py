"""Draws docs/pictures/*.png: pages of kinshot as a browser shows them, of runs on pictures that kinshot draws itself.

`python docs/make_screenshots.py [NAME...]` makes those of PAGES, or some of them. It needs Chromium and the package playwright.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

PICTURES = Path(__file__).parent / "pictures"
COLORS = 128
BROWSERS = ("chromium", "google-chrome", "chromium-browser", "chrome")


def run_report(place: Path) -> Image.Image:
    """The page of a short run on rendered letters: its beginning, and from the map on, side by side."""
    _kinshot(place, "ssl", "pretrain", "glyphs_demo", "data.variants=8", "--out", "letters", "-q")
    _kinshot(place, "ssl", "report", "letters", "--out", "page.html", "-q")
    return _two_columns(place / "page.html")


def _two_columns(file: Path) -> Image.Image:
    """The page of a run from its beginning, and from the map on, with a point chosen."""
    with opened(file, 1080) as page:
        page.locator(".map .k1 .dot").first.click(force=True)
        page.wait_for_timeout(800)
        page.evaluate("scrollTo(0, 0)")
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        second = int(page.evaluate("document.querySelector('#map').getBoundingClientRect().top")) - 12
    height = 1640
    columns = [whole.crop((0, top, whole.width, top + height)) for top in (0, second)]
    sheet = Image.new("RGB", (2 * whole.width, height))
    for number, column in enumerate(columns):
        sheet.paste(column, (number * whole.width, 0))
    return sheet.resize((sheet.width * 5 // 8, sheet.height * 5 // 8), Image.Resampling.LANCZOS)


PAGES: dict[str, Callable[[Path], Image.Image]] = {"run_report": run_report}
"""What makes each picture, in an empty folder."""


@contextmanager
def opened(page: Path | str, width: int, height: int = 900) -> Iterator[Any]:
    """A file, or an address of this machine, in a light window without frame."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as started:
        window = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = window.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        shown.goto(page.resolve().as_uri() if isinstance(page, Path) else page)
        yield shown
        window.close()


def _kinshot(place: Path, name: str, *args: str) -> None:
    subprocess.run([sys.executable, "-m", f"kinshot.cli.{name}", *args], cwd=place, check=True, stdout=subprocess.DEVNULL)


def main(names: list[str]) -> None:
    """Make the pictures of some pages, or of all."""
    PICTURES.mkdir(exist_ok=True)
    for name in names or list(PAGES):
        with tempfile.TemporaryDirectory() as place:
            picture = PAGES[name](Path(place))
        picture.quantize(COLORS, dither=Image.Dither.NONE).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
