"""One complete state of an index as it is on the disk: nothing of it changes under whoever has opened it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinshot.core.errors import CheckpointError
from kinshot.index.layout import ADVICE, MANIFEST, VERIFIED, Manifest, Piece, read_manifest
from kinshot.index.shards import Shard, open_shard
from kinshot.index.table import Table, open_table
from kinshot.runs.encoder_identity import EncoderIdentity

_TRIES = 5


@dataclass(frozen=True, eq=False)
class State:
    """Manifest, rows and files."""

    manifest: Manifest
    shards: tuple[Shard, ...]
    table: Table

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    def contents(self) -> Iterator[str]:
        """Hashes of the contents, in the order of the rows."""
        return (content for shard in self.shards for content in shard.contents())

    def place(self, row: int) -> tuple[Shard, int]:
        """The shard of a row, and where it is there."""
        for shard in self.shards:
            if row < len(shard):
                return shard, row
            row -= len(shard)
        raise IndexError(row)


def empty_state(encoder: EncoderIdentity, dim: int, thumbnails: int) -> State:
    """What there is before the first image."""
    nothing = np.zeros(0, dtype=np.int64)
    table = Table(nothing.astype(np.uint8), nothing, nothing, nothing, nothing, nothing, np.zeros(1, dtype=np.int64))
    return State(Manifest(encoder, dim, thumbnails, "", 0, Piece("", 0, "", 0), ()), (), table)


def open_state(place: Path, verify: bool | None = None) -> State:
    """The state that `index.json` names; files are mapped into memory.

    Args:
        place: folder of the index.
        verify: whether every byte is read and compared with its checksum; None where all are less than a gigabyte.

    Raises:
        CheckpointError: missing, foreign, damaged, truncated, or of a newer version.
    """
    manifest = read_manifest(place)
    for _ in range(_TRIES):
        try:
            return _opened(place, manifest, verify)
        except CheckpointError:
            before, manifest = manifest, read_manifest(place)
            if manifest == before:
                raise
    return _opened(place, manifest, verify)


def _opened(place: Path, manifest: Manifest, verify: bool | None) -> State:
    checks = sum(piece.bytes for piece in manifest.pieces) <= VERIFIED if verify is None else verify
    shards = tuple(open_shard(place, piece, manifest.dim, checks) for piece in manifest.shards)
    table = open_table(place, manifest.files, sum(map(len, shards)), checks)
    if not shards:
        raise CheckpointError(f"{place / MANIFEST} names no rows; {ADVICE}")
    return State(manifest, shards, table)
