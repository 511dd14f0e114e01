"""A folder of decoded arrays, so that slow sources are built once. A cache: any file in it may be deleted or damaged."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_LOG = logging.getLogger(__name__)
_CHECKSUM = "checksum"


def cache_folder() -> Path:
    """`$KINSHOT_CACHE`, or `~/.cache/kinshot`. It is not created here."""
    chosen = os.environ.get("KINSHOT_CACHE")
    return Path(chosen) if chosen else Path(os.path.expanduser("~"), ".cache", "kinshot")


def cached_images(key: str, shape: tuple[int, ...], build: Callable[[], np.ndarray]) -> np.ndarray:
    """The uint8 array `build()` gives, read from the cache when it holds `key`, else built and written there.

    Args:
        key: file name without ending; must change with everything that the array depends on.
        shape: what the array must look like; a cached file that differs is rebuilt.
        build: makes the array; its errors pass through.

    A cache that cannot be read or written never fails the caller: it costs time only.
    """
    images = (read_arrays(key) or {}).get("images")
    if images is not None and (images.dtype != np.uint8 or images.shape != shape):
        _LOG.warning("cache file %s holds %s %s instead of uint8 %s and will be rebuilt", _path(key), images.dtype, images.shape, shape)
        images = None
    if images is None:
        images = build()
        write_arrays(key, {"images": images})
    return images


def read_arrays(key: str) -> dict[str, np.ndarray] | None:
    """The arrays kept under `key`, or None where there are none that are exactly what `write_arrays` wrote under that key."""
    path = _path(key)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if str(arrays.pop(_CHECKSUM)) == _checksum(key, arrays):
            return arrays
        problem: object = "its content is not what was written"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        problem = f"no {error}" if isinstance(error, KeyError) else error
    _LOG.warning("cache file %s is damaged (%s) and will be rebuilt", path, problem)
    return None


def write_arrays(key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep arrays under `key`, with a checksum of both. A cache that cannot be written is reported and does without."""
    path, temporary = _path(key), None
    content: dict[str, Any] = {**arrays, _CHECKSUM: np.array(_checksum(key, arrays))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}.", delete=False) as file:
            temporary = Path(file.name)
            np.savez_compressed(file, **content)
        os.replace(temporary, path)
    except OSError as error:
        _LOG.warning("cannot write cache file %s (%s): the next run builds it again", path, error)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _path(key: str) -> Path:
    return cache_folder() / f"{key}.npz"


def _checksum(key: str, arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of the key, and of names, kinds, shapes and bytes of arrays: a file under another's name is no match."""
    found = hashlib.sha256(key.encode())
    for name in sorted(arrays):
        found.update(repr((name, arrays[name].dtype.str, arrays[name].shape)).encode())
        found.update(np.ascontiguousarray(arrays[name]).data)
    return found.hexdigest()
