"""Lists of classes that published splits consist of, and the user's own, by which a folder of classes is divided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from kinshot.core.errors import ConfigError, DataError, suggest

LISTS = ("mini_imagenet", "tiered_imagenet", "cifar_fs", "fc100", "cub_torchmeta", "cub_easyfsl")
"""Published splits; what each is and where its list is from stands in its file."""
_NAMED = 8
_MOST_BYTES = 2**24


class ClassPart(NamedTuple):
    """One part of a list of classes: what it is called, its classes, and those of every part of the list."""

    name: str
    classes: list[str]
    listed: frozenset[str]


def names_a_list(split: str) -> bool:
    """Whether a split is LIST:PART, and not a subfolder."""
    return ":" in split


def other_part(split: str, part: str) -> str:
    """Another part of the same list: `mini_imagenet:train` and val give `mini_imagenet:val`."""
    return f"{split.rpartition(':')[0]}:{part}" if names_a_list(split) and not names_a_list(part) else part


def class_part(split: str) -> ClassPart:
    """The part that `LIST:PART` names, LIST being one of LISTS or a JSON file of the user's, `{"train": [names], "test": [names]}`.

    Raises:
        ConfigError: an unknown list or part, with the closest one.
        DataError: a file that cannot be read, or that is no such list.
    """
    name, _, part = split.rpartition(":")
    if name in LISTS:
        text = resources.files("kinshot.datasets").joinpath(f"splits/{name}.json").read_text(encoding="utf-8")
    elif name.endswith(".json"):
        text = _read(Path(name).expanduser())
    else:
        raise ConfigError(f"split {split!r}: no list of classes is called {name!r}: {suggest(name, LISTS)}, or give FILE.json:PART")
    parts = _parts(name, text)
    if part not in parts:
        raise ConfigError(f"split {split!r}: {name} has no part {part!r}: {suggest(part, parts)}")
    return ClassPart(split, parts[part], frozenset(one for classes in parts.values() for one in classes))


def chosen_classes(part: ClassPart, found: Sequence[str], place: Path, *, leave_out: bool) -> list[str]:
    """The classes of a part, of the class folders that were `found` in a place; in the order of `found`.

    Raises DataError, with names and counts, for classes of the part without a folder, and, unless they may be left out, for folders that
    are in no part of the list.
    """
    missing = sorted(set(part.classes) - set(found))
    if missing:
        raise DataError(
            f"{part.name} lists {len(part.classes)} classes, and {len(missing)} of them have no folder in {place}: {_some(missing)}; "
            "add them, or set root to the folder of all classes"
        )
    extra = [name for name in found if name not in part.listed]
    if extra and not leave_out:
        raise DataError(
            f"{place} has {len(extra)} class folders that are in no part of {part.name.rpartition(':')[0]}: {_some(extra)}; "
            "move them elsewhere, or set unlisted=leave_out"
        )
    wanted = set(part.classes)
    return [name for name in found if name in wanted]


def _read(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise DataError(f"no list of classes in {path}: give a JSON file of names, at most {_MOST_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list of classes {path}: {error}; give a JSON file in UTF-8") from error


def _parts(name: str, text: str) -> dict[str, list[str]]:
    """The parts of a list by name; what is no list of names, such as a remark, is no part."""
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no JSON file: {error}; correct it") from error
    parts = {key: value for key, value in found.items() if isinstance(value, list)} if isinstance(found, dict) else {}
    for key, classes in parts.items():
        if not classes or not all(isinstance(one, str) and one for one in classes) or len(set(classes)) < len(classes):
            raise DataError(f"{name}: {key} must be different names of classes; correct the list")
    if not parts:
        raise DataError(f'{name} has no part: write {{"train": [names], "test": [names]}}')
    given = [one for classes in parts.values() for one in classes]
    twice = sorted({one for one in given if given.count(one) > 1}) if len(set(given)) < len(given) else []
    if twice:
        raise DataError(f"{name}: {len(twice)} classes stand in two parts: {_some(twice)}; a class belongs to one")
    return parts


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
