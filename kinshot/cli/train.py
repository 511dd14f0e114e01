"""What `ssl pretrain`, `ssl distill` and `fewshot train` share: options, and running a recipe of the right kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from kinshot.cli.common import lines, say, show
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import Recipe, load_recipe, recipe_data, recipe_path, train_command

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = [
    click.argument("recipe", required=False),
    click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]..."),
    click.option("--out", type=click.Path(path_type=Path), help="Run folder [default: runs/RECIPE]."),
    click.option(
        "--resume", default="never", metavar="auto|never|PATH", help="Continue a run, as it was started: its newest checkpoint, or PATH."
    ),
    click.option("--extend", type=click.IntRange(min=1), default=None, metavar="EPOCHS", help="Train a finished run so much longer."),
    click.option("--overwrite", is_flag=True, help="Replace an earlier run in the run folder, after a first step of the new one."),
    click.option(
        "--init",
        metavar="CHECKPOINT",
        help="Start from the encoder of a checkpoint, a run or a backbone, such as efficientnet_lite0 (short for init=...).",
    ),
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
    command: str, recipe: str | None, overrides: tuple[str, ...], out: Path | None, resume: str, extend: int | None, overwrite: bool,
    init: str | None, device: str | None, seed: int | None, dry_run: bool, quiet: bool, as_json: bool, generations: int = 1,
) -> None:  # fmt: skip
    """Train a recipe, which must be one of `command`'s, and print its result; each further generation learns from the one before.

    Without a recipe, or with an override in its place, the run in `out` goes on as it began.
    """
    if extend and generations > 1:
        raise ConfigError("--extend trains one run longer, and --generations makes several: give one of them")
    resume = "auto" if extend and resume == "never" else resume
    override = recipe is not None and resume != "never" and "=" in recipe and not Path(recipe).exists()
    name = None if override else recipe
    short = {"init": init, "train.device": device, "seed": seed}
    given = [*[str(recipe)] * override, *overrides, *(f"{key}={value}" for key, value in short.items() if value is not None)]
    if name is None and (out is None or resume == "never"):
        raise click.UsageError("RECIPE is missing: name one (ssl list), or go on with a run with --resume auto --out FOLDER")
    fresh = load_recipe(name, given) if name is not None and resume == "never" else None
    if fresh is not None:
        _check_kind(command, fresh)  # before torch is imported
    folder = out or Path("runs") / str(recipe_data(str(name), given).get("name", recipe_path(str(name)).stem))
    places = [folder] if generations == 1 else [folder / f"generation-{number}" for number in range(1, generations + 1)]
    from kinshot.runs import train
    from kinshot.runs.resuming import asked_recipe
    from kinshot.runs.start import Options

    for number, place in enumerate(places):
        options = Options(place, resume, overwrite, quiet, extend or 0)
        taught = asked_recipe(name, given, options, fresh)
        if number:
            taught = replace(taught, distill=replace(taught.distill, teachers=(str(places[number - 1]),)))
        _check_kind(command, taught)
        result = train.dry_run(taught, options) if dry_run else train.train_recipe(taught, options, (lambda text: None) if quiet else say)
        if dry_run:
            break  # the next generation has no teacher yet
    show(result, as_json, lambda: lines(result))


_LEARNS = {
    "ssl distill": "learns from a teacher",
    "fewshot train": "learns from class labels",
    "segmentation train": "learns from class maps",
    "ssl pretrain": "learns without labels",
}


def _check_kind(command: str, recipe: Recipe) -> None:
    right = train_command(recipe)
    if right != command:
        raise ConfigError(f"recipe {recipe.name}, with the method {recipe.method.name}, {_LEARNS[right]}: run it with `{right}`")
