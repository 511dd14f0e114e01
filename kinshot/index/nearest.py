"""The nearest rows of an index, exactly, a shard at a time: memory for the shard that is looked into, and never rows x rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.kin.neighbors.proposals import Engine, faiss_is_installed
from kinshot.kin.neighbors.ranking import Gallery, Ranked

HELD = 1 << 28
"""Numbers of features up to which prepared galleries are kept for the next question: 1 GiB."""
MANY, WIDE = 1024, 512
"""From so many queries of so many numbers on faiss proposes candidates, as it multiplies large matrices faster; else products do."""
_BLOCK = 1 << 12


class Shelves:
    """Features in shards, to be searched by cosine. Equal rows are ranked by their number.

    Args:
        shards: float32 (n, D) each.
        engine: auto, products or faiss; changes nothing but speed.
    """

    def __init__(self, shards: Sequence[Tensor], engine: Engine = "auto") -> None:
        self.shards, self.engine = list(shards), engine
        self.count, self.width = sum(map(len, shards)), shards[0].shape[1]
        self._galleries: dict[tuple[int, Engine], Gallery] = {}

    def engine_for(self, queries: int) -> Engine:
        """What proposes candidates for so many queries."""
        if self.engine != "auto":
            return self.engine
        return "faiss" if queries >= MANY and self.width >= WIDE and faiss_is_installed() else "products"

    def nearest(self, queries: Tensor, k: int) -> Ranked:
        """The k rows of the highest cosine to each query (Q, D); all rows where there are fewer. Raises DataError."""
        return self._found([queries], queries.shape[0], k)

    def others(self, rows: Tensor, k: int) -> Ranked:
        """The k nearest others of some rows, int64 (R,), none of which finds itself."""
        blocks = rows.split(_BLOCK)
        found = self._found(blocks, len(rows), k + 1)
        itself = found.index == rows[:, None]
        itself[:, -1] |= ~itself.any(1)  # equal rows of lower number came before it, and pushed it out
        keep, wide = ~itself, found.index.shape[1] - 1
        return Ranked(found.index[keep].view(-1, wide), found.value[keep].view(-1, wide), "cosine")

    def take(self, rows: Tensor) -> Tensor:
        """Features (R, D) of rows by number."""
        found, first = torch.empty(len(rows), self.width), 0
        for shard in self.shards:
            here = ((rows >= first) & (rows < first + len(shard))).nonzero().flatten()
            found[here] = shard[rows[here] - first]
            first += len(shard)
        return found

    def _found(self, blocks: Sequence[Tensor], count: int, k: int) -> Ranked:
        """The nearest of blocks of queries, or of blocks of rows by number."""
        engine = self.engine_for(count)
        best: list[tuple[Tensor, Tensor] | None] = [None] * len(blocks)
        first = 0
        for number in range(len(self.shards)):
            gallery = self._gallery(number, engine)
            for at, block in enumerate(blocks):
                asked = block if block.is_floating_point() else self.take(block)
                index, distance = gallery.distances(asked, min(k, len(gallery)))
                best[at] = _better(best[at], index + first, distance, k)
            first += len(gallery)
        index, distance = (torch.cat([one[side] for one in best if one is not None]) for side in (0, 1))
        return Ranked(index, 1 - distance, "cosine")

    def _gallery(self, number: int, engine: Engine) -> Gallery:
        held = self._galleries.get((number, engine))
        if held is None:
            held = Gallery(self.shards[number], engine=engine)
            if self.count * self.width <= HELD:
                self._galleries[number, engine] = held
        return held


def _better(best: tuple[Tensor, Tensor] | None, index: Tensor, distance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of those so far and of later rows; a stable sort leaves equal ones in the order of their numbers."""
    if best is None:
        return index, distance
    distances, order = torch.cat([best[1], distance], 1).sort(dim=1, stable=True)
    return torch.cat([best[0], index], 1).gather(1, order[:, :k]), distances[:, :k]
