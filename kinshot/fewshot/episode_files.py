"""Episode lists as files, so that others can measure on the very same episodes; arrays or JSON, never pickle."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from kinshot.core.array_files import check_fingerprint, read_tables, table_in, write_tables
from kinshot.core.errors import DataError
from kinshot.fewshot.episodes import Episodes, check_labels
from kinshot.fewshot.groups import EpisodeGroups, grouped

_FORMAT = "kinshot episodes 1"
_PARTS = tuple(field.name for field in fields(Episodes))


def write_episodes(path: str | Path, episodes: Episodes | EpisodeGroups, *, fingerprint: str = "") -> None:
    """Write episodes to `path`: arrays for the suffix .npz, text for .json.

    Args:
        path: the file to write or replace; missing folders are made.
        episodes: what `read_episodes` or `read_groups` will give back.
        fingerprint: the source's `fingerprint()`, which a reader can insist on; empty leaves it out.

    Raises:
        ConfigError: another suffix.
        DataError: the file cannot be written.
    """
    path = Path(path)
    found = grouped(episodes)
    head = {"format": _FORMAT, "sha256": found.hash(), "fingerprint": fingerprint, "groups": len(found.groups)}
    tables: dict[str, np.ndarray] = {}
    for g, (group, numbers) in enumerate(zip(found.groups, found.numbers, strict=True)):
        tables |= {f"{name}_{g}": getattr(group, name).numpy() for name in _PARTS} | {f"numbers_{g}": numbers.numpy()}
    write_tables(path, head, tables, "episodes")


def read_episodes(path: str | Path, *, labels: np.ndarray | None = None, fingerprint: str = "") -> Episodes:
    """Read episodes of one shape that `write_episodes` wrote, or that were put into its form by hand.

    Args:
        path: a .npz or .json file.
        labels: class of every image of the data, to check the episodes against; None checks only that they make sense.
        fingerprint: the source's `fingerprint()`, compared with the one in the file where both have one.

    Raises:
        ConfigError: another suffix.
        DataError: the file is missing, damaged or of another kind, holds episodes of several shapes, or does not fit the data.
    """
    found = read_groups(path, labels=labels, fingerprint=fingerprint)
    if len(found.groups) > 1:
        raise DataError(f"{path} holds episodes of {len(found.groups)} shapes: read it with read_groups")
    return found.alone()


def read_groups(path: str | Path, *, labels: np.ndarray | None = None, fingerprint: str = "") -> EpisodeGroups:
    """Read what `write_episodes` wrote, of one shape or several; see `read_episodes` for arguments and errors."""
    path = Path(path)
    content = read_tables(path, "episodes")
    if content.get("format") != _FORMAT or not isinstance(content.get("groups"), int):
        raise DataError(f"{path} is no list of episodes: expected the format {_FORMAT!r}, got {content.get('format')!r}")
    try:
        count = range(content["groups"])
        groups = [Episodes(**{name: torch.from_numpy(table_in(content, f"{name}_{g}", 2)) for name in _PARTS}) for g in count]
        found = EpisodeGroups(tuple(groups), tuple(torch.from_numpy(table_in(content, f"numbers_{g}", 1)) for g in count))
        if content.get("sha256", found.hash()) != found.hash():  # a list made by hand may leave the sum out
            raise DataError("the content does not match its SHA-256: the file was changed or damaged; copy it again")
        for group in found.groups if labels is not None else ():
            check_labels(group, np.asarray(labels))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    check_fingerprint(path, str(content.get("fingerprint", "")), fingerprint)
    return found
