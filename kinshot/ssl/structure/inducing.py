"""The structure term as a wrapper around any method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.kin import constructors
from kinshot.kin.graph import RelationGraph
from kinshot.kin.parts import Listed
from kinshot.kin.relation import Relation
from kinshot.learn.method import Method
from kinshot.learn.taps import Taps
from kinshot.learn.wrapper import Wrapper
from kinshot.objectives.margin_contrastive import margin_contrastive
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.triplet import triplet
from kinshot.ssl.structure.neighborhood import Drawn, Neighborhood
from kinshot.ssl.structure.settings import StructureSettings, require_structure

# anchors at a time: a triplet loss looks at (anchors, batch, batch)
_TRIPLET_ROWS = 64


class StructureInducing(Wrapper):
    """A method's own loss, and beside it one that draws together what a graph links: `(1 - weight) L_base + weight L_SI`.

    Paper: McDermott, Yap, Szolovits, Zitnik, "Structure-inducing pre-training", Nature Machine Intelligence 2023, arXiv 2103.10334.

    Every sample of a batch is an anchor once; its partners, drawn from the graph, pass the networks in a second batch. The anchors'
    embeddings are those that the method computes for its own loss, from the augmented or masked view, and the partners are
    clean, as in the released code; both can be set. Departures from that code: the weight is the share itself (there it is the
    quotient of two numbers), copies of one sample in a flat batch are kin (there: strangers), and a sample without neighbors
    keeps its own loss and adds nothing to the term (there it ends the run).

    With weight 0 nothing is drawn and the wrapped method runs as if it were alone, bit for bit.

    Args:
        base: any method.
        graph: over the training samples.
        settings: weight, loss, and how partners are drawn.
        context: of the run.
        gauge_every: steps between two measurements of the quotient of both terms' gradient norms; 0 for none.
    """

    def __init__(
        self, base: Method, graph: RelationGraph, settings: StructureSettings, context: RunContext, *, gauge_every: int = 10
    ) -> None:
        super().__init__()
        self.base, self.settings, self.context = base, require_structure(settings), context
        self.neighborhood = Neighborhood(graph, settings, context.seed)
        self.order, self.trains_head = base.order, base.trains_head  # type: ignore[misc]
        self.companions = self.neighborhood if settings.weight > 0 and settings.per_anchor > 0 else None
        self.partner_input = settings.partner
        self.gauge_every = gauge_every
        self.view_count = base.view_count  # type: ignore[misc]
        self.needs_clean = base.needs_clean or (settings.weight > 0 and settings.anchor == "clean")  # type: ignore[misc]
        self._ratio: Tensor | None = None

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """Both terms; `views` are the base's, then a clean batch where `needs_clean` says so, then the partners."""
        own = self.base.view_count + self.base.needs_clean
        anchors = indices[: len(views[0])]
        if self.settings.weight == 0:
            return self.base.loss(views[:own], anchors, step)
        drawn = self.neighborhood.draw(anchors, step)
        with Taps({"encoder": self.base.encoder}) as taps:
            terms = self.base.loss(views[:own], anchors, step)
        clean = self.settings.anchor == "clean"
        z = self._embed(views[self.view_count]) if clean else self._head(taps.outputs("encoder", len(anchors)))
        structure = self._structure(z, self._partners(views, drawn), anchors, drawn)
        self._measure(terms["loss"], structure, step)
        weight = self.settings.weight
        rest = {name: value for name, value in terms.items() if name != "loss"}
        total = (1 - weight) * terms["loss"] + weight * structure
        return {"loss": total, "base": terms["loss"].detach(), "structure": structure.detach(), **rest}

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the wrapped method on; its gauges, and the quotient of gradient norms when it was measured."""
        gauges = self.base.after_step(step)
        if self._ratio is not None:
            gauges = {**gauges, "gradient_ratio": self._ratio}
            self._ratio = None
        return gauges

    def _partners(self, views: list[Tensor], drawn: Drawn) -> Tensor | None:
        count = len(drawn.ids)
        if count == 0:
            return None
        batch = views[-1]
        # batch normalisation cannot take a batch of one
        return self._embed(batch.expand(2, *batch.shape[1:]) if count == 1 else batch)[:count]

    def _structure(self, z: Tensor, partners: Tensor | None, anchors: Tensor, drawn: Drawn) -> Tensor:
        s = self.settings
        if s.loss == "contrastive":
            if partners is None:
                return z.sum() * 0.0
            shape = (len(z), len(partners))
            relation = Relation(Listed(drawn.positive.to(z.device)), Listed(drawn.negative.to(z.device)), shape)
            margins: dict[str, Any] = {"positive_margin": s.margin_positive, "negative_margin": s.margin_negative}
            return margin_contrastive(z, relation, partners, normalize=s.normalize, **margins)
        ids = torch.cat([anchors.cpu(), drawn.ids]).numpy()
        flat = constructors.graph(self.neighborhood.graph, ids, mask_hops=s.mask_hops).to(z.device)
        rows = z if partners is None else torch.cat([z, partners])
        if s.loss == "triplet":
            return triplet(rows, flat, margin=s.margin, normalize=s.normalize, chunk=_TRIPLET_ROWS)
        scales: dict[str, Any] = {"positive_scale": s.scale_positive, "negative_scale": s.scale_negative}
        return multi_similarity(rows, flat, threshold=s.threshold, mining_margin=s.mining, **scales)

    def _embed(self, x: Tensor) -> Tensor:
        return self._head(_first(self.base.encoder(x)))

    def _head(self, features: Tensor) -> Tensor:
        return self.base.projector(features) if self.settings.features == "projector" else features

    def _measure(self, base: Tensor, structure: Tensor, step: int) -> None:
        """Keep |gradient of the structure term| / |gradient of the base| over the encoder's weights, where it is due."""
        self._ratio = None
        last = step + 1 == self.context.total_steps
        if not self.gauge_every or not ((step + 1) % self.gauge_every == 0 or last) or not structure.requires_grad:
            return
        shared = [p for p in self.base.encoder.parameters() if p.requires_grad]
        norms = []
        for term in (structure, base):
            found = torch.autograd.grad(term, shared, retain_graph=True, allow_unused=True)
            norms.append(torch.nn.utils.get_total_norm([g for g in found if g is not None]))
        self._ratio = norms[0] / norms[1]


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output
