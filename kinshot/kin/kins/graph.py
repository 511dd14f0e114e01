"""Kin by a graph over the training samples."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs
from kinshot.kin.parts import Listed
from kinshot.kin.relation import Relation
from kinshot.samples.batch import Batch, Shown


class Drawn(NamedTuple):
    """The partners of a batch of B samples.

    `ids` int64 (P,) are their sample indices; `positive` and `negative`, int64 (B, k), the rows of `ids` that are each anchor's
    neighbors and strangers, -1 where it has none.
    """

    ids: Tensor
    positive: Tensor
    negative: Tensor


@KINS.register("graph")
class GraphKin(Kin):
    """What a graph links is kin; of each sample of a batch, neighbors and strangers come with it.

    A sample without neighbors adds nothing.

    Paper: McDermott, Yap, Szolovits, Zitnik, "Structure-inducing pre-training", Nature Machine Intelligence 2023, arXiv 2103.10334

    Args:
        of: the graph, as `knn:k=5`; empty for the recipe's own `graph`.
        pairs: compare each anchor with the partners drawn for it (drawn), or all rows with all by the graph's links (batch).
        anchor: which input of the batch's own samples is seen, their first view, or the clean sample.
        partner: the same for the drawn neighbors and strangers.
        positives: a linked node (edge), any within `hops` steps (hops), or where a random walk of `hops` steps ends (walk).
        negatives: strangers are any unlinked node, one of the same group (same_group), one beyond `hops` steps, or a listed one (explicit).
        hops: reach of positives=hops or walk, and of negatives=hops.
        per_anchor: neighbors, and strangers, drawn for each sample of the batch; 0 draws none and looks at the links inside the batch.
        mask_hops: pairs within so many steps that are not linked are neither kin nor strangers (pairs=batch); 0 for none.
    """

    def __init__(
        self,
        known: Known,
        *,
        of: str = "",
        pairs: Literal["drawn", "batch"] = "batch",
        anchor: Literal["view", "clean"] = "view",
        partner: Literal["clean", "view"] = "clean",
        positives: Literal["edge", "hops", "walk"] = "edge",
        negatives: Literal["any", "same_group", "hops", "explicit"] = "any",
        hops: int = 2,
        per_anchor: int = 1,
        mask_hops: int = 0,
    ) -> None:
        for name, value, least in (("hops", hops, 1), ("per_anchor", per_anchor, int(pairs == "drawn")), ("mask_hops", mask_hops, 0)):
            if value < least:
                raise ConfigError(f"kin graph: {name}: expected at least {least}, got {value}")
        if known.graph is None:
            raise ConfigError("kin graph: no graph can be made here")
        self.graph = known.graph(of)
        self.seed, self.drawn = known.context.seed, pairs == "drawn"
        self.anchors, self.partner_input, self.draws = anchor, partner, per_anchor > 0
        self.positives, self.negatives, self.hops = positives, negatives, hops
        self.per_anchor, self.mask_hops = per_anchor, mask_hops

    def draw(self, samples: Tensor, step: int) -> Tensor:
        """Neighbors and strangers of a batch."""
        return self.drawn_for(samples, step).ids

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """Anchors against their partners, or all rows against all."""
        drawn = self.drawn_for(shown.samples, step)
        if not self.drawn:
            ids = torch.cat([shown.samples.cpu(), drawn.ids]).numpy()
            relation = constructors.graph(self.graph, ids, mask_hops=self.mask_hops).to(z.device)
            return Pairs(z if partners is None else torch.cat([z, partners]), relation)
        if partners is None:
            return None
        positive, negative = Listed(drawn.positive.to(z.device)), Listed(drawn.negative.to(z.device))
        return Pairs(z, Relation(positive, negative, (len(z), len(partners))), partners)

    def drawn_for(self, samples: Tensor, step: int) -> Drawn:
        """Neighbors and strangers of int64 samples (B,) at a step of the run: the same for every call, in every process."""
        ids = samples.cpu().numpy()
        rng = keyed_numpy(self.seed, "structure", step)
        kin = self.graph.sample_positives(ids, self.per_anchor, rng, how=self.positives, hops=self.hops, walk_length=self.hops)
        strangers = self.graph.sample_negatives(ids, self.per_anchor, rng, how=self.negatives, hops=self.hops)
        strangers[(kin < 0).all(1)] = -1  # a sample without neighbors adds nothing
        drawn = np.stack([kin, strangers])
        rows = np.full(drawn.shape, -1, dtype=np.int64)
        there = drawn >= 0
        rows[there] = np.arange(int(there.sum()))
        return Drawn(torch.from_numpy(drawn[there]), torch.from_numpy(rows[0]), torch.from_numpy(rows[1]))
