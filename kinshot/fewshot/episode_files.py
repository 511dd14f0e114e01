"""Episode lists as files, so that others can measure on the very same episodes; arrays or JSON, never pickle."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.atomic import make_folder, write_bytes
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.small_files import parse_json, read_arrays, read_json
from kinshot.fewshot.episodes import Episodes, check_labels
from kinshot.fewshot.groups import EpisodeGroups, grouped

_MOST = 4 * 2**30
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
    arrays: dict[str, np.ndarray] = {}
    for g, (group, numbers) in enumerate(zip(found.groups, found.numbers, strict=True)):
        arrays |= {f"{name}_{g}": getattr(group, name).numpy() for name in _PARTS} | {f"numbers_{g}": numbers.numpy()}
    if _suffix(path) == ".json":
        data = json.dumps({**head, **{key: value.tolist() for key, value in arrays.items()}}).encode()
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, head=np.array(json.dumps(head)), **arrays)  # type: ignore[arg-type]
        data = buffer.getvalue()
    make_folder(path.parent)
    write_bytes(path, data)


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
    content = _read_json(path) if _suffix(path) == ".json" else _read_npz(path)
    if content.get("format") != _FORMAT or not isinstance(content.get("groups"), int):
        raise DataError(f"{path} is no list of episodes: expected the format {_FORMAT!r}, got {content.get('format')!r}")
    try:
        groups = [Episodes(**{name: _tensor(content, f"{name}_{g}") for name in _PARTS}) for g in range(content["groups"])]
        found = EpisodeGroups(tuple(groups), tuple(_tensor(content, f"numbers_{g}") for g in range(content["groups"])))
        if content.get("sha256", found.hash()) != found.hash():  # a list made by hand may leave the sum out
            raise DataError("the content does not match its SHA-256: the file was changed or damaged; copy it again")
        for group in found.groups if labels is not None else ():
            check_labels(group, np.asarray(labels))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    theirs = str(content.get("fingerprint", ""))
    if fingerprint and theirs and theirs != fingerprint:
        raise DataError(
            f"{path} was made for data with fingerprint {theirs[:12]}, this data has {fingerprint[:12]}: use the data it was made for"
        )
    return found


def _suffix(path: Path) -> str:
    if path.suffix not in (".npz", ".json"):
        raise ConfigError(f"episodes are kept in .npz or .json files, got {path.name!r}: choose one of these suffixes")
    return path.suffix


def _read_json(path: Path) -> dict[str, Any]:
    content = read_json(path, most=_MOST)
    return content if isinstance(content, dict) else {}


def _read_npz(path: Path) -> dict[str, Any]:
    arrays: dict[str, Any] = read_arrays(path, remedy="give an .npz file of plain arrays that is not damaged")
    head = parse_json(str(arrays.pop("head", "{}")), f"the head of {path}")
    return {**arrays, **head} if isinstance(head, dict) else {}


def _tensor(content: dict[str, Any], key: str) -> torch.Tensor:
    if key not in content:
        raise DataError(f"{key} is missing: the file was cut short or is of another kind")
    try:
        value = np.array(content[key])
    except (ValueError, OverflowError) as error:  # rows of different lengths, numbers beyond int64
        raise DataError(f"{key} is no table of whole numbers: every row needs the same length") from error
    if value.dtype.kind not in "iu" or value.ndim != (1 if key.startswith("numbers") else 2):
        raise DataError(f"{key} must be a table of whole numbers, got {value.dtype} {value.shape}")
    return torch.from_numpy(value.astype(np.int64))
