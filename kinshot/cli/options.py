"""What `fewshot eval` and `fewshot report` share: options, and what they say together."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from kinshot.core.errors import ConfigError
from kinshot.core.part_text import split_text
from kinshot.fewshot.specs import alternatives, parse_head, split_heads
from kinshot.recipes.recipe import Choice
from kinshot.recipes.specs import parse_data, parse_numbers

Decorator = Callable[[Any], Any]
WHERE = "NAME[:ROOT][,KEY=VALUE...]"

INTERVAL = click.option(
    "--interval",
    type=click.Choice(["episodes", "classes"]),
    default="episodes",
    show_default=True,
    help="What ± covers: other episodes of these classes, or other classes too.",
)
NO_REFERENCE = click.option("--no-reference", is_flag=True, help="Leave out the untrained encoder and raw pixels, rows or statistics.")
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No messages on stderr.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


ALLOW_UNFINISHED = click.option(
    "--allow-unfinished", is_flag=True, help="Measure checkpoints of runs, too, that did not get to the end of their training."
)


def checkpoint_arguments(name: str) -> Decorator:
    """The checkpoints that a command measures, called `name` in its usage; those of unfinished runs are refused unless allowed."""
    stacked = _stacked(
        click.argument("checkpoints", metavar=name, nargs=-1, required=True, type=click.Path(path_type=Path)), ALLOW_UNFINISHED
    )

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def checked(*, checkpoints: tuple[Path, ...], allow_unfinished: bool, **given: Any) -> Any:
            from kinshot.runs.reached import refuse_unfinished

            refuse_unfinished(checkpoints, allow_unfinished)
            return command(checkpoints=checkpoints, **given)

        return stacked(checked)

    return decorate


def data_options() -> Decorator:
    """Where the episodes' samples and the base classes come from."""
    return _stacked(
        click.option(
            "--data", metavar="NAME[:ROOT]", help="Source to draw episodes from [default: the checkpoint's own data, split test]."
        ),
        click.option("--split", help="Split of the source [default: test where the source has one]."),
        click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="Further settings of the source; may be repeated."),
        click.option(
            "--base", metavar="NAME[:ROOT]", help="Base classes, for heads that know them [default: the checkpoint's training data]."
        ),
    )


def episode_options(*, shots: str, ranges: bool = False) -> Decorator:
    """How many episodes of which size, with a default for the shots; `ranges` says that they may be ranges."""
    ways_range, shots_range = ("; 5-20 lets episodes differ", "; 1-5 lets classes differ") if ranges else ("", "")
    return _stacked(
        click.option(
            "--ways", help=f"Classes per episode; several with commas, `all` for every class{ways_range} [default: 5, or all of fewer]."
        ),
        click.option("--shots", default=shots, show_default=True, help=f"Support images per class; several with commas{shots_range}."),
        click.option("--queries", type=int, help="Query images per class [default: 15, or what the smallest class has left of fewer]."),
        click.option("--episodes", default=600, show_default=True, help="Episodes per task."),
        click.option("--seed", default=0, show_default=True, help="Key of the episodes."),
    )


def head_options(*, heads: str, features: str | None) -> Decorator:
    """Which heads on which features, with their defaults; without one for the features they are all that every checkpoint gives."""
    every = " [default: backbone,projector,joint; backbone where one was not trained here]" if features is None else ""
    return _stacked(
        click.option("--heads", default=heads, show_default=True, help="Heads with settings: prototype,logistic:C=1,..."),
        click.option("--features", default=features, show_default=True, help=f"backbone, projector, joint, or projector outputs.{every}"),
    )


def choosing_options() -> Decorator:
    """Whether, and on what, heads' settings and the feature are chosen."""
    return _stacked(
        click.option(
            "--choose",
            type=click.Choice(["val"]),
            help="Choose each head's settings (logistic:C=0.1|1|10) and feature on validation episodes; only those are then measured.",
        ),
        click.option("--validation", metavar=WHERE, help="Validation classes for --choose [default: the checkpoints' own split val]."),
    )


def candidates_of(choose: str | None, validation: str | None, heads: str) -> Any:
    """What is chosen from, or None where nothing is to be chosen. Raises ConfigError."""
    if choose is None:
        if validation is not None:
            raise ConfigError("--validation names what to choose on: add --choose val")
        if "|" in heads:
            raise ConfigError(f"--heads {heads}: of alternatives (|) one is chosen on validation classes: add --choose val, or keep one")
        return None
    grids = [[(one, *parse_head(one)) for one in alternatives(text)] for text in split_heads(heads)]
    from kinshot.studies.choosing import Candidates

    return Candidates(grids, None if validation is None else named_source(validation, "val"))


def named_source(text: str, split: str) -> Choice:
    """`NAME[:ROOT][,KEY=VALUE...]` as a checked choice, with that split where the source has it and none was given. Raises ConfigError."""
    from kinshot.datasets import SOURCES

    place, *settings = split_text(text, ",", "source", "folder:photos,size=64")  # commas in brackets belong to a value
    known = SOURCES.entry(place.partition(":")[0]).parameters.get("split")
    return parse_data(place, split if known is not None and f"'{split}'" in known.annotation else None, settings)


def base_data(base: str | None) -> Choice | None:
    """The source of the base classes that was asked for. Raises ConfigError."""
    return parse_data(base, None, ()) if base else None


def parsed_ways(ways: str | None) -> list[int] | None:
    """`5,20` as [5, 20], `all` as [0], and None where the classes decide. Raises ConfigError."""
    if ways is None:
        return None
    return [0] if ways == "all" else parse_numbers(ways, "--ways")


def parsed_heads(heads: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(text, name, settings) of each head. Raises ConfigError."""
    return [(text, *parse_head(text)) for text in split_heads(heads)]


def chosen_data(data: str | None, split: str | None, options: tuple[str, ...]) -> Choice | None:
    """The source that was asked for, its test split where it has one and none was named. Raises ConfigError."""
    if data is None and (split or options):
        raise ConfigError("--split and --set need --data: say which source they belong to")
    return parse_data(data, split or _default_split(data), options) if data else None


def check_counts(queries: int | None, episodes: int) -> None:
    """Raise ConfigError where there is nothing to ask, or too few episodes for an interval."""
    queries = 1 if queries is None else queries
    if queries < 1 or episodes < 2:
        raise ConfigError(f"--queries must be at least 1 and --episodes at least 2, got {queries} and {episodes}")


def _default_split(data: str) -> str | None:
    from kinshot.datasets import SOURCES

    entry = SOURCES.entry(data.partition(":")[0])
    split: Any = entry.parameters.get("split")
    return "test" if split is not None and "'test'" in split.annotation else None


def _stacked(*options: Decorator) -> Decorator:
    """One decorator for several options, listed by --help in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
