"""Where a page of an index goes: a folder, with the numbers beside it, or a single file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kinshot
from kinshot.core.atomic import make_folder, write_text
from kinshot.core.outputs import check_output_file
from kinshot.index.opened import Index
from kinshot.studies.report.content import KIND
from kinshot.studies.report.folder import NUMBERS, PAGE, check_out, publish
from kinshot.studies.report.frame import IN_A_FILE
from kinshot.studies.search.tiles import plain

SCHEMA_VERSION = 1
_FILE = (".html", ".htm")


def check_report(report: Path) -> None:
    """Raise ConfigError, before any work, where a page could not be written."""
    if report.suffix.lower() in _FILE:
        check_output_file(report, "--report")
    else:
        check_out(report, False, "--report")


def write_report(report: Path, page: Callable[[str], str], result: Mapping[str, Any]) -> Path:
    """Write a page, which is given its last line; gives its path. Raises ConfigError and DataError."""
    if report.suffix.lower() in _FILE:
        make_folder(report.parent)
        write_text(report, page("Made by kinshot; the page needs nothing else."))
        return report
    names = [PAGE, NUMBERS]
    document = {"kind": KIND, "schema_version": SCHEMA_VERSION, **result, "files": names}
    html = page(IN_A_FILE)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    publish({PAGE: html.encode("utf-8"), NUMBERS: text.encode("utf-8")}, report, False)
    return report / PAGE


def about(index: Index, engine: str, more: Mapping[str, str], command: str) -> dict[str, str]:
    """How something was found."""
    manifest = index.manifest
    return {
        "Index": plain(str(index.place)),
        "Images": f"{len(index.state.table):,} files of {len(index):,} contents, {plain(str(index.folder))}",
        "Encoder": f"{plain(manifest.encoder.name)}, features of {manifest.dim} numbers",
        "Weights, hash": manifest.encoder.weights,
        "Search": f"exact, by cosine; candidates by {engine}",
        **more,
        "Versions": f"kinshot {kinshot.__version__}",
        "Command": plain(command),
    }
