"""Rows of an index in files of some thousands: features, hashes of contents, thumbnails. A row is a content, however many files have it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import CheckpointError
from kinshot.index.layout import ADVICE, Piece, open_piece, write_piece

ROWS = 1 << 14
"""Rows of a shard at most."""
_HASH = 16


@dataclass(frozen=True, eq=False)
class Shard:
    """Some rows.

    Attributes:
        features: float32 (n, D).
        digests: hashes of contents, uint8 (n, 16).
        thumbnails: JPEG files one after the other, uint8 (bytes,); empty where none are kept.
        ends: where the thumbnail of each row ends, int64 (n,).
        piece: the file that holds them; None where it is not written.
    """

    features: Tensor
    digests: Tensor
    thumbnails: Tensor
    ends: Tensor
    piece: Piece | None = None

    def __len__(self) -> int:
        return len(self.features)

    def contents(self) -> list[str]:
        """Hashes of contents as hex."""
        return [row.tobytes().hex() for row in self.digests.numpy()]

    def thumbnail(self, row: int) -> bytes:
        """A JPEG file, or nothing."""
        first, last = int(self.ends[row - 1]) if row else 0, int(self.ends[row])
        return self.thumbnails[max(first, 0) : max(last, 0)].numpy().tobytes()

    def taken(self, rows: Sequence[int]) -> Shard:
        """Some of the rows, in memory."""
        return gathered([(self, row) for row in rows])


def gathered(rows: Sequence[tuple[Shard, int]]) -> Shard:
    """Rows of several shards as one."""
    features = torch.stack([shard.features[row] for shard, row in rows])
    digests = torch.stack([shard.digests[row] for shard, row in rows])
    return made(features, digests, [shard.thumbnail(row) for shard, row in rows])


def made(features: Tensor, digests: Tensor, pictures: Sequence[bytes]) -> Shard:
    """A shard of features, hashes of contents and thumbnails, one to a row."""
    ends = torch.from_numpy(np.cumsum([len(picture) for picture in pictures], dtype=np.int64)) if pictures else torch.empty(0).long()
    joined = torch.from_numpy(np.frombuffer(b"".join(pictures), dtype=np.uint8).copy())
    return Shard(features, digests, joined, ends)


def tensors_of(shard: Shard) -> dict[str, Tensor]:
    """What a file holds of it."""
    return {"features": shard.features, "digests": shard.digests, "thumbnails": shard.thumbnails, "ends": shard.ends}


def write_shard(place: Path, shard: Shard) -> Piece:
    """Write it. Raises DataError."""
    return write_piece(place, "rows", tensors_of(shard), len(shard))


def open_shard(place: Path, piece: Piece, dim: int, verify: bool) -> Shard:
    """A shard on the disk, of which nothing is read before it is asked for. Raises CheckpointError."""
    shard = checked(open_piece(place, piece, verify), place / piece.name, dim, piece.rows)
    return Shard(shard.features, shard.digests, shard.thumbnails, shard.ends, piece)


def checked(tensors: dict[str, Tensor], path: Path, dim: int, rows: int) -> Shard:
    """Tensors of a file as a shard. Raises CheckpointError where they are none."""
    if tensors.keys() != {"features", "digests", "thumbnails", "ends"}:
        raise CheckpointError(f"{path} has the tensors {sorted(tensors)}, which are not those of an index; {ADVICE}")
    shard = Shard(tensors["features"], tensors["digests"], tensors["thumbnails"], tensors["ends"])
    shapes = {"features": ((rows, dim), torch.float32), "digests": ((rows, _HASH), torch.uint8), "ends": ((rows,), torch.int64)}
    for name, (shape, dtype) in shapes.items():
        if tensors[name].shape != shape or tensors[name].dtype != dtype:
            raise CheckpointError(
                f"{path}: {name} is {tensors[name].dtype} {tuple(tensors[name].shape)}, expected {dtype} {shape}; {ADVICE}"
            )
    if shard.thumbnails.dim() != 1 or shard.thumbnails.dtype != torch.uint8:
        raise CheckpointError(f"{path}: thumbnails are {shard.thumbnails.dtype} {tuple(shard.thumbnails.shape)}; {ADVICE}")
    return shard


def replanned(shards: Sequence[Shard], alive: Sequence[Sequence[int]], new: Sequence[tuple[Shard, int]]) -> Iterator[Shard]:
    """Shards of the rows that stay, in their order, and of new ones behind them.

    A shard of which nothing goes stays as it is where it is at least half full; others are joined with what follows. So a small change
    writes little, and many small ones leave no crowd of small files.

    Args:
        shards: as they are.
        alive: rows of each that stay.
        new: rows that come.
    """
    waiting: list[tuple[Shard, int]] = []
    for shard, rows in zip(shards, alive, strict=True):
        if len(rows) == len(shard) and len(shard) >= ROWS // 2:
            yield from _cut(waiting)
            waiting = []
            yield shard
        else:
            waiting += [(shard, row) for row in rows]
    yield from _cut([*waiting, *new])


def _cut(rows: Sequence[tuple[Shard, int]]) -> Iterator[Shard]:
    return (gathered(rows[first : first + ROWS]) for first in range(0, len(rows), ROWS))
