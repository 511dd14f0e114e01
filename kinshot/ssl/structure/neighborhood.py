"""Which neighbors and strangers come with a batch: drawn from a graph, keyed by seed and step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.rng import keyed_numpy
from kinshot.kin.graph import RelationGraph
from kinshot.ssl.structure.settings import StructureSettings


@dataclass(frozen=True)
class Drawn:
    """The partners of a batch of B samples.

    Args:
        ids: int64 (P,), their sample indices.
        positive: int64 (B, k), for each anchor the rows of `ids` that are its neighbors; -1 where it has none.
        negative: int64 (B, k), the same for strangers.
    """

    ids: Tensor
    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class Neighborhood:
    """Draws partners for batches; a picklable function of (anchors, step), so that a loader process draws what the method will.

    Args:
        graph: over the training samples.
        settings: how to draw.
        seed: the run's seed.
    """

    graph: RelationGraph
    settings: StructureSettings
    seed: int

    def __call__(self, anchors: Tensor, step: int) -> Tensor:
        """Sample indices (P,) to load beside a batch."""
        return self.draw(anchors, step).ids

    def draw(self, anchors: Tensor, step: int) -> Drawn:
        """Neighbors and strangers of int64 anchors (B,) at a step of the run: the same for every call."""
        s, ids = self.settings, anchors.cpu().numpy()
        rng = keyed_numpy(self.seed, "structure", step)
        kin = self.graph.sample_positives(ids, s.per_anchor, rng, how=s.positives, hops=s.hops, walk_length=s.hops)
        strangers = self.graph.sample_negatives(ids, s.per_anchor, rng, how=s.negatives, hops=s.hops)
        strangers[(kin < 0).all(1)] = -1  # a sample without neighbors keeps its own loss and adds nothing
        drawn = np.stack([kin, strangers])
        rows = np.full(drawn.shape, -1, dtype=np.int64)
        there = drawn >= 0
        rows[there] = np.arange(int(there.sum()))
        return Drawn(torch.from_numpy(drawn[there]), torch.from_numpy(rows[0]), torch.from_numpy(rows[1]))
