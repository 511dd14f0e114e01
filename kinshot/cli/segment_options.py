"""Options that commands of segmentation share, and what they say together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from kinshot.cli.options import chosen_data
from kinshot.cli.outputs import OUTPUT_FILE
from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.recipes.recipe import Choice
from kinshot.recipes.segmenters import parse_segmenters
from kinshot.recipes.specs import parse_numbers

if TYPE_CHECKING:
    from kinshot.studies.segmentation.evaluate import SegmentationProtocol

Decorator = Callable[[Any], Any]
RULES = ("standard", "panet", "image")
SHORT_CLASSES = click.option(
    "--short-classes",
    type=click.Choice(["refuse", "leave_out"]),
    default="refuse",
    show_default=True,
    help="What to do about classes with too few photographs for an episode.",
)
HEADS = click.option(
    "--heads", metavar="LIST", help="Segmenters and few-shot heads: cosine,ridge:penalty=1,... [default: what the runs trained, or cosine]."
)
STAGE = click.option(
    "--stage", default="", metavar="NAME", help="Stage of the encoder whose maps are compared [default: the method's, or the last]."
)


def evaluation_options(*, shots: str, episodes: int, tolerance: float) -> Decorator:
    """Data, episodes, segmenters and how they are scored: what `evaluation_protocol` reads, with defaults that differ by command."""

    def choice(name: str, values: tuple[str, ...], text: str) -> Decorator:
        return click.option(name, type=click.Choice(values), default=values[0], show_default=True, help=text)

    options = [
        click.option("--data", metavar="NAME[:ROOT]", help="Images with class maps [default: the checkpoints' own data, split test]."),
        click.option("--split", help="Split of the source [default: test where the source has one]."),
        click.option("--fold", default="", metavar="LIST", help="Folds of the source, such as 0,1,2,3 [default: the checkpoints' own]."),
        click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of the source; may be repeated."),
        click.option("--ways", default="1", show_default=True, help="Classes of an episode; several with commas."),
        click.option("--shots", default=shots, show_default=True, help="Support images of each class; several with commas."),
        click.option("--queries", default=1, show_default=True, help="Queries of an episode, all classes together."),
        click.option("--episodes", default=episodes, show_default=True, help="Episodes per task."),
        click.option("--seed", default=0, show_default=True, help="Key of the episodes, and of the bootstrap."),
        SHORT_CLASSES,
        click.option("--episode-list", default="", metavar="FILE", help="Episodes of `segmentation episodes make`."),
        click.option("--save-episodes", type=OUTPUT_FILE, metavar="FILE", help="Keep the episodes (.npz or .json)."),
        HEADS,
        STAGE,
        click.option(
            "--size",
            default="native",
            show_default=True,
            metavar="native|frame|N",
            help="Where predictions meet the truth: each image's own size, the square that encoders see, or another square.",
        ),
        choice("--protocol", RULES, "Sums over episodes; PANet's, which forgives false alarms in other images; means over images."),
        choice("--argmax", ("after", "before"), "The best label after scores are brought to that size, or before."),
        click.option("--align-corners", is_flag=True, help="How scores are brought to size: as PFENet, HSNet, BAM do, PANet not."),
        choice("--others", ("background", "ignore"), "What objects of classes that are no way are, in support and truth."),
        click.option("--outlines", default=tolerance, show_default=True, help="Tolerance of boundary F, of the diagonal; 0 leaves it out."),
        choice("--rims", ("drop", "nearest"), "Outlines where the truth is 255: not counted, or amid such rims, as PASCAL's are."),
        choice("--interval", ("episodes", "classes"), "What ± covers: other episodes of these classes, or other classes."),
        click.option("--no-reference", is_flag=True, help="Leave out the class-blind rules and the untrained encoder."),
        click.option("--memory", default=512, show_default=True, metavar="MIB", help="Of maps that are kept."),
    ]  # fmt: skip

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def chosen_scenes(
    data: str | None, split: str | None, fold: int | None, options: tuple[str, ...], *, held_out: bool = False
) -> Choice | None:
    """The source that was asked for, its test split where it has one and none was named. Raises ConfigError.

    Where a fold is named, here or (`held_out`) later, its classes are meant, whatever a source takes without a split.
    """
    if data is not None and split is None and (held_out or fold is not None):
        split = "test" if "split" in SOURCES.entry(data.partition(":")[0]).parameters else None
    return chosen_data(data, split, (*options, *((f"fold={fold}",) if fold is not None else ())))


def evaluation_protocol(
    data: str | None, split: str | None, fold: str, options: tuple[str, ...], ways: str, shots: str, queries: int, episodes: int, seed: int,
    short_classes: Literal["refuse", "leave_out"], episode_list: str, save_episodes: Path | None, heads: str | None, stage: str, size: str,
    protocol: str, argmax: Literal["after", "before"], align_corners: bool, others: Literal["background", "ignore"], outlines: float,
    rims: Literal["drop", "nearest"], interval: Literal["episodes", "classes"], no_reference: bool, memory: int,
) -> SegmentationProtocol:  # fmt: skip
    """What the options of `evaluation_options` ask for, checked before anything heavy is imported. Raises ConfigError."""
    if episodes < 2:
        raise ConfigError(f"--episodes: an interval needs at least 2, got {episodes}")
    if not 0 <= outlines < 1:
        raise ConfigError(f"--outlines: expected a share of the diagonal from 0 to below 1, got {outlines:g}")
    if memory < 1:
        raise ConfigError(f"--memory: expected MiB from 1, got {memory}")
    folds = list(dict.fromkeys(parse_numbers(fold, "--fold", lowest=0))) if fold else []
    parsed, choice, side = (
        parse_segmenters(heads) if heads else [],
        chosen_scenes(data, split, None, options, held_out=bool(folds)),
        _size(size),
    )
    way_list, shot_list = (list(dict.fromkeys(parse_numbers(text, name))) for text, name in ((ways, "--ways"), (shots, "--shots")))
    from kinshot.segmentation.evaluate import Limits
    from kinshot.segmentation.protocol import Protocol
    from kinshot.studies.segmentation.evaluate import SegmentationProtocol
    from kinshot.studies.segmentation.tasks import SceneDrawing

    drawing = SceneDrawing(way_list, shot_list, queries, episodes, seed, short_classes, episode_list, save_episodes)
    scoring = Protocol(side, argmax, align_corners, others, others)
    return SegmentationProtocol(
        choice, folds, drawing, parsed, stage, scoring, protocol, interval, not no_reference, outlines, Limits(memory_mib=memory), rims
    )


def _size(text: str) -> Literal["native", "frame"] | int:
    if text == "native":
        return "native"
    if text == "frame":
        return "frame"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"--size: expected native, frame, or a side in pixels, got {text!r}")
    return int(text)
