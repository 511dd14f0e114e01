"""A report on segmentation from beginning to end: measured, drawn, written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from kinshot.core.atomic import write_bytes
from kinshot.segmentation.pictures import picture_png
from kinshot.studies.report.folder import NUMBERS, PAGE, check_out, publish
from kinshot.studies.segmentation.evaluate import SegmentationProtocol
from kinshot.studies.segmentation.report.content import Content
from kinshot.studies.segmentation.report.figures import draw
from kinshot.studies.segmentation.report.gather import gather
from kinshot.studies.segmentation.report.page import page
from kinshot.studies.segmentation.report.panels import EpisodePictures, sheet
from kinshot.studies.segmentation.tasks import Say


def report(
    paths: list[Path],
    protocol: SegmentationProtocol,
    out: Path,
    device: str,
    say: Say,
    *,
    command: str,
    overwrite: bool = False,
    sheet_file: Path | None = None,
) -> list[Path]:
    """Measure checkpoints and write `report.html`, `report.json` and the figures as PNG files to `out`; returns their paths, page first.

    `sheet_file` gets some episodes as one PNG picture.

    Raises:
        ConfigError: `out` holds something else and `overwrite` is not set; nothing was measured. Or settings.
        CheckpointError: a bad checkpoint.
        DataError: data that cannot give the episodes, or a disk that cannot take the files.
    """
    check_out(out, overwrite)
    content, pictures = gather(paths, protocol, device, say, command)
    say("drawing")
    files = report_files(content, pictures)
    publish(files, out, overwrite)
    if sheet_file is not None:
        write_bytes(sheet_file, picture_png(sheet(content, pictures)))
    return [*(out / name for name in files), *([] if sheet_file is None else [sheet_file])]


def report_files(content: Content, pictures: Mapping[int, EpisodePictures]) -> dict[str, bytes]:
    """Every file of a report by its name, the page first."""
    figures = draw(content)
    drawn = {f"{picture.name}.png": picture.light for picture in figures}
    document = {**content.as_dict(), "files": [PAGE, NUMBERS, *drawn], "alt": {p.name: p.alt for p in figures}}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    return {PAGE: page(content, figures, pictures).encode("utf-8"), NUMBERS: (text + "\n").encode("utf-8"), **drawn}
