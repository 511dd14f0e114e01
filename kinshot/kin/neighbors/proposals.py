"""Who proposes candidates for a ranking: each says how near they seem, and how wrong that may be.

A proposer takes queries (q, D) and a count, and gives the indices of the references with the highest scores, int64 (q, count), the scores
in descending order, and for each query a slack: no score is further than that from an exact one. Scores rise as distances fall.
"""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.neighbors.rows import HELD, Rows

Engine = Literal["auto", "products", "tree", "faiss"]

FEW_DIMENSIONS, FEW_NEIGHBORS, MANY = 8, 64, 2048
"""A tree is faster than products in so few dimensions, for so few neighbours of so many references."""
GROUP, WORTH = 16, 4
"""Columns in a group of scores, and how many groups there must be for each score that is wanted."""
TILE = 1 << 11
"""Columns of products that are made at a time, a multiple of GROUP."""
BLOCK = 1 << 24
"""Products that are held at a time: 64 MB."""
QUERIES = 256
"""Rows of a block of products at most, on a CPU."""


class Proposer(Protocol):
    """Proposes candidates; `spare` is how many beyond those that are wanted make it likely that none is missing."""

    spare: int

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Index int64 (q, count), scores descending (q, count), slack (q,)."""


def proposer_for(engine: Engine, references: Rows, cosine: bool, k: int) -> Proposer:
    """What proposes candidates among the references, which are at unit length (or zero) for cosine.

    Raises ConfigError for an engine that is not there, or not for this device.
    """
    on_cpu, installed = references.device.type == "cpu", faiss_is_installed()
    if engine == "auto":
        small = not cosine and references.width <= FEW_DIMENSIONS and k <= FEW_NEIGHBORS and len(references) >= MANY
        engine = "products" if not on_cpu else "tree" if small else "faiss" if installed else "products"
    if engine == "products":
        return _Products(references, cosine)
    if engine not in ("tree", "faiss"):
        raise ConfigError(f"ranking: engine must be auto, products, tree or faiss, got {engine!r}")
    if not on_cpu:
        raise ConfigError(f"ranking: engine {engine} works on the CPU, these features are on {references.device}: use products")
    if engine == "tree" and cosine:
        raise ConfigError("ranking: engine tree knows Euclidean distances alone: use products for cosine")
    if engine == "tree":
        return _Tree(references)
    if not installed:
        raise ConfigError("ranking: engine faiss needs the package faiss-cpu: install it, or use products")
    return _Faiss(references, cosine)


def faiss_is_installed() -> bool:
    """Whether the package faiss is there, and not just a folder of that name."""
    spec = importlib.util.find_spec("faiss")
    return spec is not None and spec.origin is not None


class _Shifted:
    """References in float32, moved to their mean and scaled to at most 1 where distances count: rounding is then the least."""

    def __init__(self, references: Rows, cosine: bool) -> None:
        self.references = references
        self.mean = None if cosine else references.raw.mean(0, keepdim=True)
        largest = 1.0 if self.mean is None else max(float((part - self.mean).norm(dim=1).max()) for part in references.parts(BLOCK))
        self.scale = largest if largest > 0 else 1.0
        # many are moved each time that they are asked for, and not held twice
        self.rows = self.of(references.all()) if references.lengths is None and references.raw.numel() <= HELD else None
        # x.y - |y|^2 / 2 rises as the distance falls; of unit rows x.y alone
        self.half = None if self.mean is None else torch.cat([self.of(part).square().sum(1) / 2 for part in references.parts(BLOCK)])
        self.largest = 1.0

    def of(self, rows: Tensor) -> Tensor:
        """Other rows on the same footing."""
        return rows.float() if self.mean is None else ((rows - self.mean) / self.scale).float()

    def part(self, rows: slice) -> Tensor:
        """Some of the references, one after the other."""
        return self.of(self.references.part(rows)) if self.rows is None else self.rows[rows]

    def slack(self, queries: Tensor) -> Tensor:
        """Bound on the rounding of a score, and of the sum of squares that decides, whatever the order in which they are added up."""
        unit = (queries.shape[1] + 16) * 2.0**-24
        return unit / (1 - unit) * (queries.norm(dim=1) + self.largest).square()


class _Products:
    """Blocks of products in float32, the best of each block against the best so far."""

    spare = 8

    def __init__(self, references: Rows, cosine: bool) -> None:
        self.held = _Shifted(references, cosine)
        self.room = self.held.of(references.part(slice(0))).flatten()  # for products, which are made over and over

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        x = self.held.of(queries)
        # on a CPU few queries and long rows: of each block the best must be picked, and a longer row has fewer blocks
        some = x.split(QUERIES if x.device.type == "cpu" else len(x))
        step = max(count, BLOCK // len(some[0]))
        size = len(some[0]) * min(step, len(self.held.references))
        self.room = self.room if len(self.room) >= size else x.new_empty(size)
        found = [self._nearest(rows, count, step) for rows in some]
        return torch.cat([at for at, _ in found]), torch.cat([score for _, score in found]), self.held.slack(x)

    def _nearest(self, x: Tensor, count: int, step: int) -> tuple[Tensor, Tensor]:
        """Index and score (q, count) among all references, whose products are taken `step` at a time."""
        total, best = len(self.held.references), x.new_empty(len(x), 0)
        found = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
        for start in range(0, total, step):
            width = min(step, total - start)
            score, at = self._best(x, start, self.room[: len(x) * width].view(len(x), width), min(count, width))
            best, order = torch.cat([best, score], 1).topk(min(count, best.shape[1] + score.shape[1]), dim=1) if start else (score, None)
            found = at + start if order is None else torch.cat([found, at + start], 1).gather(1, order)
        return found, best

    def _best(self, x: Tensor, start: int, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k highest scores with the references from `start` on, and which these are from there."""
        width, half = scores.shape[1], self.held.half
        maxima = scores.new_empty(len(x), width // GROUP) if _worth_groups(scores, k) else None
        tile = TILE if x.device.type == "cpu" else width
        for first in range(0, width, tile):
            last = min(first + tile, width)
            rows, out = self.held.part(slice(start + first, start + last)), scores[:, first:last]
            if half is None:
                torch.mm(x, rows.T, out=out)
            else:
                torch.addmm(-half[start + first : start + last], x, rows.T, out=out)
            # while they are at hand: a whole row of products does not stay in the processor
            if maxima is not None:
                _group_maxima(out, maxima[:, first // GROUP : last // GROUP])
        return largest(scores, k, maxima)


def largest(scores: Tensor, k: int, maxima: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k highest scores of each row (q, n), descending, and where they stand, as `topk` says it but for the order of equal ones.

    The k highest are in the k groups of columns with the highest maxima, so that no long row is ever searched: on a CPU less than half of
    the time. `maxima` (q, n // GROUP) are those of groups, tile by tile, where they are known.
    """
    width = scores.shape[1]
    if not _worth_groups(scores, k):
        return scores.topk(k, dim=1)
    if maxima is None:
        maxima = scores.new_empty(len(scores), width // GROUP)
        for first in range(0, width, TILE):
            _group_maxima(scores[:, first : first + TILE], maxima[:, first // GROUP : (first + TILE) // GROUP])
    columns = _columns(maxima.topk(k, dim=1).indices, width)
    best, place = scores.gather(1, columns).topk(k, dim=1)
    return best, columns.gather(1, place)


def _worth_groups(scores: Tensor, k: int) -> bool:
    return scores.device.type == "cpu" and scores.shape[1] // GROUP >= WORTH * k


def _group_maxima(tile: Tensor, out: Tensor) -> None:
    """Maxima (q, g) of the groups of a tile (q, at most TILE), each of every g-th column; what is left over after GROUP * g is in none."""
    groups = out.shape[1]
    if groups:
        torch.amax(tile[:, : GROUP * groups].unflatten(1, (GROUP, groups)), dim=1, out=out)


def _columns(groups: Tensor, width: int) -> Tensor:
    """Columns of groups (q, k), and those that are in none: int64 (q, k * GROUP + width % GROUP)."""
    tile = groups.div(TILE // GROUP, rounding_mode="floor")
    # a tile that is not full has groups of its own stride
    stride = torch.where(tile == width // TILE, width % TILE // GROUP, TILE // GROUP)
    first = groups + tile * (TILE - TILE // GROUP)
    inside = (first.unsqueeze(2) + stride.unsqueeze(2) * torch.arange(GROUP)).flatten(1)
    return torch.cat([inside, torch.arange(width - width % GROUP, width).expand(len(groups), -1)], 1)


class _Tree:
    """A k-d tree in float64, for few dimensions."""

    spare = 2

    def __init__(self, references: Rows) -> None:
        from scipy.spatial import KDTree

        rows = references.all().double()
        self.tree = KDTree(rows.numpy())
        self.largest = float(rows.norm(dim=1).max())

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        x = queries.double()
        distance, index = self.tree.query(x.numpy(), k=np.arange(1, count + 1))
        # the features' own precision decides, and rounds more than the tree does
        unit = (x.shape[1] + 16) * torch.finfo(queries.dtype).eps
        return torch.from_numpy(index.astype(np.int64)), -torch.from_numpy(distance), unit * (x.norm(dim=1) + self.largest)


class _Faiss:
    """faiss's flat index of inner products, the exact one."""

    spare = 8

    def __init__(self, references: Rows, cosine: bool) -> None:
        import faiss

        self.held = _Shifted(references, cosine)
        rows = self.held.part(slice(None))
        rows = rows if self.held.half is None else torch.cat([rows, -self.held.half[:, None]], 1)
        self.index = faiss.IndexFlatIP(rows.shape[1])
        self.index.add(rows.numpy())

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        x = self.held.of(queries)
        asked = x if self.held.half is None else torch.cat([x, x.new_ones(len(x), 1)], 1)
        score, index = self.index.search(asked.contiguous().numpy(), count)
        return torch.from_numpy(index), torch.from_numpy(score), self.held.slack(x)
