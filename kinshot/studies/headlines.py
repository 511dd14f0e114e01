"""The figures that matter, for the first screen of the page of results: a list names them, the result files hold them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinshot.core.config import read_yaml
from kinshot.core.errors import DataError

LIST = "headlines.yaml"
_KEYS = {"says", "file", "metric", "row"}
_LARGE = 1000
"""From here on figures are written without decimals."""


def cell(row: dict[str, Any]) -> str:
    """A row of a result file as the text of a cell: mean, half-width of its interval, count."""
    count = f"n={row['n']}" + (f", p={row['p']:g}" if "p" in row else "") + (f", Holm {row['p_holm']:g}" if "p_holm" in row else "")
    digits = 0 if abs(row["mean"]) >= _LARGE else 2
    if row["n"] == 1 and row["ci95"] == 0:
        return f"{row['mean']:.{digits}f}"  # counted or measured once: there is no interval
    return f"{row['mean']:.{digits}f} ± {row['ci95']:.{digits}f} ({count})"


def headlines(folder: Path) -> list[str]:
    """Lines of a Markdown table of the figures that `headlines.yaml` names in a folder of result files; none without that list.

    Each entry says in words what it `says`, and names the `file`, `metric` and `row` of a figure, and of another one `beside` it.

    Raises:
        DataError: an entry that lacks a key, or names a file or a figure that is not there.
    """
    named = folder / LIST
    if not named.is_file():
        return []
    lines = ["| | | beside it | |", "|---|---|---|---|"]
    entries = read_yaml(named).get("figures")
    if not isinstance(entries, list):
        raise DataError(f"{named} has no list `figures`: give it one")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or not _KEYS <= entry.keys() <= {*_KEYS, "beside"}:
            raise DataError(f"{named}, entry {number}: expected {', '.join(sorted(_KEYS))} and perhaps beside, got {entry!r}")
        rows = _rows(folder / f"{entry['file']}.json", entry["metric"])
        figures = [_figure(rows, entry[key], entry, named) if key in entry else "" for key in ("row", "beside")]
        lines.append(f"| {entry['says']} ({entry['metric']}) | **{figures[0]}** | {figures[1]} | [{entry['file']}](#{entry['file']}) |")
    return lines


def _rows(path: Path, metric: str) -> dict[str, dict[str, Any]]:
    """Rows of a result file with one metric, by label."""
    if not path.is_file():
        raise DataError(f"{path} is not there: correct {LIST}, or write the file with the command that measures")
    return {row["label"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if row["metric"] == metric}


def _figure(rows: dict[str, dict[str, Any]], label: str, entry: dict[str, Any], named: Path) -> str:
    if label not in rows:
        known = ", ".join(repr(row) for row in list(rows)[:5])
        raise DataError(f"{named}: {entry['file']}.json has no row {label!r} with the metric {entry['metric']!r}; it has {known}")
    return cell(rows[label]).replace("|", "\\|")
