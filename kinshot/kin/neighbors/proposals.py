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

Engine = Literal["auto", "products", "tree", "faiss"]

FEW_DIMENSIONS, FEW_NEIGHBORS, MANY = 8, 64, 2048
"""A tree is faster than products in so few dimensions, for so few neighbours of so many references."""
GROUP, WORTH = 16, 4
"""Columns in a group of scores, and how many groups there must be for each score that is wanted."""
BLOCK = 1 << 24
"""Products that are held at a time: 64 MB."""


class Proposer(Protocol):
    """Proposes candidates; `spare` is how many beyond those that are wanted make it likely that none is missing."""

    spare: int

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Index int64 (q, count), scores descending (q, count), slack (q,)."""


def proposer_for(engine: Engine, references: Tensor, cosine: bool, k: int) -> Proposer:
    """What proposes candidates among the references (N, D), which are at unit length (or zero) for cosine.

    Raises ConfigError for an engine that is not there, or not for this device.
    """
    on_cpu, installed = references.device.type == "cpu", faiss_is_installed()
    if engine == "auto":
        small = not cosine and references.shape[1] <= FEW_DIMENSIONS and k <= FEW_NEIGHBORS and len(references) >= MANY
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

    def __init__(self, references: Tensor, cosine: bool) -> None:
        self.mean = None if cosine else references.mean(0, keepdim=True)
        largest = 1.0 if self.mean is None else float((references - self.mean).norm(dim=1).max())
        self.scale = largest if largest > 0 else 1.0
        self.rows = self.of(references)
        # x.y - |y|^2 / 2 rises as the distance falls; of unit rows x.y alone
        self.half = None if self.mean is None else self.rows.square().sum(1) / 2
        self.largest = 1.0

    def of(self, rows: Tensor) -> Tensor:
        """Other rows on the same footing."""
        return rows.float() if self.mean is None else ((rows - self.mean) / self.scale).float()

    def slack(self, queries: Tensor) -> Tensor:
        """Bound on the rounding of a score, and of the sum of squares that decides, whatever the order in which they are added up."""
        unit = (queries.shape[1] + 16) * 2.0**-24
        return unit / (1 - unit) * (queries.norm(dim=1) + self.largest).square()


class _Products:
    """Blocks of products in float32, the best of each block against the best so far."""

    spare = 8

    def __init__(self, references: Tensor, cosine: bool) -> None:
        self.held = _Shifted(references, cosine)

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        x, held = self.held.of(queries), self.held
        step = max(count, BLOCK // len(x))
        found: Tensor | None = None
        score = x.new_empty(0)
        for start in range(0, len(held.rows), step):
            block = held.rows[start : start + step]
            near = x @ block.T if held.half is None else torch.addmm(-held.half[start : start + step], x, block.T)
            best, at = largest(near, min(count, near.shape[1]))
            at += start
            if found is not None:
                best, at = torch.cat([score, best], 1), torch.cat([found, at], 1)
                best, order = best.topk(min(count, best.shape[1]), dim=1)
                at = at.gather(1, order)
            found, score = at, best
        if found is None:
            raise ConfigError("ranking: no references")
        return found, score, held.slack(x)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest scores of each row (q, n), descending, and where they stand, as `topk` says it but for the order of equal ones.

    The k highest are in the k groups of columns with the highest maxima, so that no long row is ever searched: on a CPU less than half of
    the time.
    """
    groups = scores.shape[1] // GROUP
    if groups < WORTH * k or scores.device.type != "cpu":
        return scores.topk(k, dim=1)
    whole = GROUP * groups
    at = scores[:, :whole].view(-1, GROUP, groups).amax(1).topk(k, dim=1).indices
    rest = torch.arange(whole, scores.shape[1]).expand(len(scores), -1)
    columns = torch.cat([(at.unsqueeze(2) + groups * torch.arange(GROUP)).flatten(1), rest], 1)
    best, place = scores.gather(1, columns).topk(k, dim=1)
    return best, columns.gather(1, place)


class _Tree:
    """A k-d tree in float64, for few dimensions."""

    spare = 2

    def __init__(self, references: Tensor) -> None:
        from scipy.spatial import KDTree

        self.tree = KDTree(references.double().numpy())
        self.largest = float(references.double().norm(dim=1).max())

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        x = queries.double()
        distance, index = self.tree.query(x.numpy(), k=np.arange(1, count + 1))
        # the features' own precision decides, and rounds more than the tree does
        unit = (x.shape[1] + 16) * torch.finfo(queries.dtype).eps
        return torch.from_numpy(index.astype(np.int64)), -torch.from_numpy(distance), unit * (x.norm(dim=1) + self.largest)


class _Faiss:
    """faiss's flat index of inner products, the exact one."""

    spare = 8

    def __init__(self, references: Tensor, cosine: bool) -> None:
        import faiss

        self.held = _Shifted(references, cosine)
        rows = self.held.rows if self.held.half is None else torch.cat([self.held.rows, -self.held.half[:, None]], 1)
        self.index = faiss.IndexFlatIP(rows.shape[1])
        self.index.add(rows.numpy())

    def __call__(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        x = self.held.of(queries)
        asked = x if self.held.half is None else torch.cat([x, x.new_ones(len(x), 1)], 1)
        score, index = self.index.search(asked.contiguous().numpy(), count)
        return torch.from_numpy(index), torch.from_numpy(score), self.held.slack(x)
