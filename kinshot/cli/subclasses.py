"""`ssl subclasses`: what lies inside classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from kinshot.cli.common import command_line, say, show, shown
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET, WHERE, named_source
from kinshot.cli.outputs import OUTPUT_FILE
from kinshot.cli.table import align
from kinshot.core.errors import ConfigError
from kinshot.recipes.specs import parse_features

FIGURES = ("nmi", "ami", "ari", "ari_within")


@click.command(name="subclasses")
@click.argument("runs", metavar="RUNS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--truth", default="", metavar="ATTRIBUTE", help="Finer classes to compare with: NMI, AMI, ARI, and ARI inside classes.")
@click.option("--classes", default="", metavar="ATTRIBUTE", help="Classes that are divided [default: the label].")
@click.option("--count", default=2, show_default=True, help="Sub-classes of a class at most.")
@click.option("--fit", type=click.Choice(["kmeans", "em"]), default="kmeans", show_default=True, help="How they are found.")
@click.option("--feature", default="projector", show_default=True, help="backbone, projector, joint, or an output of the projector.")
@click.option("--data", metavar=WHERE, help="Samples [default: those that each run was trained on].")
@click.option("--seed", default=0, show_default=True, help="Key of the starts.")
@click.option("--out", type=OUTPUT_FILE, metavar="FILE", help="Also write the sub-class of every sample of one run to this CSV file.")
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def subclasses_command(
    runs: tuple[Path, ...], truth: str, classes: str, count: int, fit: Literal["kmeans", "em"], feature: str, data: str | None, seed: int,
    out: Path | None, allow_unfinished: bool, device: str, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Divide classes by RUNS' features, beside the sub-classes that their kin `subclasses` found in training; compare with finer labels."""
    names = parse_features(feature)
    if len(names) != 1:
        raise ConfigError(f"--feature takes one, got {feature!r}: divide by the others apart")
    chosen = None if data is None else named_source(data, "train")
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.subclasses import Division, subclasses

    refuse_unfinished(runs, allow_unfinished)
    asked = Division(classes, truth, count, fit, names[0], seed, chosen)
    found = {"command": command_line("ssl"), **subclasses(list(runs), asked, out, device, (lambda text: None) if quiet else say)}
    show(found, as_json, lambda: _table(found))


def _table(found: dict[str, Any]) -> str:
    asked = {key: value for key, value in found.items() if isinstance(value, str) and key != "command"}
    head = [f"{key}: {shown(value)}" for key, value in {**asked, **found["protocol"]}.items()]
    figures = [name for name in FIGURES if any(name in row for row in found["rows"])]
    rows = [[row["run"], row["way"], str(row["subclasses"]), *(f"{row[name]:.4f}" for name in figures)] for row in found["rows"]]
    return "\n".join([*head, "", *align([["run", "sub-classes", "how many", *figures], *rows])])
