"""Small files from anywhere, read without trusting them: what is no regular file, or too large, is never read into memory."""

from __future__ import annotations

import json
import os
import re
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinshot.core.errors import DataError, KinshotError

if TYPE_CHECKING:
    import numpy as np

_NUMERAL = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE | re.ASCII)
_PIECE = 16 * 2**20
SMALL = 64 * 2**20
"""Most bytes of a text file: far more than any recipe, table of edges or list of episodes needs."""


def read_file(path: str | Path, *, most: int = SMALL, error: type[KinshotError] = DataError, remedy: str = "check the path") -> bytes:
    """The bytes of a regular file. A pipe or a device in its place is refused instead of waited for or read without end.

    Args:
        path: the file.
        most: the largest size that is read.
        error: what to raise.
        remedy: the end of the message: what to do.

    Raises:
        KinshotError: of type `error`: missing, unreadable, no regular file, or larger than `most` bytes.
    """
    try:
        # without waiting: opening a pipe would block until somebody writes to it
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise error(f"{path} is {_kind(found.st_mode)}, expected a regular file; {remedy}")
        with open(descriptor, "rb") as file:
            pieces, rest = [], most + 1 if found.st_size <= most else 0
            while rest > 0 and (piece := file.read(min(rest, _PIECE))):
                pieces.append(piece)
                rest -= len(piece)
    except (OSError, ValueError) as problem:  # ValueError: a name with a NUL in it
        raise error(f"cannot read {path}: {getattr(problem, 'strerror', None) or problem}; {remedy}") from problem
    data = b"".join(pieces)
    if found.st_size > most or len(data) > most:
        raise error(f"{path} has {max(found.st_size, len(data))} bytes, more than the {most} that are read of such a file; {remedy}")
    return data


def check_regular(path: str | Path, *, error: type[KinshotError] = DataError, remedy: str = "check the path") -> os.stat_result:
    """The status of a regular file, for readers that open files by themselves and of which size is no matter; or raises `error`."""
    try:
        found = os.stat(path)
    except FileNotFoundError as problem:
        raise error(f"there is no file {path}; {remedy}") from problem
    except (OSError, ValueError) as problem:
        raise error(f"cannot read {path}: {getattr(problem, 'strerror', None) or problem}; {remedy}") from problem
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is {_kind(found.st_mode)}, expected a regular file; {remedy}")
    return found


def is_numeral(text: str) -> bool:
    """Whether a text is a number as programs write it: float() would also take 1_000 and digits of other scripts."""
    return _NUMERAL.fullmatch(text.strip()) is not None


def read_text(path: str | Path, *, most: int = SMALL, error: type[KinshotError] = DataError, remedy: str = "check the path") -> str:
    """The text of a regular UTF-8 file, without a byte order mark; line ends as they are. Raises `error` (see `read_file`)."""
    data = read_file(path, most=most, error=error, remedy=remedy)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(f"{path} is not UTF-8 text (byte {problem.start}): save it as UTF-8") from problem


def parse_json(
    data: bytes | str, where: str, *, error: type[KinshotError] = DataError, remedy: str = "copy it again", once: bool = False
) -> Any:
    """A JSON value. Raises `error`, naming `where`, for what is none, is nested too deeply, or has a number of thousands of digits.

    With `once` a key that an object has twice is refused, of which json takes the last; for what people write.
    """
    try:
        return json.loads(data, object_pairs_hook=_each_once if once else None)
    except (ValueError, RecursionError) as problem:
        raise error(f"{where} is not valid JSON ({len(data)} bytes): {' '.join(str(problem).split())}; {remedy}") from problem


def read_json(
    path: str | Path,
    *,
    most: int = SMALL,
    error: type[KinshotError] = DataError,
    remedy: str = "copy it again",
    once: bool = False,
) -> Any:
    """The JSON value in a regular file, as `parse_json` reads it. Raises `error`."""
    return parse_json(read_file(path, most=most, error=error, remedy=remedy), str(path), error=error, remedy=remedy, once=once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice in one object")
    return found


def read_arrays(path: str | Path, *, error: type[KinshotError] = DataError, remedy: str = "save it with numpy") -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, or the one of an .npy file under the name "". Objects are never unpickled. Raises `error`."""
    import numpy as np  # light commands read recipes with this file, and do without numpy

    try:
        check_regular(path, error=error, remedy=remedy)
        with open(path, "rb") as file:
            _check_sizes(file)
            found = np.load(file, allow_pickle=False)
            arrays = {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
            if other := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
                raise ValueError(f"{other[0]!r} is no array")
            return arrays
    except KinshotError:
        raise
    except Exception as problem:  # what zipfile and numpy raise for a damaged file is anything, from SyntaxError to MemoryError
        reason = getattr(problem, "strerror", None) or problem or type(problem).__name__
        raise error(f"cannot read {path}: {' '.join(str(reason).split())}; {remedy}; objects are never unpickled") from problem


def _check_sizes(file: Any) -> None:
    """Raise ValueError where an archive's members are too large for what they are packed in (deflate reaches 1032 to 1)."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.file_size > 1100 * member.compress_size + 4096:
                    raise ValueError(f"{member.filename} is said to unpack from {member.compress_size} to {member.file_size} bytes")
    file.seek(0)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
