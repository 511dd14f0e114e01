"""`fewshot report`: one page that shows what a checkpoint can and cannot tell apart."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import (
    DEVICE,
    INTERVAL,
    JSON,
    NO_REFERENCE,
    QUIET,
    base_data,
    check_counts,
    checkpoint_arguments,
    chosen_data,
    data_options,
    episode_options,
    head_options,
    parsed_heads,
    parsed_ways,
)
from kinshot.recipes.specs import parse_features, parse_numbers


@click.command(name="report")
@checkpoint_arguments("RUN...")
@data_options()
@episode_options(shots="1,2,5,10")
@head_options(heads="prototype,nearest,ridge", features="backbone")
@INTERVAL
@NO_REFERENCE
@click.option("--out", type=click.Path(path_type=Path), default="report", show_default=True, help="Folder of the report.")
@click.option("--overwrite", is_flag=True, help="Write into a folder that holds other things, which stay.")
@DEVICE
@QUIET
@JSON
def report_command(
    checkpoints: tuple[Path, ...], data: str | None, split: str | None, options: tuple[str, ...], base: str | None, ways: str | None,
    shots: str, queries: int | None, episodes: int, seed: int, heads: str, features: str, interval: str, no_reference: bool, out: Path,
    overwrite: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNs (checkpoints, run folders, or a sweep's folder) and write a page with figures: report.html, report.json, *.png.

    Details (classes, confusions, calibration, episodes, gallery) are those of the first run, feature, head, number of ways and
    number of shots: put first what you want to see. An earlier report in the folder is replaced. Ways, shots and queries that were
    not asked for are fitted to the data where classes are small, which is said.
    """
    check_counts(queries, episodes)
    chosen, bases, parsed = chosen_data(data, split, options), base_data(base), parsed_heads(heads)
    way_list, shot_list, feature_list = parsed_ways(ways), parse_numbers(shots, "--shots"), parse_features(features)
    from kinshot.studies.answers import Protocol
    from kinshot.studies.report.write import report
    from kinshot.studies.tasks import QUERIES, WAYS, Drawing

    drawing = Drawing(way_list or [WAYS], list(dict.fromkeys(shot_list)), queries or QUERIES, episodes, seed)  # fitted with `free`
    protocol = Protocol(chosen, bases, drawing, parsed, feature_list, not no_reference, interval=interval)
    messages = (lambda text: None) if quiet else say
    asked = click.get_current_context().get_parameter_source
    free = [name for name in ("ways", "shots", "queries") if asked(name) is ParameterSource.DEFAULT]
    command = command_line("fewshot")
    written = report(list(checkpoints), protocol, out, device, messages, command=command, free=free, overwrite=overwrite)
    show({"page": str(written[0]), "files": [str(path) for path in written]}, as_json, lambda: f"wrote {written[0]}")
