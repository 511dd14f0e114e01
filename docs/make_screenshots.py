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
LETTERS = {"omega": "Ω", "zhe": "Ж", "shin": "ש", "ayb": "Ա"}
PAPERS = ((250, 244, 230), (232, 241, 250), (236, 247, 236), (252, 236, 234), (242, 238, 250), (255, 250, 214))
INKS = ((32, 44, 92), (120, 28, 44), (20, 90, 80), (86, 44, 120), (30, 30, 34), (160, 74, 10))
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
    small = sheet.resize((sheet.width * 5 // 8, sheet.height * 5 // 8), Image.Resampling.LANCZOS)
    return small.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)  # which keeps the colours of a few small points


def studio(place: Path) -> Image.Image:
    """`fewshot studio` after four letters were taught and one was asked about."""
    from kinshot.studio.serve import serving
    from kinshot.studio.state import Studio

    files = _letter_files(place, 8)
    with serving(Studio(place / "letters.kin", device="cpu"), 0) as served, opened(served.url, 1280, 1010, scale=1.5) as page:
        for name, images in files.items():
            page.get_by_label("Name of a class").fill(name)
            page.locator("#teach-files").set_input_files(images[:7])
            page.get_by_role("heading", name=f"{name}7 images").wait_for()
        page.locator("#ask-files").set_input_files([files["zhe"][7]])
        page.get_by_role("article").wait_for()
        page.locator("canvas.blank").first.wait_for(state="detached")
        page.locator("#status:empty").wait_for(state="attached")  # the last message has gone
        page.evaluate("document.activeElement.blur()")
        return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def search(place: Path) -> Image.Image:
    """The page of `ssl search` in a folder of four printed letters: a picture of three of them that the index does not have."""
    (place / "letters").mkdir()
    asked = []
    for files in _letter_files(place / "letters", 8).values():
        asked.append(str(files[7].rename(place / files[7].name)))
    _kinshot(place, "ssl", "index", "letters", "--out", "letters.index", "-q")
    _kinshot(place, "ssl", "search", "letters.index", *asked[:3], "--top", "5", "--report", "page.html", "-q")
    with opened(place / "page.html", 1040, 980, scale=1.5) as page:
        return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def _letter_files(place: Path, count: int) -> dict[str, list[Path]]:
    """Pictures of each letter, in a folder of its name."""
    files: dict[str, list[Path]] = {}
    for name, letter in LETTERS.items():
        (place / name).mkdir()
        files[name] = [place / name / f"{name} {number + 1}.png" for number in range(count)]
        for file, picture in zip(files[name], _printed(name, letter, count), strict=True):
            picture.save(file)
    return files


def _printed(name: str, letter: str, count: int, size: int = 160) -> list[Image.Image]:
    """A letter in several faces and poses, printed in colours on coloured paper."""
    import numpy as np

    from kinshot.core.rng import keyed_numpy
    from kinshot.datasets.glyph_faces import SCRIPTS, characters
    from kinshot.datasets.glyphs import render

    (found,) = [one for split in SCRIPTS for one in characters(split) if one.code == ord(letter)]
    pictures = []
    for number, ink in enumerate(render([found], size, count)[:, 0].astype(np.float64) / 255):
        rng = keyed_numpy(0, f"the letter {name} in print", number)
        paper, colour = (np.array(choices[rng.integers(len(choices))], dtype=np.float64) for choices in (PAPERS, INKS))
        pictures.append(Image.fromarray((paper + (colour - paper) * ink[..., None]).astype(np.uint8)))
    return pictures


PAGES: dict[str, Callable[[Path], Image.Image]] = {"run_report": run_report, "studio": studio, "search": search}
"""What makes each picture, in an empty folder."""


@contextmanager
def opened(page: Path | str, width: int, height: int = 900, scale: float = 1) -> Iterator[Any]:
    """A file, or an address of this machine, in a light window without frame."""
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as started:
        window = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown = window.new_page(viewport={"width": width, "height": height}, color_scheme="light", device_scale_factor=scale)
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
        if picture.mode != "P":
            picture = picture.quantize(COLORS, dither=Image.Dither.NONE)
        picture.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
