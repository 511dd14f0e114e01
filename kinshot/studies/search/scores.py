"""Scores of all files as a table for other tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from kinshot.core.atomic import make_folder, write_text
from kinshot.datasets.survey import shown
from kinshot.index.opened import Outlier


def write_scores(file: Path, found: Sequence[Outlier]) -> None:
    """Write `image,score` of every file, copies too, the strangest first. Raises DataError."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "score"])
    rows.writerows([shown(path), f"{one.score:.6f}"] for one in found for path in (one.path, *one.copies))
    make_folder(file.parent)
    write_text(file, text.getvalue())
