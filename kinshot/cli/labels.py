"""`ssl labels`: what encoders reach with few labels, with a plot against their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.measure import named_run
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, NO_REFERENCE, QUIET, WHERE, named_source
from kinshot.cli.outputs import OUTPUT_FILE, printed_anyway
from kinshot.cli.table import align
from kinshot.core.config import parse_override
from kinshot.core.errors import ConfigError, suggest
from kinshot.recipes.amounts import parse_amounts
from kinshot.recipes.specs import parse_features

RUNS = click.argument("runs", metavar="[NAME=]RUN...", nargs=-1, required=True)
DATA = click.option("--data", metavar=WHERE, help="Samples to learn from, with labels [default: the run's own training data].")
TEST = click.option("--test", metavar=WHERE, help="Samples to test on, of the same classes [default: split test of those].")
C = click.option("--c", "penalty", default=1.0, show_default=True, help="Inverse of the penalty of the logistic regression.")
RESULTS = click.option("--results", type=OUTPUT_FILE, metavar="FILE", help="Also write the rows to this JSON file.")
_TRAINING = "steps=300,epochs=5,batch=64,lr=0.001,weight_decay=0.0001"


@click.command(name="labels")
@RUNS
@DATA
@TEST
@click.option(
    "--counts", default="1,2,5,10,50,full", show_default=True, help="Labelled samples of each class, shares of them (10%), or full."
)
@click.option("--draws", default=10, show_default=True, help="Draws of the labelled samples.")
@click.option("--seed", default=0, show_default=True, help="Key of the draws.")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector, joint, or an output of the projector.")
@C
@click.option("--supervised-draws", default=5, show_default=True, help="Draws on which the network is trained from scratch; 0: not at all.")
@click.option("--supervised", default=_TRAINING, show_default=True, metavar="KEY=VALUE,...", help="How it is trained.")
@NO_REFERENCE
@click.option("--plot", type=OUTPUT_FILE, metavar="FILE", help="Write a figure of the curves to this PNG file.")
@RESULTS
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def labels_command(
    runs: tuple[str, ...], data: str | None, test: str | None, counts: str, draws: int, seed: int, feature: str, penalty: float,
    supervised_draws: int, supervised: str, no_reference: bool, plot: Path | None, results: Path | None, allow_unfinished: bool,
    device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Measure RUNs with few labels: logistic regression on frozen features, over several draws of the labelled samples.

    Beside them, on the same draws: statistics made by hand, the untrained encoder, and the same network trained from scratch. What was
    computed is kept in the cache, so that a study that was stopped goes on. NAME is what a table calls a run; runs that differ by their
    seed alone are averaged.
    """
    check_png(plot)
    amounts, (name, *more) = parse_amounts(counts, "--counts"), parse_features(feature)
    if more:
        raise ConfigError(f"--feature takes one, got {feature!r}: measure the others apart")
    settings = _settings(supervised)
    given = [named_run(text) for text in runs]
    chosen = [None if text is None else named_source(text, split) for text, split in ((data, "train"), (test, "test"))]
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.labels.curve import Wanted, label_curve
    from kinshot.studies.labels.parts import Choices
    from kinshot.studies.labels.supervised import Training

    refuse_unfinished([path for _, path in given], allow_unfinished)
    training = Training(**settings)
    wanted = Wanted(amounts, Choices(*chosen), draws, seed, name, penalty, not no_reference, training, supervised_draws)
    speaker = (lambda text: None) if quiet else say
    measured = label_curve([path for _, path in given], wanted, device, speaker, names=[name for name, _ in given])
    found = {"command": command_line("ssl"), **measured}
    with printed_anyway(lambda: show(found, as_json, lambda: labels_table(found))):
        _write(found, plot, results)


def check_png(plot: Path | None) -> None:
    """Raise ConfigError for a figure's file of another kind."""
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot writes a PNG file, got {plot}: give it the ending .png")


def _settings(text: str) -> dict[str, Any]:
    """`steps=300,lr=0.001` as settings of the training from scratch. Raises ConfigError."""
    defaults: dict[str, Any] = {path[0]: value for path, value in map(parse_override, _TRAINING.split(","))}
    found = dict(defaults)
    for part in filter(None, text.split(",")):
        (key, *rest), value = parse_override(part)
        if rest or key not in defaults:
            raise ConfigError(f"--supervised: unknown setting {key!r}: {suggest(key, defaults)}")
        whole = isinstance(defaults[key], int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise ConfigError(f"--supervised: {key} must be a {'whole ' * whole}number, got {value!r}: write for example {_TRAINING}")
        found[key] = value
    return found


def _write(found: dict[str, Any], plot: Path | None, results: Path | None) -> None:
    if plot is not None:
        from kinshot.core.atomic import make_folder, write_bytes
        from kinshot.studies.labels.curve import POINTS
        from kinshot.studies.labels.plot import curve_figure
        from kinshot.studies.report.theme import png

        make_folder(plot.parent)
        write_bytes(plot, png(curve_figure(found, list(POINTS))))
    if results is not None:
        write_rows(results, found)


def write_rows(results: Path, found: dict[str, Any]) -> None:
    """The rows of a study and its paired differences as a result file."""
    from kinshot.studies.results import rounded_p, write_document
    from kinshot.studies.study import written_rows

    paired = [
        {
            "label": f"{one['label']} minus {one['against']}",
            "metric": f"{one['block']}: {one['column']}",
            "mean": round(one["mean"], 3),
            "ci95": round(one["ci95"], 3),
            "n": one["n"],
            **rounded_p(one),
        }
        for one in found["paired"]
    ]
    write_document(results, found, found["command"], [*written_rows(found["rows"]), *paired])


def labels_table(found: dict[str, Any]) -> str:
    """What was done, a table for every measure, the differences to the references, and the verdict of each number of labels."""
    lines = [f"{key}: {shown(value)}" for key, value in {**found["data"], **found["protocol"]}.items()]
    lines += ["mean ± half of the interval (standard deviation of what the mean is over)", *blocks(found["rows"])]
    lines += paired_tables(found["paired"], "paired on the same draws")
    return "\n".join([*lines, "", *verdict_lines(found["verdicts"])])


def blocks(rows: list[dict[str, Any]]) -> list[str]:
    """A table for every block of rows: labels against columns, single runs left out where there are means over them."""
    lines: list[str] = []
    rows = [row for row in rows if "part_of" not in row]
    for block in dict.fromkeys(row["block"] for row in rows):
        cells = {(row["label"], row["column"]): _cell(row) for row in rows if row["block"] == block}
        lines += ["", *_grid(block, cells)]
    return lines


def _grid(corner: str, cells: dict[tuple[str, str], str]) -> list[str]:
    columns, labels = (list(dict.fromkeys(key[place] for key in cells)) for place in (1, 0))
    return align([[corner, *columns], *([label, *(cells.get((label, column), "") for column in columns)] for label in labels)])


def _cell(row: dict[str, Any]) -> str:
    return f"{row['mean']:.2f} ± {row['ci95']:.2f} ({row['sd']:.2f})" if row["n"] > 1 else f"{row['mean']:.2f}"


def paired_tables(differences: list[dict[str, Any]], how: str) -> list[str]:
    """A table for every block of differences: rows and what they are compared with against columns."""
    found = dict.fromkeys(one["block"] for one in differences)
    return [line for block in found for line in ["", f"{how}, p by Holm for all of one row and measure:", *_paired(differences, block)]]


def verdict_lines(verdicts: list[dict[str, Any]]) -> list[str]:
    """A line for every column: whether the best row lies above every reference."""
    return [_verdict(one) for one in verdicts]


def _paired(differences: list[dict[str, Any]], block: str) -> list[str]:
    cells = {
        (f"{one['label']} minus {one['against']}", one["column"]): f"{one['mean']:+.2f} ± {one['ci95']:.2f}, p {one['p_holm']:.2g}"
        if one["n"] > 1
        else f"{one['mean']:+.2f}"
        for one in differences
        if one["block"] == block
    }
    return _grid(block, cells)


def _verdict(one: dict[str, Any]) -> str:
    best = f"{one['column']}: the best row, {one['best']},"
    if one["above"] is None:
        return f"{best} or the best reference, {one['reference']}, was measured once: without an interval nothing can be said"
    said = "lies" if one["above"] else "does NOT lie"
    return f"{best} {said} above every reference with disjoint intervals (best reference: {one['reference']})"
