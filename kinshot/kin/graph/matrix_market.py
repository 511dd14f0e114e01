"""Matrix Market files (NIST's exchange format, real and pattern matrices), read with every bound checked before anything is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_text

_MOST = 4 * 2**30
_FIELDS = ("real", "double", "integer", "unsigned-integer", "pattern")
_SYMMETRIES = ("general", "symmetric")


class _Header(NamedTuple):
    """What stands above the numbers: `size` is rows, columns and, in coordinate form, entries."""

    coordinate: bool
    pattern: bool
    symmetric: bool
    size: tuple[int, ...]
    lines: int


def read_matrix_market(path: Path) -> coo_array:
    """The matrix in a .mtx file, coordinate or array form; of a symmetric one, both sides.

    Raises DataError for what is no such file, is cut short, or has an entry outside the matrix; names the entry.
    """
    lines = read_text(path, most=_MOST).split("\n")
    header = _header(path, lines)
    body = " ".join(lines[header.lines :])
    try:
        numbers = np.array(body.split(), dtype=np.float64)
    except ValueError as problem:
        raise _refused(path, str(problem)) from problem
    rows, columns, values = (_coordinate if header.coordinate else _array)(path, header, numbers)
    if header.symmetric:
        off = rows != columns
        rows, columns = np.concatenate([rows, columns[off]]), np.concatenate([columns, rows[off]])
        values = np.concatenate([values, values[off]])
    return coo_array((values, (rows, columns)), shape=header.size[:2])


def _header(path: Path, lines: list[str]) -> _Header:
    words = lines[0].lower().split()
    if len(words) != 5 or words[:2] != ["%%matrixmarket", "matrix"] or words[2] not in ("coordinate", "array"):
        raise _refused(path, "its first line is not '%%MatrixMarket matrix coordinate|array FIELD SYMMETRY'")
    if words[3] not in _FIELDS or words[4] not in _SYMMETRIES or (words[2], words[3]) == ("array", "pattern"):
        raise _refused(path, f"{' '.join(words[2:])} is no adjacency; fields are {', '.join(_FIELDS)}, symmetries {', '.join(_SYMMETRIES)}")
    start = next((number for number, line in enumerate(lines[1:], 1) if line.strip() and not line.startswith("%")), len(lines))
    sizes = lines[start].split() if start < len(lines) else []
    coordinate = words[2] == "coordinate"
    if len(sizes) != 2 + coordinate or not all(size.isascii() and size.isdigit() and len(size) < 16 for size in sizes):
        raise _refused(path, f"expected {'rows, columns and entries' if coordinate else 'rows and columns'} in a line, got {sizes}")
    return _Header(coordinate, words[3] == "pattern", words[4] == "symmetric", tuple(map(int, sizes)), start + 1)


def _coordinate(path: Path, header: _Header, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    width, entries = 2 if header.pattern else 3, header.size[2]
    if len(numbers) != width * entries:
        raise _refused(path, f"it says {entries} entries of {width} numbers and holds {len(numbers)} numbers")
    table = numbers.reshape(entries, width)
    with np.errstate(invalid="ignore"):
        wrong = ~((table[:, :2] >= 1) & (table[:, :2] <= header.size[:2]) & (table[:, :2] == np.floor(table[:, :2]))).all(1)
    if wrong.any():
        entry = int(wrong.argmax())
        raise _refused(path, f"entry {entry + 1}, {table[entry, :2].tolist()}, lies outside 1 to {list(header.size[:2])}")
    ends = table[:, :2].astype(np.int64) - 1
    return ends[:, 0], ends[:, 1], np.ones(entries) if header.pattern else table[:, 2]


def _array(path: Path, header: _Header, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column by column; of a symmetric matrix the lower triangle. What is 0 is no entry."""
    n, m = header.size
    if header.symmetric and n != m:
        raise _refused(path, f"a symmetric matrix of {n} rows and {m} columns")
    expected = n * (n + 1) // 2 if header.symmetric else n * m
    if len(numbers) != expected:
        raise _refused(path, f"a matrix of {n} rows and {m} columns needs {expected} numbers, it holds {len(numbers)}")
    columns, rows = np.triu_indices(n) if header.symmetric else np.divmod(np.arange(expected), max(n, 1))
    kept = numbers != 0
    return rows[kept], columns[kept], numbers[kept]


def _refused(path: Path, problem: str) -> DataError:
    return DataError(f"{path} is not a readable Matrix Market file: {problem}; write it anew, for example with scipy.io.mmwrite")
