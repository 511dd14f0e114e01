"""The table of an index's files: path, size, time and row of each, in columns that are mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from kinshot.core.errors import CheckpointError
from kinshot.index.layout import ADVICE, Piece, open_piece, write_piece

_COLUMNS = {"paths": torch.uint8, "ends": torch.int64, "size": torch.int64, "mtime_ns": torch.int64, "row": torch.int64,
            "of_row": torch.int64, "first": torch.int64}  # fmt: skip


@dataclass(frozen=True)
class File:
    """A file below the folder, with `/` between its parts; its size and time when it was read, and the row of its content."""

    path: str
    size: int
    mtime_ns: int
    row: int


@dataclass(frozen=True, eq=False)
class Table:
    """Files sorted by their paths.

    Attributes:
        paths: paths one after the other, as bytes of the file system, uint8.
        ends: where each ends.
        size: bytes of each file.
        mtime_ns: its time.
        row: the row of its content.
        of_row: files sorted by their rows.
        first: where each row's files begin among these (N + 1,).
    """

    paths: np.ndarray
    ends: np.ndarray
    size: np.ndarray
    mtime_ns: np.ndarray
    row: np.ndarray
    of_row: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[File]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> File:
        first = int(self.ends[number - 1]) if number else 0
        path = os.fsdecode(self.paths[first : int(self.ends[number])].tobytes())
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\0" in path:
            raise CheckpointError(f"the index names a file {path!r}, which is not below its folder; {ADVICE}")
        return File(path, int(self.size[number]), int(self.mtime_ns[number]), int(self.row[number]))

    def of(self, row: int) -> list[File]:
        """The files of a row, the first one by path first."""
        return [self[int(number)] for number in self.of_row[int(self.first[row]) : int(self.first[row + 1])]]


def write_table(place: Path, files: Sequence[File], rows: int) -> Piece:
    """Write the table of files, which are sorted by path, of so many rows. Raises DataError."""
    names = [os.fsencode(file.path) for file in files]
    row = np.array([file.row for file in files], dtype=np.int64)
    columns = {
        "paths": np.frombuffer(b"".join(names), dtype=np.uint8).copy(),
        "ends": np.cumsum([len(name) for name in names], dtype=np.int64),
        "size": np.array([file.size for file in files], dtype=np.int64),
        "mtime_ns": np.array([file.mtime_ns for file in files], dtype=np.int64),
        "row": row,
        "of_row": np.argsort(row, kind="stable"),
        "first": np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64),
    }
    return write_piece(place, "files", {name: torch.from_numpy(value) for name, value in columns.items()}, len(files))


def open_table(place: Path, piece: Piece, rows: int, verify: bool) -> Table:
    """The table on the disk, whose rows are so many. Raises CheckpointError."""
    found, path = open_piece(place, piece, verify), place / piece.name
    lengths = {"ends": piece.rows, "size": piece.rows, "mtime_ns": piece.rows, "row": piece.rows, "of_row": piece.rows, "first": rows + 1}
    wrong = [name for name, dtype in _COLUMNS.items() if name not in found or found[name].dtype != dtype or found[name].dim() != 1]
    wrong += [name for name, length in lengths.items() if name not in wrong and len(found[name]) != length]
    if wrong:
        raise CheckpointError(f"{path}: {', '.join(wrong)} are not columns of a table of {piece.rows} files and {rows} rows; {ADVICE}")
    columns = {name: found[name].numpy() for name in _COLUMNS}
    within = {"row": rows - 1, "of_row": piece.rows - 1, "first": piece.rows, "ends": len(columns["paths"])}
    for name, most in within.items():
        if len(columns[name]) and not 0 <= int(columns[name].min()) <= int(columns[name].max()) <= most:
            raise CheckpointError(f"{path}: {name} leaves 0..{most}; {ADVICE}")
    return Table(**columns)
