"""What to evaluate, as given on a command line: data and tasks, checked without importing torch."""

from __future__ import annotations

import re
from typing import Any

from kinshot.core.config import parse_override
from kinshot.core.errors import ConfigError, suggest
from kinshot.core.schema import shown
from kinshot.datasets import SOURCES
from kinshot.recipes.recipe import Choice

FEATURES = ("backbone", "projector", "joint")
Size = int | tuple[int, int]
"""A number of classes or of support images, or the least and the most of them where episodes differ."""
Task = tuple[int | str, int | str]
"""Ways and shots as a report has them: 5, or "2-10" where episodes differ."""
_SIZE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


def parse_data(text: str, split: str | None, options: tuple[str, ...] | list[str]) -> Choice:
    """`NAME[:ROOT]` with a split and further `key=value` settings as a checked data choice. Raises ConfigError.

    Only the settings that were given are kept, so that the caller can fill others (the image size of a checkpoint).
    """
    name, _, root = text.partition(":")
    entry = SOURCES.entry(name)
    settings: dict[str, Any] = {}
    if root:
        settings["root"] = root
    if split is not None:
        settings["split"] = split
    for option in options:
        path, value = parse_override(option)
        settings[".".join(path)] = value
    _, problems = SOURCES.check(name, settings, f"--data {name}")
    if problems:
        hint = f"; write --data {name}:FOLDER" if "root" in entry.parameters and not root else ""
        raise ConfigError("; ".join(problems) + hint)
    return Choice(name, settings)


def parse_numbers(text: str, option: str, lowest: int = 1) -> list[int]:
    """`1,5` as [1, 5]. Raises ConfigError naming the option."""
    parts = [part.strip() for part in text.split(",")]
    numbers = [int(part) for part in parts] if all(re.fullmatch(r"[0-9]{1,15}", part) for part in parts) else []
    if not numbers or min(numbers) < lowest:
        raise ConfigError(f"{option}: expected whole numbers from {lowest} separated by commas, such as 1,5; got {shown(text)}")
    return numbers


def parse_sizes(text: str, option: str) -> list[Size]:
    """`1,5` as [1, 5] and `5,2-10` as [5, (2, 10)], from 2 to 10. Raises ConfigError naming the option."""
    sizes: list[Size] = []
    for part in text.split(","):
        found = _SIZE.fullmatch(part.strip())
        least, most = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
        if least < 1 or most < least:
            raise ConfigError(f"{option}: expected numbers from 1 or ranges such as 2-10, separated by commas; got {text!r}")
        sizes.append((least, most) if most > least else least)
    return sizes


def parse_features(text: str) -> list[str]:
    """`backbone,projector,joint` as a list; others are outputs of a projector. Raises ConfigError for what is no name."""
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if not name.isidentifier():
            raise ConfigError(f"--features: expected some of {', '.join(FEATURES)}, or names of the projector's outputs, got {name!r}")
    return list(dict.fromkeys(names))


def check_features(names: list[str], outputs: tuple[str, ...], option: str = "--features") -> None:
    """Raise ConfigError for a feature that a checkpoint, whose projector has these named outputs, does not give."""
    known = [*FEATURES, *outputs]
    for name in names:
        if name not in known:
            raise ConfigError(f"{option}: this encoder has no feature {name!r}: {suggest(name, known)}")
