"""`segmentation episodes`: lists of dense episodes, made and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from kinshot.cli.common import Group, lines, say, show
from kinshot.cli.options import JSON
from kinshot.cli.outputs import OUTPUT_FILE
from kinshot.cli.segment_options import SHORT_CLASSES, chosen_scenes
from kinshot.core.errors import DataError


@click.group(name="episodes", cls=Group)
def episodes_group() -> None:
    """Make lists of episodes, and look at them."""


@episodes_group.command(name="make")
@click.option("--data", required=True, metavar="NAME[:ROOT]", help="Source of images with class maps.")
@click.option("--split", help="Split of the source [default: test where the source has one].")
@click.option("--fold", type=int, help="Fold of the source, short for --set fold=....")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of the source; may be repeated.")
@click.option("--ways", default=1, show_default=True, help="Classes of an episode.")
@click.option("--shots", default=1, show_default=True, help="Support images of each class.")
@click.option("--queries", default=1, show_default=True, help="Queries of an episode, all classes together.")
@click.option("--episodes", default=1000, show_default=True, help="Episodes.")
@click.option("--seed", default=0, show_default=True, help="Key of the episodes.")
@SHORT_CLASSES
@click.option("-o", "--out", type=OUTPUT_FILE, required=True, metavar="FILE", help="Where to keep them: .npz or .json.")
@JSON
def make_command(
    data: str, split: str | None, fold: int | None, options: tuple[str, ...], ways: int, shots: int, queries: int, episodes: int, seed: int,
    short_classes: Literal["refuse", "leave_out"], out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Draw episodes and keep them in a file, for `segmentation eval --episode-list`."""
    choice = chosen_scenes(data, split, fold, options)
    from kinshot.core.array_files import check_suffix
    from kinshot.segmentation.episode_files import WHAT, write_episode_list
    from kinshot.studies.segmentation.tasks import SceneDrawing, drawn, episode_list, scenes_of

    check_suffix(out, WHAT)
    source = scenes_of(choice)
    for note in source.said():
        say(note)
    found = drawn(source, ways, shots, SceneDrawing([ways], [shots], queries, episodes, seed, short_classes), say)
    write_episode_list(out, episode_list(found, source))
    told = {"file": str(out), "data": source.name, "episodes": len(found), "ways": ways, "shots": shots, "queries": queries, "seed": seed}
    show({**told, "hash": found.hash()}, as_json, lambda: lines({**told, "hash": found.hash()}))


@episodes_group.command(name="inspect")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--data", metavar="NAME[:ROOT]", help="The source that they were made for, to check them against it.")
@click.option("--split", help="Split of the source [default: test where the source has one].")
@click.option("--fold", type=int, help="Fold of the source, short for --set fold=....")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of the source; may be repeated.")
@JSON
def inspect_command(file: Path, data: str | None, split: str | None, fold: int | None, options: tuple[str, ...], as_json: bool) -> None:
    """Say what is in FILE: sizes, how often each class plays, which images, the hash; and whether it fits --data.

    Problems are printed, and end with exit code 3.
    """
    choice = chosen_scenes(data, split, fold, options)
    from kinshot.studies.segmentation.tasks import inspected, scenes_of

    found = inspected(file, None if choice is None else scenes_of(choice))
    show(found, as_json, lambda: lines(found))
    if found.get("problems"):
        raise DataError(f"{file}: {len(found['problems'])} problems with these data: {found['problems'][0]}; use what it was made for")
