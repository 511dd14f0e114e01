"""A page as a real browser without a window shows it; nothing here runs where none is installed."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.pages import Outline
from tests.tiny import environment

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed to show the page")
_MEASURE = """<script>addEventListener("load", () => { const images = [...document.images]; document.body.dataset.found = JSON.stringify({
  images: images.length, empty: images.filter(i => !i.naturalWidth || !i.clientWidth).length,
  wide: document.documentElement.scrollWidth - innerWidth, height: document.body.scrollHeight}) })</script></body>"""


def browse(file: Path, tmp_path: Path, *options: str) -> str:
    """Open a page in a browser without a window; returns what it prints."""
    assert BROWSER is not None
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    line = [BROWSER, "--headless", "--no-sandbox", *quiet, "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=2000"]
    line += [f"--user-data-dir={tmp_path / 'profile'}", *options, file.resolve().as_uri()]
    return subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=120, check=True).stdout


def seen(file: Path, tmp_path: Path, size: tuple[int, int], *options: str) -> np.ndarray:
    """Pixels (H, W, 3) of a page in a window of some size."""
    picture = tmp_path / "shown.png"
    browse(file, tmp_path, f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", *options)
    return np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")).astype(int)


def share(pixels: np.ndarray, color: str) -> float:
    """Share of pixels that have a colour."""
    return float((abs(pixels - [int(color[i : i + 2], 16) for i in (1, 3, 5)]).max(-1) <= 2).mean())


def laid_out(page: str, tmp_path: Path, width: int) -> dict[str, Any]:
    """What a page's layout comes to in a window of some width: images, those that do not show, pixels that stick out, height."""
    measuring = tmp_path / "measuring.html"  # the page's own policy would not let a script run
    measuring.write_text(re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", _MEASURE), encoding="utf-8")
    outline = Outline(browse(measuring, tmp_path, f"--window-size={width},900", "--dump-dom").replace(_MEASURE[:-7], ""))
    (body,) = outline.named("body")
    return dict(json.loads(str(body["data-found"])))
