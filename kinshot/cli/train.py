"""What `ssl pretrain` and `fewshot train` share: options, and running a recipe of the right kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from kinshot.cli.common import lines, say, show
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import Recipe, load_recipe, train_command

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = [
    click.argument("recipe"),
    click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
    click.option("--out", type=click.Path(path_type=Path), help="Run folder [default: runs/RECIPE]."),
    click.option("--resume", default="never", metavar="auto|never|PATH", help="Continue a run: its newest checkpoint, or the one at PATH."),
    click.option("--overwrite", is_flag=True, help="Delete an earlier run in the run folder."),
    click.option("--init", metavar="CHECKPOINT", help="Start from this checkpoint's encoder (short for init=...)."),
    click.option("--device", help="auto, cpu, cuda, cuda:N or mps (short for train.device=...)."),
    click.option("--seed", type=int, help="Short for seed=...."),
    click.option("--dry-run", is_flag=True, help="Build everything, run one step, write nothing."),
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
]


def training_options(command: Command) -> Command:
    """Decorator: the arguments and options of a command that trains."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run_training(
    command: str, recipe: str, overrides: tuple[str, ...], out: Path | None, resume: str, overwrite: bool, init: str | None,
    device: str | None, seed: int | None, dry_run: bool, quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Train a recipe, which must be one of `command`'s, and print its result."""
    given = {"init": init, "train.device": device, "seed": seed}
    checked = load_recipe(recipe, [*overrides, *(f"{key}={value}" for key, value in given.items() if value is not None)])
    _check_kind(command, checked)
    from kinshot.recipes import train
    from kinshot.recipes.start import Options

    options = Options(out or Path("runs") / checked.name, resume, overwrite, quiet)
    result = train.dry_run(checked, options) if dry_run else train.train_recipe(checked, options, (lambda text: None) if quiet else say)
    show(result, as_json, lambda: lines(result))


def _check_kind(command: str, recipe: Recipe) -> None:
    right = train_command(recipe)
    if right != command:
        kind = "learns from class labels" if right == "fewshot train" else "learns without labels"
        raise ConfigError(f"recipe {recipe.name} has the method {recipe.method.name}, which {kind}: run it with `{right}`")
