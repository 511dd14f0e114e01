"""A report from beginning to end: measured, drawn, written."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from kinshot.studies.answers import Protocol, Say
from kinshot.studies.report.content import Content
from kinshot.studies.report.folder import NUMBERS, PAGE, check_out, publish
from kinshot.studies.report.gather import gather
from kinshot.studies.report.page import page
from kinshot.studies.report.pictures import draw, sheets
from kinshot.studies.report.samples import Sample, load_samples


def report(
    paths: list[Path],
    protocol: Protocol,
    out: Path,
    device: str,
    say: Say,
    *,
    command: str,
    free: Collection[str] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Measure checkpoints and write `report.html`, `report.json` and the figures as PNG files to `out`; returns their paths, page first.

    `free` names what of the drawing may be fitted to the data: ways, shots, queries.

    Raises:
        ConfigError: `out` holds something else and `overwrite` is not set; nothing was measured. Or settings.
        CheckpointError: a bad checkpoint.
        DataError: data that cannot give the episodes, or a disk that cannot take the files.
    """
    check_out(out, overwrite)
    content, source = gather(paths, protocol, device, say, command, free)
    say("drawing")
    numbers = [i for e in content.gallery for way in e.ways for i in (*way.support, *(a.index for a in way.queries))]
    files = report_files(content, load_samples(source, numbers))
    publish(files, out, overwrite)
    return [out / name for name in files]


def report_files(content: Content, samples: dict[int, Sample]) -> dict[str, bytes]:
    """Every file of a report by its name, the page first."""
    figures = draw(content)
    drawn = {f"{picture.name}.png": picture.light for picture in (*figures, *sheets(content, samples))}
    names = [PAGE, NUMBERS, *drawn]
    document = {**content.as_dict(), "files": names, "alt": {p.name: p.alt for p in figures}}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    return {PAGE: page(content, figures, samples).encode("utf-8"), NUMBERS: (text + "\n").encode("utf-8"), **drawn}
