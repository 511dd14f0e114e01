"""A folder of decoded arrays, so that slow sources are built once. A cache: any file in it may be deleted or damaged."""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

_LOG = logging.getLogger(__name__)


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
    path = cache_folder() / f"{key}.npz"
    images = _read(path, shape)
    if images is None:
        images = build()
        _write(path, images)
    return images


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = archive["images"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        _LOG.warning("cache file %s is damaged (%s) and will be rebuilt", path, error)
        return None
    if images.dtype != np.uint8 or images.shape != shape:
        _LOG.warning("cache file %s holds %s %s instead of uint8 %s and will be rebuilt", path, images.dtype, images.shape, shape)
        return None
    return images


def _write(path: Path, images: np.ndarray) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.stem}.", delete=False) as file:
            temporary = Path(file.name)
            np.savez_compressed(file, images=images)
        os.replace(temporary, path)
    except OSError as error:
        _LOG.warning("cannot write cache file %s (%s): the next run builds it again", path, error)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
