"""MEOW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.meta_path import Masks, MetaPathEncoder, Noise
from kinshot.encoders.queue import embedding_dim
from kinshot.kin import constructors
from kinshot.kin.parts import Block, Listed
from kinshot.kin.relation import Relation
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import BACKBONE, PROJECTOR, Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_above, check_at_least, full_precision
from kinshot.objectives.info_nce import info_nce
from kinshot.objectives.proto_nce import cluster_nce, densities
from kinshot.samples.batch import Batch, Shown
from kinshot.ssl.interclr.kmeans import kmeans

ALL_NODES = "nodes"
"""What the detailed view says of all nodes, which are clustered, among the outputs."""


class Clustering(NamedTuple):
    """Clusters of all N nodes: of each node (N,), their centers (K, D) and temperatures (K,)."""

    own: Tensor
    centers: Tensor
    density: Tensor


@METHODS.register("meow")
class Meow(Method):
    """Every node's rough view attracts its detailed view and repels those of others, the more of k-means clusterings part the two.

    Paper: Yu, Ge, Li, Zhou 2023, arXiv 2212.13847.

    The views are those of encoder `meta_path`; the detailed one is made twice on every path, once with features and edges masked. Both
    pass the projector and a tanh. Beside InfoNCE with these weights (kin `clusterings`, `denominator: negatives`), ProtoNCE of the rough
    views against the centers of their detailed views' clusters. Each step takes all nodes where `train.batch_size` is 0; smaller batches
    are told apart among themselves, and clusters are of all nodes nevertheless. With `clusters: []` it is plain InfoNCE between the two
    views, as in HeCo (Wang, Liu, Han, Shi 2021, arXiv 2105.09111), whose positives by meta-paths it does not take.
    Departures: clusters start from drawn nodes once, not five times, unless `restarts` says so; temperatures of clusters by distances,
    where the public code has products (`density: product`); masks are drawn anew in every step, where that code draws them once
    (`remask: 0`), and hide each entry with this chance, not exactly this share. Learned weights (AdaMEOW, TKDE 2024) are not here.

    Args:
        temperature: divides every cosine, and is the mean of the clusters' temperatures.
        clusters: how many clusters each clustering has; none for plain InfoNCE, None for N/40 and N/13, which on ACM's 4019 papers are
            about those of the paper, 100 and 300.
        weighted: whether others weigh by the number of clusterings that part them; without, they all weigh the same, and the clusters
            serve ProtoNCE alone.
        proto_weight: of ProtoNCE.
        density: how dense a cluster is, by distances from its center or by products with it.
        recluster: steps from one clustering to the next.
        iterations: most iterations of k-means.
        restarts: of k-means, of which the tightest result counts.
        feature_mask: share of the entries of the features that the masked view lacks.
        edge_masks: share of the edges that it lacks, for each path, or one for all.
        remask: steps from one draw of masks to the next; 0 draws them once for the whole run, as the public code does.
        dropout: share of the numbers behind linear maps that are zero in training.
    """

    accepts = ("node",)
    view_count = 1
    assignments: Tensor
    centers: Tensor
    temperatures: Tensor

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        temperature: float = 0.4,
        clusters: tuple[int, ...] | None = None,
        weighted: bool = True,
        proto_weight: float = 1.0,
        density: Literal["distance", "product"] = "distance",
        recluster: int = 1,
        iterations: int = 20,
        restarts: int = 1,
        feature_mask: float = 0.3,
        edge_masks: tuple[float, ...] = (0.3,),
        remask: int = 1,
        dropout: float = 0.2,
    ) -> None:
        super().__init__(model)
        nodes = context.num_samples
        self.sizes = (max(2, nodes // 40), max(2, nodes // 13)) if clusters is None else tuple(clusters)
        check_above("temperature", temperature)
        check_at_least(1, recluster=recluster, iterations=iterations, restarts=restarts)
        check_at_least(0, remask=remask, proto_weight=proto_weight)
        for name, shares in (("feature_mask", (feature_mask,)), ("edge_masks", edge_masks), ("dropout", (dropout,))):
            if not all(0 <= share < 1 for share in shares):
                raise ConfigError(f"{name}: expected shares from 0 to below 1, got {shares[0] if len(shares) == 1 else list(shares)}")
        if any(not 2 <= size <= nodes for size in self.sizes):
            raise ConfigError(f"clusters: expected numbers from 2 to {nodes}, the nodes that there are, got {list(self.sizes)}")
        if context.batch_size < 2:
            raise ConfigError(f"meow: expected a batch of at least 2, got {context.batch_size}: others in the batch are told apart")
        self.temperature, self.weighted, self.proto_weight = temperature, weighted, proto_weight
        self.density, self.recluster, self.iterations, self.restarts = density, recluster, iterations, restarts
        self.feature_mask, self.edge_masks, self.remask, self.dropout = feature_mask, edge_masks, remask, dropout
        self.seed = context.seed
        dim = embedding_dim(self.encoder, self.projector)
        self.register_buffer("assignments", torch.zeros(len(self.sizes), nodes, dtype=torch.int64))
        self.register_buffer("centers", torch.zeros(sum(self.sizes), dim))
        self.register_buffer("temperatures", torch.zeros(sum(self.sizes)))
        self._pending: list[Clustering] | None = None
        self._masks: tuple[int, Masks] | None = None
        if self.graph_encoder.input.nodes != nodes:
            raise ConfigError(f"meow: the data are {nodes} of the graph's {self.graph_encoder.input.nodes} nodes: train on all of them")
        self.graph_encoder.shares(edge_masks)

    @property
    def graph_encoder(self) -> MetaPathEncoder:
        """The encoder. Raises ConfigError for one without two views."""
        if not isinstance(self.encoder, MetaPathEncoder):
            raise ConfigError(f"meow: expected the encoder meta_path, which has two views of a node, got {type(self.encoder).__name__}")
        return self.encoder

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Rough views of the batch's nodes, then their detailed views; and the projection of all nodes' detailed views, `nodes`."""
        noise = Noise(self.dropout, keyed_generator(self.seed, "meow/dropout", batch.step), self._drawn_masks(batch.step))
        rough, detailed = self.graph_encoder.views(noise)
        nodes = len(rough)
        said = self.model.of_features(torch.cat([rough, detailed]), [*self.uses, *names])
        said = {PROJECTOR: said[BACKBONE], **said, "attention": said[BACKBONE]}
        rows = batch.views[0][:, 0]
        shown = torch.cat([rows, nodes + rows])
        values = {**{name: found[shown] for name, found in said.items()}, ALL_NODES: said[PROJECTOR][nodes:].detach()}
        return Outputs(values, Shown(batch.indices.repeat(2), (0, 1), (batch.views[0], batch.views[0])))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """InfoNCE of the two views, and where there are clusters ProtoNCE of the rough one."""
        with full_precision(outputs[PROJECTOR]):
            rough, detailed = (unit_tanh(rows) for rows in outputs.blocks(PROJECTOR))
            found = self._clusterings(unit_tanh(outputs[ALL_NODES]), step)
            own = [one.own[batch.indices] for one in found]
            if found and self.weighted:
                relation = constructors.clusterings(own)
                info = info_nce(rough, relation, detailed, temperature=self.temperature, denominator="negatives", normalize=False)
            else:
                info = info_nce(rough, others_apart(len(rough), rough.device), detailed, temperature=self.temperature, normalize=False)
            if not found or self.proto_weight == 0:
                return {"loss": info}
            sets = [one.centers for one in found], own, [one.density for one in found]
            proto = cluster_nce(rough, *sets, mean_denominator=True)
        return {"loss": info + self.proto_weight * proto, "info_nce": info.detach(), "proto_nce": proto.detach()}

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Keep the clusters that the step made."""
        if self._pending is not None:
            self.assignments.copy_(torch.stack([one.own for one in self._pending]))
            self.centers.copy_(torch.cat([one.centers for one in self._pending]))
            self.temperatures.copy_(torch.cat([one.density for one in self._pending]))
            self._pending = None
        return {}

    def _clusterings(self, rows: Tensor, step: int) -> list[Clustering]:
        """Those that are kept, or in every `recluster`-th step new ones of all nodes' rows (N, D), which `after_step` keeps."""
        if not self.sizes:
            return []
        if step % self.recluster:
            sizes = list(self.sizes)
            return [
                Clustering(*one) for one in zip(self.assignments, self.centers.split(sizes), self.temperatures.split(sizes), strict=True)
            ]
        self._pending = [self._clustered(rows, size, keyed_generator(self.seed, "meow/clusters", step, size)) for size in self.sizes]
        return self._pending

    def _clustered(self, rows: Tensor, size: int, generator: torch.Generator) -> Clustering:
        tries = [kmeans(rows, size, generator=generator, iterations=self.iterations) for _ in range(self.restarts)]
        own, centers = min(tries, key=lambda one: float((rows - one[1][one[0]]).square().sum()))
        phi = densities(rows, centers, own, temperature=self.temperature, smoothing=5.0, spread=self.density)
        return Clustering(own, F.normalize(centers, dim=1), phi)

    def _drawn_masks(self, step: int) -> Masks:
        """The masks of a step, drawn anew where they are due."""
        number = step // self.remask if self.remask else 0
        if self._masks is None or self._masks[0] != number or self._masks[1].features.device != self.centers.device:
            generator = keyed_generator(self.seed, "meow/masks", number)
            self._masks = number, self.graph_encoder.masks(self.feature_mask, self.edge_masks, generator)
        return self._masks[1]


def unit_tanh(rows: Tensor) -> Tensor:
    """tanh of each number, in float32, and rows of length 1."""
    return F.normalize(torch.tanh(rows.float()), dim=1)


def others_apart(count: int, device: torch.device) -> Relation:
    """Anchor i and reference i are kin, and all others are told apart."""
    own = torch.arange(count, device=device).unsqueeze(1)
    return Relation(Listed(own), Block(count, count, own), (count, count))
