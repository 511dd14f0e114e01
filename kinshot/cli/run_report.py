"""`ssl report`: one page of a run."""

from __future__ import annotations

from pathlib import Path

import click

from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import DEVICE, JSON, QUIET, WHERE, named_source
from kinshot.core.errors import ConfigError
from kinshot.recipes.specs import parse_features


@click.command(name="report")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--data", metavar=WHERE, help="Other samples, or where the training data is now [default: the run's training data].")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector, joint, or an output of the projector.")
@click.option("--samples", default=2000, show_default=True, help="Samples that are embedded at most, drawn evenly by the run's seed.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="run_report.html", show_default=True, help="The page, or a folder for report.html."
)
@click.option("--overwrite", is_flag=True, help="Replace a file that is no page of a run.")
@DEVICE
@QUIET
@JSON
def run_report_command(
    run: Path, data: str | None, feature: str, samples: int, out: Path, overwrite: bool, device: str, quiet: bool, as_json: bool
) -> None:
    """Show how RUN went and what it has learned, on one page that needs no internet.

    Curves of every recorded scalar, gauges with what is normal, augmented views, a map of the embedding, nearest neighbors, clusters, and
    retrieval where there are labels. RUN is a run folder or a checkpoint, finished or not. An earlier page of the same name is replaced.
    Settings that --data leaves out are the run's own where the source is the same.
    """
    if samples < 3:
        raise ConfigError(f"--samples: expected at least 3, got {samples}")
    names = parse_features(feature)
    if len(names) != 1:
        raise ConfigError(f"--feature takes one, got {feature!r}: make a page for each")
    chosen = None if data is None else named_source(data, "")
    from kinshot.core.runtime import resolve_device
    from kinshot.studies.run_report.gather import Asked
    from kinshot.studies.run_report.write import run_report

    asked = Asked(run, chosen, names[0], samples, resolve_device(device), command_line("ssl"))
    found = run_report(asked, out, (lambda text: None) if quiet else say, overwrite=overwrite)
    show(found, as_json, lambda: f"wrote {found['page']}")
