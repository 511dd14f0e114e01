"""The `ssl` command: pretrain encoders, and look at recipes, parts and checkpoints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

import kinshot
from kinshot.cli.check import check_command
from kinshot.cli.common import Group, command_line, lines, run, say, show
from kinshot.cli.embed import embed_command
from kinshot.cli.export import export_command
from kinshot.cli.index import COMMANDS as INDEX_COMMANDS
from kinshot.cli.labels import labels_command
from kinshot.cli.measure import measure_command
from kinshot.cli.missing import missing_command
from kinshot.cli.nodes import nodes_command
from kinshot.cli.options import JSON
from kinshot.cli.parts import list_command, show_command
from kinshot.cli.probe import probe_command
from kinshot.cli.run_report import run_report_command
from kinshot.cli.stream import stream_command
from kinshot.cli.subclasses import subclasses_command
from kinshot.cli.train import run_training, training_options
from kinshot.core.errors import ConfigError
from kinshot.encoders.student import student_of
from kinshot.recipes.recipe import load_recipe, recipe_path, train_command

SECTIONS = {
    "Train": ("pretrain", "distill", "sweep"),
    "Recipes, parts and data": ("list", "show", "cp", "validate", "check", "graph"),
    "Look at a run": ("inspect", "report", "measure"),
    "Measure features": ("probe", "labels", "missing", "nodes", "subclasses"),
    "Use an encoder": ("embed", "export", "stream"),
    "Folders of images": ("index", "search", "duplicates", "outliers"),
}


@click.group(cls=Group, sections=SECTIONS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(kinshot.__version__, prog_name="kinshot")
def ssl() -> None:
    """Learn representations without labels."""


@ssl.command(name="pretrain")
@training_options
def pretrain_command(**given: Any) -> None:
    """Pretrain RECIPE: a shipped recipe's name or a YAML file, with settings overridden as KEY=VALUE."""
    run_training("ssl pretrain", **given)


@ssl.command(name="distill")
@training_options
@click.option("--generations", default=1, show_default=True, help="Runs in a row, each taught by the one before, in OUT/generation-1, ...")
@click.option("--width", default=1.0, show_default=True, help="The student is RECIPE's encoder with so many times its channels.")
@click.option("--depth", default=1.0, show_default=True, help="The student is RECIPE's encoder with so many times its blocks.")
def distill_command(generations: int, width: float, depth: float, overrides: tuple[str, ...], **given: Any) -> None:
    """Train the student of RECIPE from a teacher: add teacher=CHECKPOINT; settings are overridden by KEY=VALUE.

    A teacher is a run or checkpoint of kinshot, or a backbone that was trained elsewhere: timm:NAME:WEIGHTS, torchvision:NAME:WEIGHTS,
    onnx:FILE, efficientnet_lite0. Several are teacher=[A, B].
    """
    if generations < 1:
        raise ConfigError(f"--generations: expected at least 1, got {generations}")
    if (width, depth) != (1.0, 1.0):
        if given["recipe"] is None:
            raise ConfigError("--width and --depth scale the encoder of a RECIPE: name it")
        encoder = load_recipe(given["recipe"], overrides).encoder
        scaled = student_of(encoder.name, encoder.settings, width, depth)
        overrides = (*overrides, *(f"encoder.{key}={_as_yaml(value)}" for key, value in scaled.items()))
    run_training("ssl distill", overrides=overrides, **given, generations=generations)


@ssl.command(name="cp")
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def copy_command(name: str, target: Path, overwrite: bool) -> None:
    """Copy a shipped recipe to TARGET, to edit it."""
    source = recipe_path(name)
    if target.is_dir():
        target = target / source.name
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists: choose another name or add --overwrite")
    from kinshot.core.atomic import write_text

    if not target.parent.is_dir():
        raise ConfigError(f"no folder {target.parent}: create it first")
    write_text(target, source.read_text(encoding="utf-8"))
    say(f"wrote {target}; run it with: {train_command(load_recipe(str(target)))} {target}")


@ssl.command(name="validate")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@JSON
def validate_command(recipe: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Check RECIPE (with overrides) and print every problem at once, or the resolved recipe."""
    from kinshot.core.config import to_yaml
    from kinshot.recipes.check import checked_recipe

    checked = checked_recipe(recipe, overrides)
    show({"valid": True, "recipe": checked.to_dict()}, as_json, lambda: to_yaml(checked.to_dict()).rstrip())


@ssl.command(name="inspect")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@JSON
def inspect_command(checkpoint: Path, as_json: bool) -> None:
    """Verify CHECKPOINT (or the newest one of a run folder) and say what is in it."""
    from kinshot.runs.inspect import describe

    result = describe(checkpoint)
    show(result, as_json, lambda: lines(result))


@ssl.command(name="sweep")
@click.argument("recipe")
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE[,VALUE]...]...")
@click.option("--seeds", default="", help="Seeds, separated by commas, as seed=0,1,2; @seed in a setting stands for each [default: 0].")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs [default: runs/RECIPE].")
@JSON
def sweep_command(recipe: str, settings: tuple[str, ...], seeds: str, out: Path | None, as_json: bool) -> None:
    """Run RECIPE with every combination of settings and seeds (key=a,b,c seed=0,1,2); called again, it continues.

    Ends with a table of the runs' last figures, means with intervals over seeds. OUT/sweep.json says it all, and of an interrupted sweep
    which runs are finished.
    """
    from kinshot.cli.table import rows_table
    from kinshot.runs.sweep import plan_sweep, run_sweep, seeds_among
    from kinshot.runs.sweep_account import write_account

    folder = out or Path("runs") / Path(recipe).stem
    varied, numbers = seeds_among(settings, seeds)
    planned = plan_sweep(recipe, varied, numbers, folder)
    command = command_line("ssl")
    write_account(folder, command, planned)
    results = run_sweep(planned, say, lambda: write_account(folder, command, planned))
    account = write_account(folder, command, planned)
    told = {"data": {"interval": account["interval"]}, "protocol": {}, "rows": account["rows"]}
    places = [str(job.out) for job in planned]
    show({"runs": results, "sweep": account}, as_json, lambda: "\n".join([*places, "", rows_table(told)]))


ssl.add_command(probe_command)
ssl.add_command(list_command)
ssl.add_command(show_command)
ssl.add_command(measure_command)
ssl.add_command(embed_command)
ssl.add_command(run_report_command)
ssl.add_command(export_command)
ssl.add_command(subclasses_command)
ssl.add_command(labels_command)
ssl.add_command(nodes_command)
ssl.add_command(missing_command)
ssl.add_command(check_command)
ssl.add_command(stream_command)
for each in INDEX_COMMANDS:
    ssl.add_command(each)


@ssl.group(name="graph", cls=Group)
def graph_group() -> None:
    """Look at a graph before training with it."""


@graph_group.command(name="inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--labels", type=click.Path(path_type=Path), help="A .csv or .tsv file with a header: one row to a node, one label to a column."
)
@click.option("--split", default="", metavar="COLUMN", help="The column of --labels that names the split, for the leak check.")
@click.option("--directed", is_flag=True, help="An edge links its first node to its second only.")
@JSON
def graph_inspect_command(file: Path, labels: Path | None, split: str, directed: bool, as_json: bool) -> None:
    """Print degrees, components, the local consistency of labels and leaks between splits of the graph in FILE."""
    from kinshot.runs.diagnose import inspect_graph, report_lines

    found = inspect_graph(file, labels, split, directed)
    show(found, as_json, lambda: "\n".join(report_lines(found)))


def _as_yaml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(ssl, argv)


if __name__ == "__main__":
    sys.exit(main())
