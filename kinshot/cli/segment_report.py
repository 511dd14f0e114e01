"""`segmentation report`: one page that shows what a checkpoint finds, and what it takes for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import DEVICE, JSON, QUIET, checkpoint_arguments
from kinshot.cli.outputs import OUTPUT_FILE
from kinshot.cli.segment_options import evaluation_options, evaluation_protocol


@click.command(name="report")
@checkpoint_arguments("RUN...")
@evaluation_options(shots="1,5", episodes=500, tolerance=0.0)
@click.option("--out", type=click.Path(path_type=Path), default="report", show_default=True, help="Folder of the report.")
@click.option("--overwrite", is_flag=True, help="Write into a folder that holds other things, which stay.")
@click.option("--sheet", type=OUTPUT_FILE, metavar="FILE", help="Also write episodes, the lower quarter to the best, as one PNG picture.")
@DEVICE
@QUIET
@JSON
def report_command(
    checkpoints: tuple[Path, ...], out: Path, overwrite: bool, sheet: Path | None, device: str, quiet: bool, as_json: bool, **given: Any
) -> None:
    """Measure RUNs (checkpoints, run folders, or a sweep's folder) and write a page with pictures: report.html, report.json, *.png.

    Details (episodes in pictures, classes, what is wrongly found) are those of the first run, segmenter, fold, number of ways and number
    of shots: put first what you want to see. An earlier report in the folder is replaced.
    """
    protocol = evaluation_protocol(**given)
    from kinshot.studies.segmentation.report.write import report

    tell = (lambda text: None) if quiet else say
    written = report(
        list(checkpoints), protocol, out, device, tell, command=command_line("segmentation"), overwrite=overwrite, sheet_file=sheet
    )
    show({"page": str(written[0]), "files": [str(path) for path in written]}, as_json, lambda: f"wrote {written[0]}")
