"""The nearest neighbours of vectors: exact, a chunk at a time, the same whatever the chunk and whatever finds the candidates.

A matrix product in float32, a tree in few dimensions, or faiss proposes candidates with a bound on its own rounding. Enough of them are
taken that none of the true neighbours can be missing, and distances of these few, computed one pair at a time in the features' own
precision, decide. Equal ones are ranked by index. Memory: a chunk of products, never queries x references.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.neighbors.proposals import FEW_NEIGHBORS, Engine, Proposer, proposer_for
from kinshot.kin.neighbors.rows import Rows

Metric = Literal["cosine", "euclidean"]

PAIRS = 1 << 22
"""Numbers of the candidates' vectors that are held at a time."""
ROWS = 1024
"""Queries at a time, where references are few enough."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The nearest references of each query, nearest first, equal ones by index.

    Args:
        index: int64 (Q, k).
        value: (Q, k), in the features' precision: cosine similarity (descending), or Euclidean distance (ascending).
        metric: which of the two.
    """

    index: Tensor
    value: Tensor
    metric: Metric

    @property
    def closeness(self) -> Tensor:
        """What is larger the nearer (Q, k): the similarity, or minus the distance."""
        return self.value if self.metric == "cosine" else -self.value


def rank(
    queries: Tensor,
    references: Tensor | None = None,
    *,
    k: int,
    metric: Metric = "cosine",
    chunk: int | None = None,
    engine: Engine = "auto",
) -> Ranked:
    """The k nearest of the references to each query; without references, of the queries themselves, each but itself.

    Half precision is computed in float32. A row of zeros has cosine similarity 0 to every row.

    >>> kinshot.rank(torch.tensor([[0.0, 1.0], [0.1, 1.0], [1.0, 0.0]]), k=1).index.tolist()
    [[1], [0], [1]]

    Args:
        queries: float (Q, D).
        references: float (N, D) on the same device.
        k: neighbours of each, from 1 to N (to Q - 1 without references).
        metric: "cosine" or "euclidean".
        chunk: queries at a time, which changes nothing but memory and speed; None = as many as keep memory within some 100 MB.
        engine: what proposes candidates, which changes nothing but speed: "products" (on any device), "tree" (few dimensions, CPU),
            "faiss" (CPU, where installed); "auto" chooses.

    Raises:
        ConfigError: k or chunk out of range, or an engine that is not installed.
        DataError: features that are not finite matrices of one width.
    """
    blocks = [ranked for _, ranked in ranked_blocks(queries, references, k=k, metric=metric, chunk=chunk, engine=engine)]
    return Ranked(torch.cat([b.index for b in blocks]), torch.cat([b.value for b in blocks]), metric)


def ranked_blocks(
    queries: Tensor,
    references: Tensor | None = None,
    *,
    k: int,
    metric: Metric = "cosine",
    chunk: int | None = None,
    engine: Engine = "auto",
) -> Iterator[tuple[slice, Ranked]]:
    """`rank` a chunk of queries at a time, for rankings too deep to be held at once: rows of the queries, and what they found."""
    asked, found = _checked(queries, references, k, metric, chunk)
    rows = Rows(asked, unit=metric == "cosine")
    others = rows if references is None else Rows(found, unit=metric == "cosine")
    search = _Search(others, metric, proposer_for(engine, others, metric == "cosine", k))
    for part, index, distance in _blocks(search, rows, k, chunk, itself=references is None):
        yield part, _ranked(index, distance, metric)


class Gallery:
    """References that are looked into again and again: what a search needs of them is made once. Its answers are those of `rank`.

    Args:
        references: float (N, D); a second copy of them is held where they are few.
        metric: "cosine" or "euclidean".
        engine: as `rank` takes it.

    Raises:
        ConfigError: an engine that is not installed.
        DataError: features that are no finite matrix.
    """

    def __init__(self, references: Tensor, *, metric: Metric = "cosine", engine: Engine = "auto") -> None:
        _, found = _checked(references[:1], references, 1, metric, None)
        self.metric, self.dtype, others = metric, found.dtype, Rows(found, unit=metric == "cosine")
        self.search = _Search(others, metric, proposer_for(engine, others, metric == "cosine", FEW_NEIGHBORS))

    def __len__(self) -> int:
        return len(self.search.references)

    def nearest(self, queries: Tensor, k: int) -> Ranked:
        """The k nearest references of each query (Q, D). Raises ConfigError and DataError as `rank` does."""
        return _ranked(*self.distances(queries, k), self.metric)

    def distances(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Index and distance (Q, k), ascending, by which galleries are joined: 1 minus a cosine tells more than it does near 1."""
        if queries.dim() != 2 or queries.shape[1] != self.search.references.width or not 1 <= k <= len(self):
            _checked(queries, self.search.references.raw, k, self.metric, None)  # raises, and says what is wrong
        asked, _ = _checked(queries, queries[:1], 1, self.metric, None)
        rows = Rows(asked.to(self.dtype), unit=self.metric == "cosine")
        blocks = list(_blocks(self.search, rows, k, None, itself=False))
        return torch.cat([index for _, index, _ in blocks]), torch.cat([distance for _, _, distance in blocks])


def _ranked(index: Tensor, distance: Tensor, metric: Metric) -> Ranked:
    return Ranked(index, 1 - distance if metric == "cosine" else distance, metric)


def _blocks(search: _Search, rows: Rows, k: int, chunk: int | None, *, itself: bool) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Rows of the queries, a chunk at a time, what they found, and how far; `itself`: they are the references, and none finds itself."""
    step = chunk or max(1, min(ROWS, 4 * PAIRS // k))
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        with torch.no_grad(), torch.autocast(rows.device.type, enabled=False):
            own = torch.arange(part.start, part.stop, device=rows.device) if itself else None
            yield part, *search.nearest(rows.part(part), own, k)


def _checked(queries: Tensor, references: Tensor | None, k: int, metric: str, chunk: int | None) -> tuple[Tensor, Tensor]:
    """Both sides in float32 or float64, and fit to be ranked."""
    if metric not in ("cosine", "euclidean"):
        raise ConfigError(f"ranking: metric must be 'cosine' or 'euclidean', got {metric!r}")
    others = queries if references is None else references
    for name, side in (("queries", queries), ("references", others)):
        if side.dim() != 2 or 0 in side.shape or not side.is_floating_point():
            raise DataError(f"ranking: {name} must be a float matrix (rows, width), got {side.dtype} {tuple(side.shape)}")
        if not torch.isfinite(side.norm(dim=1)).all() and not torch.isfinite(side).all():
            row = int((~torch.isfinite(side)).any(1).nonzero()[0])
            raise DataError(f"ranking: row {row} of the {name} is not finite: check what made these features")
    if queries.shape[1] != others.shape[1]:
        raise DataError(f"ranking: queries are {queries.shape[1]} wide and references {others.shape[1]}: give features of one encoder")
    most = len(others) - (references is None)
    if not 1 <= k <= most:
        raise ConfigError(f"ranking: k must be from 1 to {most}, the number of others, got {k}")
    if chunk is not None and chunk < 1:
        raise ConfigError(f"ranking: chunk must be at least 1, got {chunk}")
    dtype = torch.promote_types(torch.promote_types(queries.dtype, others.dtype), torch.float32)
    rows = queries.detach().to(dtype)
    return rows, rows if references is None else others.detach().to(dtype)


class _Search:
    """References, in which the nearest of a few queries at a time are looked for."""

    def __init__(self, references: Rows, metric: Metric, propose: Proposer) -> None:
        self.references, self.metric, self.propose = references, metric, propose
        self.zero = references.raw.norm(dim=1) == 0 if metric == "cosine" else None

    def nearest(self, rows: Tensor, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """Index and distance (q, k), for cosine 1 minus it; `own` is each query's own row among the references, which it does not find."""
        index = torch.empty(len(rows), k, dtype=torch.int64, device=rows.device)
        value = rows.new_empty(len(rows), k)
        left, spare = torch.arange(len(rows), device=rows.device), self.propose.spare
        while len(left):
            mine = None if own is None else own[left]
            count = k + (own is not None) + spare
            if 2 * count >= len(self.references):
                index[left], value[left] = self._decide(rows[left], None, mine, k)
                break
            found, score, slack = self.propose(rows[left], count)
            # scores descend: the k-th best of the others stands at k, or one further where the query has found itself before
            before = 0 if mine is None else (found[:, :k] == mine[:, None]).sum(1, keepdim=True)
            worst = score.gather(1, score.new_full((len(score), 1), k - 1, dtype=torch.int64) + before)
            # a true neighbour has a score of at least this one's, but for the rounding of both
            likely = score >= worst - 2 * slack[:, None]
            complete = ~likely[:, -1]
            done, width = left[complete], int(likely.sum(1).max())
            index[done], value[done] = self._decide(rows[done], found[complete, :width], None if mine is None else mine[complete], k)
            left, spare = left[~complete], 4 * (spare + k)
        return index, value

    def _decide(self, rows: Tensor, candidates: Tensor | None, own: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest of the candidates int64 (q, c), None for all, by distances of pairs that do not depend on what else is asked."""
        width = len(self.references) if candidates is None else candidates.shape[1]
        step = max(1, PAIRS // (width * (1 if candidates is None else rows.shape[1])))
        index, value = [rows.new_empty(0, k, dtype=torch.int64)], [rows.new_empty(0, k)]
        for part in torch.arange(len(rows), device=rows.device).split(step):
            # ascending, so that a stable sort ranks equal ones by index
            near = None if candidates is None else candidates[part].sort(dim=1).values
            distance = self._distances(rows[part], near)
            if own is not None:
                itself = torch.arange(width, device=rows.device) if near is None else near
                distance.masked_fill_(itself == own[part, None], torch.inf)
            best, order = (each[:, :k] for each in distance.sort(dim=1, stable=True))
            index.append(order if near is None else near.gather(1, order))
            value.append(best)
        return torch.cat(index), torch.cat(value)

    def _distances(self, rows: Tensor, candidates: Tensor | None) -> Tensor:
        """Distances (q, c) of queries to their candidates, None for all, from sums of squared differences: exactly 0 for equal rows."""
        direct = "donot_use_mm_for_euclid_dist"
        if candidates is None:
            distance = torch.cat([torch.cdist(rows, part, compute_mode=direct) for part in self.references.parts(PAIRS)], dim=1)
        else:
            distance = torch.cdist(rows.unsqueeze(1), self.references.take(candidates), compute_mode=direct).squeeze(1)
        if self.zero is None:
            return distance
        # all other rows are at unit length
        nothing = (rows.norm(dim=1, keepdim=True) == 0) | (self.zero if candidates is None else self.zero[candidates])
        return torch.where(nothing, 1.0, distance.square() / 2)
