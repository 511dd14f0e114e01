"""`ssl nodes`: encoders of a graph's nodes on the lists of labelled nodes that were published with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.labels import blocks, paired_tables, write_rows
from kinshot.cli.measure import named_run
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, NO_REFERENCE, QUIET, WHERE, named_source
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.core.errors import ConfigError
from kinshot.recipes.specs import parse_features


@click.command(name="nodes")
@click.argument("runs", metavar="[NAME=]RUN...", nargs=-1, required=True)
@click.option("--data", metavar=WHERE, help="The graph [default: the first run's own data].")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector or joint.")
@click.option("--draws", default=5, show_default=True, help="Draws of labelled nodes beside each published list.")
@click.option("--clusterings", default=3, show_default=True, help="Starts of k-means.")
@click.option("--seed", default=0, show_default=True, help="Key of the draws and starts.")
@NO_REFERENCE
@click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
@click.option("--figures", type=OUTPUT_FILE, metavar="FILE", help="Also write the figures of every single run to this JSON file.")
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def nodes_command(
    runs: tuple[str, ...], data: str | None, feature: str, draws: int, clusterings: int, seed: int, no_reference: bool,
    results: Path | None, figures: Path | None, allow_unfinished: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNs on a graph's published lists: classes by logistic regression (macro- and micro-F1, AUC), clusters (NMI, ARI).

    Beside them, on the same nodes: the nodes' own features, their mean over neighbours by meta-paths, and the untrained encoder. NAME is
    what a table calls a run; runs that differ by their seed alone are averaged, and two kinds of runs compared seed by seed.
    """
    name, *more = parse_features(feature)
    if more:
        raise ConfigError(f"--feature takes one, got {feature!r}: measure the others apart")
    given = [named_run(text) for text in runs]
    chosen = None if data is None else named_source(data, "")
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.nodes import Wanted, node_study

    refuse_unfinished([path for _, path in given], allow_unfinished)
    wanted = Wanted(chosen, name, draws, clusterings, seed, not no_reference)
    speaker = (lambda text: None) if quiet else say
    measured = node_study([path for _, path in given], wanted, device, speaker, names=[called for called, _ in given])
    found = {"command": command_line("ssl"), **measured}
    with printed_anyway(lambda: show(found, as_json, lambda: nodes_table(found))):
        if results is not None:
            write_rows(results, found)
        if figures is not None:
            from kinshot.core.atomic import make_folder, write_json

            make_folder(figures.parent)
            write_json(figures, {"command": found["command"], "pretrained_by": found["pretrained_by"], "rows": found["figures"]})


def nodes_table(found: dict[str, Any]) -> str:
    """What was done, a table for every measure, and the differences."""
    lines = [f"{key}: {shown(value)}" for key, value in {**found["data"], **found["protocol"]}.items()]
    lines += ["mean ± half of the interval (standard deviation of what the mean is over)", *blocks(found["rows"])]
    return "\n".join([*lines, *paired_tables(found["paired"], "paired on the same nodes")])
