"""The page of a run from beginning to end: read, measured, drawn, written to one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinshot.core.atomic import make_folder, write_bytes
from kinshot.core.errors import ConfigError
from kinshot.core.outputs import check_output_file
from kinshot.studies.report.samples import load_samples
from kinshot.studies.run_report.content import KIND
from kinshot.studies.run_report.figures import figures_of
from kinshot.studies.run_report.gather import Asked, Gathered, gather, shown_samples
from kinshot.studies.run_report.page import page

PAGE = "report.html"
_ENDINGS = (".html", ".htm")
_THUMBNAIL = 48
_MARK = f'<p class="kicker">{KIND}</p>'.encode()
_HEAD = 1 << 16


def run_report(asked: Asked, out: Path, say: Callable[[str], None], *, overwrite: bool = False) -> dict[str, Any]:
    """Write the page of a run to `out`, see `page_path`; returns its path as `page`, and everything that it says.

    Raises what `gather` does; ConfigError where something else stands in the way, before anything is read; DataError for a disk that cannot
    take the file.
    """
    path = page_path(out)
    check_free(path, overwrite)
    found = gather(asked, say)
    say("drawing")
    text = html(found)
    make_folder(path.parent)
    write_bytes(path, text.encode("utf-8"))
    return {"page": str(path), **found.content.as_dict()}


def html(found: Gathered) -> str:
    """The page."""
    content, looked = found.content, found.looked
    samples, thumbnails = {}, {}
    if looked is not None:
        samples = load_samples(looked.source, shown_samples(content))
        points = content.map.points if content.map else []
        thumbnails = load_samples(looked.source, [point.index for point in points], _THUMBNAIL)
    return page(content, figures_of(content), found.grid, samples, thumbnails)


def page_path(out: Path) -> Path:
    """The file that is meant: `out` where it ends in .html, else report.html in the folder `out`."""
    return out if out.suffix.lower() in _ENDINGS and not out.is_dir() else out / PAGE


def check_free(path: Path, overwrite: bool) -> None:
    """Raise ConfigError unless a page may be written there: a new name, or an earlier page of a run."""
    check_output_file(path, "--out")
    if os.path.lexists(path) and not overwrite and not _is_page(path):
        raise ConfigError(f"--out {path} is a file and no page of a run: choose another name, or add --overwrite to replace it")


def _is_page(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _MARK in file.read(_HEAD)
    except OSError:
        return False
