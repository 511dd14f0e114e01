"""Files as data: only regular ones are opened, and what a file is, is its content, whatever its name, size and times say."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from kinshot.core.small_files import check_regular, read_file
from kinshot.datasets.cache import read_arrays, write_arrays

# What was written less than this before it was read may be written again without a new time: such a file is hashed every time.
_SETTLED_NS = 2_000_000_000
_MOST_REMEMBERED = 4_000_000
_SMALL, _THREADS, _CHUNK = 32 * 1024, 8, 256
_LARGEST = 2**40


def regular_file(path: Path) -> os.stat_result:
    """The status of a plain file. Raises DataError for one that is missing, or is a pipe, a device, a socket or a folder."""
    return check_regular(path, remedy="put the file back, or leave it out of the data")


def digest(content: bytes) -> str:
    """The hash by which a content is known: BLAKE2b of 16 bytes, as hex (raw bytes would lose NULs at their end in numpy)."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def content_digests(paths: Sequence[Path], root: Path) -> np.ndarray:
    """The `digest` of each file's content, bytes (N,) of dtype S32.

    Files are read once: later calls remember them, in a cache for each `root`, by path, device, inode, size and the times of
    their last changes of content and of status. No user can set the last of these, so a file that was replaced is read again
    even where its size and its time are kept. Raises DataError naming a file that cannot be read.
    """
    cache = f"digests/{digest(os.fsencode(root.absolute()))}"
    started = time.time_ns()
    before = [regular_file(path) for path in paths]
    keys = [_identity(path, status) for path, status in zip(paths, before, strict=True)]
    known = _remembered(cache)
    unknown = [row for row, key in enumerate(keys) if key not in known]
    found = np.array([known.get(key, b"") for key in keys], dtype="S32")
    settled: list[int] = []

    def fill(row: int) -> None:
        found[row] = digest(read_file(paths[row], most=_LARGEST)).encode()
        if _is_settled(before[row], started) and _identity(paths[row], regular_file(paths[row])) == keys[row]:
            settled.append(row)

    small = sum(before[row].st_size for row in unknown) < _SMALL * len(unknown)
    in_threads(unknown, fill, 1 if small else _THREADS)
    if settled:
        _remember(cache, known | {keys[row]: bytes(found[row]) for row in settled})
    return found


def content_listing(paths: Sequence[Path], root: Path) -> bytes:
    """Relative path and content hash of each file, one per line. Raises DataError naming a file that cannot be read."""
    lines = [
        b"%s\0%s\n" % (os.fsencode(path.relative_to(root).as_posix()), content)
        for path, content in zip(paths, content_digests(paths, root).tolist(), strict=True)
    ]
    return b"".join(lines)


def dated_listing(paths: Sequence[Path], root: Path) -> bytes:
    """Relative path, size and modification time of each file: how version 0.1.0 knew them. Raises DataError."""
    lines = []
    for path in paths:
        status = regular_file(path)
        lines.append(f"{path.relative_to(root).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def in_threads(rows: Sequence[int], act: Callable[[int], object], threads: int) -> None:
    """`act` on every row, by up to so many threads; the first error of the earliest rows is raised and ends the rest."""

    def part(start: int) -> None:
        for row in rows[start : start + _CHUNK]:
            act(row)

    starts = range(0, len(rows), _CHUNK)
    workers = min(threads, os.cpu_count() or 1, len(starts))
    if workers <= 1:
        for start in starts:
            part(start)
        return
    with ThreadPoolExecutor(workers) as pool:
        jobs = [pool.submit(part, start) for start in starts]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _identity(path: Path, status: os.stat_result) -> bytes:
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return digest(os.fsencode(path.absolute()) + repr(parts).encode()).encode()


def _is_settled(status: os.stat_result, now: int) -> bool:
    # On Windows st_ctime is when a file was made, which a replacement keeps.
    return os.name != "nt" and max(status.st_mtime_ns, status.st_ctime_ns) < now - _SETTLED_NS


def _remembered(cache: str) -> dict[bytes, bytes]:
    arrays = read_arrays(cache) or {}
    keys, values = arrays.get("keys"), arrays.get("digests")
    if keys is None or values is None or keys.shape != values.shape or {keys.dtype, values.dtype} != {np.dtype("S32")}:
        return {}
    return dict(zip(keys.tolist(), values.tolist(), strict=True))


def _remember(cache: str, known: dict[bytes, bytes]) -> None:
    latest = list(known.items())[-_MOST_REMEMBERED:]
    keys, values = zip(*latest, strict=True)
    write_arrays(cache, {"keys": np.array(keys, dtype="S32"), "digests": np.array(values, dtype="S32")})
