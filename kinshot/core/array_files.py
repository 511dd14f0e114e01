"""Tables of whole numbers with a head of plain values as one file, .npz or .json: lists of episodes are kept so; never pickle."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.atomic import make_folder, write_bytes
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.small_files import parse_json, read_arrays, read_json

_MOST = 4 * 2**30
SUFFIXES = (".npz", ".json")


def check_suffix(path: Path, what: str) -> None:
    """Raises ConfigError for a name that says neither of the two forms; `what` is kept there, in messages."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{what} are kept in .npz or .json files, got {path.name!r}: choose one of these suffixes")


def write_tables(path: Path, head: Mapping[str, Any], tables: Mapping[str, np.ndarray], what: str) -> None:
    """Write or replace a file; missing folders are made. Raises ConfigError for another suffix, DataError where it cannot be written."""
    check_suffix(path, what)
    if path.suffix == ".json":
        data = json.dumps({**head, **{key: value.tolist() for key, value in tables.items()}}).encode()
    else:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, head=np.array(json.dumps(head)), **tables)  # type: ignore[arg-type]
        data = buffer.getvalue()
    make_folder(path.parent)
    write_bytes(path, data)


def read_tables(path: Path, what: str) -> dict[str, Any]:
    """Head and tables of a file as one mapping, not checked further: empty where it is none of ours.

    Raises ConfigError for another suffix, DataError where it is missing or damaged.
    """
    check_suffix(path, what)
    if path.suffix == ".json":
        content = read_json(path, most=_MOST)
        return content if isinstance(content, dict) else {}
    arrays: dict[str, Any] = read_arrays(path, remedy="give an .npz file of plain arrays that is not damaged")
    found = parse_json(str(arrays.pop("head", "{}")), f"the head of {path}")
    return {**arrays, **found} if isinstance(found, dict) else {}


def table_in(content: Mapping[str, Any], key: str, rank: int) -> np.ndarray:
    """The table of that name, int64 with so many dimensions. Raises DataError where it is missing or something else."""
    if key not in content:
        raise DataError(f"{key} is missing: the file was cut short or is of another kind")
    try:
        value = np.array(content[key])
    except (ValueError, OverflowError) as error:  # rows of different lengths, numbers beyond int64
        raise DataError(f"{key} is no table of whole numbers: every row needs the same length") from error
    if value.dtype.kind not in "iu" or value.ndim != rank:
        raise DataError(f"{key} must be a table of whole numbers, got {value.dtype} {value.shape}")
    return value.astype(np.int64)


def check_fingerprint(path: Path, theirs: str, ours: str) -> None:
    """Raises DataError where a file was made for other data, as far as both are known."""
    if ours and theirs and theirs != ours:
        raise DataError(f"{path} was made for data with fingerprint {theirs[:12]}, this data has {ours[:12]}: use the data it was made for")
