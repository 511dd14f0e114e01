"""Columns of a file by name: .csv and .tsv with a line of names, .npy and .npz without pickled objects."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import check_regular, is_numeral, read_arrays, read_text

ENDINGS = (".csv", ".tsv", ".npy", ".npz")
"""Of files that are read."""
_MOST = 4 * 2**30
Column = np.ndarray | list[str]
"""Numbers or texts (N,), from a text file always texts; an .npz file may also hold matrices (N, K)."""


def read_columns(path: Path) -> dict[str, Column]:
    """Columns of equal length by name, at least one row.

    An .npy matrix has the columns "0", "1", ...; an .npz file has its arrays as columns. Raises DataError, naming line and
    column, where the file is missing, empty, ragged, of another kind, or holds what is neither numbers nor texts.
    """
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: expected a file that ends in {', '.join(ENDINGS)}, got {path.suffix or 'no ending'!r}: convert it")
    check_regular(path, remedy="set root to a .csv, .tsv, .npy or .npz file")
    columns = _read_delimited(path) if path.suffix.lower() in ENDINGS[:2] else _read_arrays(path)
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths or min(lengths.values()) == 0:
        raise DataError(f"{path} is empty: it needs at least one row of values")
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first]:
            raise DataError(f"{path}: {name!r} has {length} rows, {first!r} has {lengths[first]}: each needs one row per sample")
    return columns


def delimited_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and fields of each row of a .csv or .tsv file, the names in the first line among them; an empty line has no fields.

    Raises DataError: no regular file, not UTF-8, wrong quotes, or columns that seem to be separated by something else.
    """
    mark = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(
        io.StringIO(read_text(path, most=_MOST, remedy="check the file and its permissions"), newline=""), delimiter=mark, strict=True
    )
    rows = []
    try:
        for row in reader:
            rows.append((reader.line_num, row))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}: correct the quotes, or split the field") from error
    first = rows[0][1] if rows else []
    for other, name in {";": "semicolons", ",": "commas", "\t": "tabs"}.items():
        if len(first) == 1 and other != mark and other in first[0]:
            wanted = "tabs in a .tsv file" if mark == "\t" else "commas in a .csv file, and decimals have a point"
            raise DataError(f"{path}: the columns seem to be separated by {name}: expected {wanted}; save the table so")
    return rows


def _read_delimited(path: Path) -> dict[str, Column]:
    rows = [(line, row) for line, row in delimited_rows(path) if row]  # an empty line is no row
    if not rows:
        return {}
    names = _checked_header(path, rows[0][1])
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: {len(row)} fields where the first line names {len(names)}: complete or correct the line")
    return (
        {name: list(column) for name, column in zip(names, zip(*(row for _, row in rows[1:]), strict=True), strict=True)}
        if rows[1:]
        else {}
    )


def _checked_header(path: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    unnamed = [number for number, name in enumerate(names, start=1) if not name]
    if unnamed:
        raise DataError(f"{path}: column {unnamed[0]} has no name in the first line: name it, or write the table without an index")
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}: rename one")
    # whole numbers from 0 are the names that a table written from a matrix has
    if all(map(is_numeral, names)) and names != [str(number) for number in range(len(names))]:
        raise DataError(f"{path}: the first line holds only numbers ({', '.join(names[:3])}, ...): add a line with the columns' names")
    return names


def _read_arrays(path: Path) -> dict[str, Column]:
    arrays = read_arrays(path, remedy="save numbers or texts with numpy")
    for name, array in arrays.items():
        what = f"{path}{': ' + repr(name) if name else ''}"
        if array.dtype.kind not in "biufU":
            raise DataError(f"{what}: expected numbers or texts, got {array.dtype}: convert it")
        if array.ndim not in ((1, 2) if name else (2,)):
            raise DataError(
                f"{what}: expected {'a value or row' if name else 'one row'} for each sample, got shape {array.shape}: reshape it"
            )
    if "" in arrays:
        return {str(number): column for number, column in enumerate(arrays[""].T)}
    return dict(arrays)
