"""`ssl embed`: features as a file."""

from __future__ import annotations

from pathlib import Path

import click

from kinshot.cli.common import command_line, say, show
from kinshot.cli.options import ALLOW_UNFINISHED, DEVICE, JSON, QUIET, WHERE, named_source
from kinshot.cli.outputs import OUTPUT_FILE
from kinshot.core.errors import ConfigError
from kinshot.recipes.specs import parse_features


@click.command(name="embed")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("out", metavar="FILE", type=OUTPUT_FILE)
@click.option("--data", metavar=WHERE, help="Samples to embed [default: the run's own data, split test where there is one].")
@click.option("--feature", default="backbone", show_default=True, help="backbone, projector, joint, or an output of the projector.")
@ALLOW_UNFINISHED
@DEVICE
@QUIET
@JSON
def embed_command(
    run: Path, out: Path, data: str | None, feature: str, allow_unfinished: bool, device: str, quiet: bool, as_json: bool
) -> None:
    """Write RUN's features of every sample to FILE (.npz), with labels and attributes; RUN may be a backbone, such as efficientnet_lite0.

    The file is a source again (`table`): a head on frozen features trains in seconds.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"FILE is an .npz file, got {out.name!r}: give it this ending")
    names = parse_features(feature)
    if len(names) != 1:
        raise ConfigError(f"--feature takes one, got {feature!r}: write the others to files of their own")
    chosen = None if data is None else named_source(data, "test")
    from kinshot.runs.reached import refuse_unfinished
    from kinshot.studies.embed import embed

    refuse_unfinished([run], allow_unfinished)
    found = embed(run, chosen, names[0], out, device, (lambda text: None) if quiet else say)
    found = {"command": command_line("ssl"), **found}
    show(
        found,
        as_json,
        lambda: "\n".join(f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in found.items()),
    )
