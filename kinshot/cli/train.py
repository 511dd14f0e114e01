"""What `ssl pretrain`, `ssl distill` and `fewshot train` share: options, and running a recipe of the right kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
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
    click.option("--overwrite", is_flag=True, help="Replace an earlier run in the run folder, after a first step of the new one."),
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
    device: str | None, seed: int | None, dry_run: bool, quiet: bool, as_json: bool, generations: int = 1,
) -> None:  # fmt: skip
    """Train a recipe, which must be one of `command`'s, and print its result; each further generation learns from the one before."""
    given = {"init": init, "train.device": device, "seed": seed}
    checked = load_recipe(recipe, [*overrides, *(f"{key}={value}" for key, value in given.items() if value is not None)])
    _check_kind(command, checked)
    from kinshot.recipes import train
    from kinshot.recipes.start import Options

    folder = out or Path("runs") / checked.name
    places = [folder] if generations == 1 else [folder / f"generation-{number}" for number in range(1, generations + 1)]
    for place, taught in zip(places, _generations(checked, places), strict=True):
        options = Options(place, resume, overwrite, quiet)
        result = train.dry_run(taught, options) if dry_run else train.train_recipe(taught, options, (lambda text: None) if quiet else say)
        if dry_run:
            break  # the next generation has no teacher yet
    show(result, as_json, lambda: lines(result))


def _generations(recipe: Recipe, places: list[Path]) -> list[Recipe]:
    """The recipe, and then the same with the run before as its teacher."""
    later = [replace(recipe, distill=replace(recipe.distill, teachers=(str(place),))) for place in places[:-1]]
    return [recipe, *later]


_LEARNS = {"ssl distill": "learns from a teacher", "fewshot train": "learns from class labels", "ssl pretrain": "learns without labels"}


def _check_kind(command: str, recipe: Recipe) -> None:
    right = train_command(recipe)
    if right != command:
        raise ConfigError(f"recipe {recipe.name}, with the method {recipe.method.name}, {_LEARNS[right]}: run it with `{right}`")
