"""Every sample of a source tried before anything is trained on it: what cannot be read, what is left out, and what is a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import FileSource, Source
from kinshot.datasets.files import content_digests
from kinshot.datasets.images import failures
from kinshot.datasets.scene_files import FileScenes


@dataclass(frozen=True)
class Checked:
    """What was found.

    Attributes:
        name: what the source is called.
        samples: how many it has, unreadable ones among them.
        classes: how many classes, 0 without labels.
        unreadable: (file, what is wrong with it); where a source does not say which file, one entry with an empty name.
        notes: what the source itself says: endings and folders that it leaves out, and so on.
        said: what it says of itself when it is used, and not already when it is built: a part of `notes`, with its name.
        copies: groups of files with one content.
        smallest: (class, samples) of the class with fewest readable samples, or None without labels.
    """

    name: str
    samples: int = 0
    classes: int = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    copies: list[list[str]] = field(default_factory=list)
    smallest: tuple[str, int] | None = None


def check_data(name: str, settings: Mapping[str, Any]) -> Checked:
    """Build a source and read every one of its samples. Raises ConfigError for settings that do not fit; files never end it.

    Args:
        name: of a source.
        settings: its settings.
    """
    known = SOURCES.entry(name).parameters
    # on demand, so that a file that cannot be read ends nothing, and with all that is there
    asked = {"in_memory_mib": 0, "unreadable": "refuse"}
    try:
        source = SOURCES.build(name, settings={**settings, **{key: value for key, value in asked.items() if key in known}})
    except DataError as error:
        return Checked(name, unreadable=[("", str(error))])
    failed: dict[int, str] = {}
    copies: list[list[str]] = []
    files = source.files if isinstance(source, FileSource | FileScenes) else None
    if isinstance(source, FileSource | FileScenes) and files is not None:
        failed = failures(len(files), lambda row: source.load([row], source.fields))
        readable = [row for row in range(len(files)) if row not in failed]
        copies = _copies([str(files[row]) for row in readable], content_digests([files[row] for row in readable], source.root))
    return Checked(
        source.name,
        len(source),
        len(source.class_names),
        [] if files is None else [(str(files[row]), why) for row, why in failed.items()],
        list(source.notes),
        source.said(),
        copies,
        _smallest(source, failed),
    )


def _copies(files: list[str], digests: np.ndarray) -> list[list[str]]:
    groups: dict[bytes, list[str]] = {}
    for file, content in zip(files, digests.tolist(), strict=True):
        groups.setdefault(content, []).append(file)
    return [group for group in groups.values() if len(group) > 1]


def _smallest(source: Source, failed: Mapping[int, str]) -> tuple[str, int] | None:
    if not source.class_names:
        return None
    if source.contains is not None:
        counts = np.delete(source.contains, list(failed), axis=0).sum(axis=0).tolist()
    else:
        counts = np.bincount(np.delete(np.asarray(source.labels), list(failed)), minlength=len(source.class_names)).tolist()
    label = min(range(len(counts)), key=counts.__getitem__)
    return source.class_names[label], counts[label]
