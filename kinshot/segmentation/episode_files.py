"""Lists of dense episodes as files, so that others can measure on the very same ones; arrays or JSON, never pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from kinshot.core.array_files import check_fingerprint, read_tables, table_in, write_tables
from kinshot.core.errors import DataError
from kinshot.datasets.scenes import Scenes
from kinshot.segmentation.episode_checks import check_episodes
from kinshot.segmentation.episodes import DenseEpisodes

_FORMAT = "kinshot dense episodes 1"
_RANKS = {"classes": 2, "support": 3, "query": 2, "target": 2}
WHAT = "episodes"


@dataclass(frozen=True)
class EpisodeList:
    """Episodes and what they were made for.

    Args:
        episodes: the episodes.
        class_names: name of each class, whose number among them plus 1 the episodes hold; empty where nobody says.
        fingerprint: `fingerprint_of` the source; empty where nobody says.
    """

    episodes: DenseEpisodes
    class_names: tuple[str, ...] = ()
    fingerprint: str = ""


def fingerprint_of(source: Scenes) -> str:
    """SHA-256 (hex) of what episodes rest on: classes, which images hold them, photographs, and sizes of the images as they are.

    Unlike `Source.fingerprint` it is the same in every frame that shows the same objects, so that encoders for several sizes share a list
    as long as no picture loses a small object in one of them.
    """
    digest = hashlib.sha256(json.dumps(["kinshot scenes 1", list(source.class_names)]).encode())
    for values, kind in ((source.contains, "u1"), (source.photos, "<i8"), (source.sizes, "<i8")):
        found = np.asarray(values)
        digest.update(f"\0{found.shape}\0".encode())
        digest.update(np.ascontiguousarray(found, dtype=kind).data)
    return digest.hexdigest()


def write_episode_list(path: str | Path, found: EpisodeList) -> None:
    """Write episodes to `path`: arrays for the suffix .npz, text for .json; missing folders are made.

    Raises:
        ConfigError: another suffix.
        DataError: the file cannot be written.
    """
    names, sum_of = list(found.class_names), found.episodes.hash()
    head = {"format": _FORMAT, "sha256": sum_of, "fingerprint": found.fingerprint, "class_names": names}
    write_tables(Path(path), head, {field.name: getattr(found.episodes, field.name) for field in fields(DenseEpisodes)}, WHAT)


def read_episode_list(path: str | Path) -> EpisodeList:
    """Read what `write_episode_list` wrote, or what was put into its form by hand, where the sum, names and fingerprint may be missing.

    Raises:
        ConfigError: another suffix.
        DataError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    content = read_tables(path, WHAT)
    if content.get("format") != _FORMAT:
        raise DataError(f"{path} is no list of dense episodes: expected the format {_FORMAT!r}, got {content.get('format')!r}")
    names = content.get("class_names", [])
    try:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"class_names must be a list of texts, got {names!r}: give one name to a class, or leave them out")
        episodes = DenseEpisodes(**{name: table_in(content, name, rank) for name, rank in _RANKS.items()})
        if content.get("sha256", episodes.hash()) != episodes.hash():
            raise DataError("the content does not match its SHA-256: the file was changed or damaged; copy it again")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return EpisodeList(episodes, tuple(names), str(content.get("fingerprint", "")))


def read_dense_episodes(path: str | Path, source: Scenes) -> DenseEpisodes:
    """Episodes of a file, checked against the data that they are to be measured on.

    Raises what `read_episode_list` does, and DataError where the file names other classes or another fingerprint, or where the episodes
    do not fit the images.
    """
    found = read_episode_list(path)
    if found.class_names and list(found.class_names) != list(source.class_names):
        ours, theirs = list(source.class_names), list(found.class_names)
        place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
        named = [repr(names[place]) if place < len(names) else "none" for names in (theirs, ours)]
        raise DataError(
            f"{path} was made for {len(theirs)} classes, of which number {place + 1} is {named[0]}; {source.name} has {len(ours)}, "
            f"and there it is {named[1]}: use the data, split and fold that it was made for{_same_frame(source)}"
        )
    try:
        check_fingerprint(Path(path), found.fingerprint, fingerprint_of(source))
    except DataError as error:
        raise DataError(f"{error}{_same_frame(source)}") from error
    try:
        check_episodes(found.episodes, np.asarray(source.contains), source.photos, source.class_names)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return found.episodes


def _same_frame(source: Scenes) -> str:
    """What to do where it is the frame that differs: a picture does not count for an object that is lost in it."""
    said = f"a square that loses small objects makes other data, and these are met in {source.frame}"
    return f"; {said}: make the list with --set size={source.frame.size}"
