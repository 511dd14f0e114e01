"""MoCo-InterCLR."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import DataError, DivergedError, KinshotError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.queue import embedding_dim
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.samples.batch import Batch
from kinshot.ssl.interclr.bank import Bank, fill_bank_
from kinshot.ssl.interclr.intra import INTRA, Compared, IntraSettings
from kinshot.ssl.interclr.neighbors import mutual_neighbors
from kinshot.ssl.interclr.settings import StepSettings, at_least, scaled_sizes
from kinshot.ssl.interclr.step import advance_, choose, inter_loss


@METHODS.register("interclr")
class InterCLR(Method):
    """MoCo-InterCLR: beside its own other view, an image attracts images of its online pseudo-class.

    Paper: Xie, Zhan, Liu, Ong, Loy 2020, arXiv 2008.11702.

    Defaults are the released configuration with the sizes scaled to N samples (`0` means "from N"). A bank holds one
    embedding, a pseudo-label for every sample; see `kinshot.ssl.interclr`. The key networks, the queue and the bank move in
    `after_step`: the same sequence of values as moving the keys before the next forward pass, but complete between two steps,
    and never touched by a step that diverged. Departures: negatives never repeat while enough remain; queries without
    any negative count as 0. Settings marked (ours) are not in the paper.

    Only intra=moco follows a public reference. The paper reports InterCLR on NPID and on BYOL too, without code: intra=npid and intra=byol
    are our recipe. The bank of intra=npid is the memory of both losses, filled before the first step even where a warm-up comes first.

    Args:
        clusters: K, pseudo-classes; 0 is N / 128.
        min_cluster: clusters with fewer members are dissolved; 0 is N / (6 K), at most 20.
        intra_weight: of the loss between views.
        inter_weight: of the loss between images.
        warmup_epochs: first epochs, with weights 1 and 0.
        recluster_after_warmup: (ours) whether extraction and k-means fill the bank when the warm-up ends; it rests until then.
        temperature: divides every cosine similarity.
        inter_temperature: the same for the loss between images; None takes `temperature`.
        sampler: where negatives come from: nearest, random among the nearest, anywhere, random among the farthest.
        negatives: M, negatives of a query; 0 is 0.128 P.
        pool: P, size of the pools of semi_hard and semi_easy; 0 is N / 10.
        bank_fraction: (ours) share of the bank, newly drawn in each step, that pools are taken from, with P in proportion; below 1
            the search costs that much less. The sampler "random" does not search.
        margin: kind of margin on the positives between images.
        margin_value: its value; a negative one makes the boundary less strict.
        exclude_self: whether a sample is never its own positive.
        positives: cluster draws any member of the pseudo-class, neighbors (ours) a mutual nearest neighbour in it.
        neighbors: nearest members that count for positives=neighbors; the graph is renewed before each epoch.
        bank_momentum: weight of the new key in a bank row; 1 keeps the latest key alone.
        labels: online renews labels in every step, offline by extraction and k-means.
        offline_interval: epochs between two renewals of offline labels.
        centroid_interval: steps between two updates of the centroids.
        kmeans_iterations: most iterations of k-means.
        repair_starts: the two rows that a split of the largest cluster starts from, where a small one was dissolved: kmeans++ draws them
            far from each other; size, as in the released code, takes those that the cluster's size gives, and may go on splitting for ever.
        share_neck: whether both losses share the projector; else the loss between images has its own.
        intra: the loss between views: moco, or one of these (ours): simclr, NT-Xent inside the batch, without key networks and queue;
            npid, of one view with the bank itself (views.views=1); byol, whose loss is at most 4, so that it needs weights of its own.
        queue: keys kept as negatives for intra=moco, rounded down to a multiple of the batch; 0 is N / 2, at most 4096.
        key_momentum: share of the key networks that stays in a step; for intra=byol, where 0.99 is usual, it rises from this to 1.
        bank_negatives: rows of the bank that a batch is told from for intra=npid; 0 is 4096, or all where there are fewer.
        hidden: width of the predictor's inner layer for intra=byol; 0 is the projection's width.
        bn_splits: shuffled parts that the key networks normalise separately, in place of shuffling over several GPUs.
    """

    graph: Tensor | None

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        clusters: int = 0,
        min_cluster: int = 0,
        intra_weight: float = 0.75,
        inter_weight: float = 0.25,
        warmup_epochs: int = 0,
        recluster_after_warmup: bool = False,
        temperature: float = 0.2,
        inter_temperature: float | None = None,
        sampler: Literal["hard", "semi_hard", "random", "semi_easy"] = "semi_hard",
        negatives: int = 0,
        pool: int = 0,
        bank_fraction: float = 1.0,
        margin: Literal["cosine", "arc", "none"] = "cosine",
        margin_value: float = -0.5,
        exclude_self: bool = False,
        positives: Literal["cluster", "neighbors"] = "cluster",
        neighbors: int = 10,
        bank_momentum: float = 1.0,
        labels: Literal["online", "offline"] = "online",
        offline_interval: int = 1,
        centroid_interval: int = 10,
        kmeans_iterations: int = 20,
        repair_starts: Literal["kmeans++", "size"] = "kmeans++",
        share_neck: bool = True,
        intra: Literal["moco", "simclr", "npid", "byol"] = "moco",
        queue: int = 4096,
        key_momentum: float = 0.999,
        bank_negatives: int = 0,
        hidden: int = 0,
        bn_splits: int = 1,
    ) -> None:
        super().__init__(model)
        sizes = scaled_sizes(context.num_samples, clusters=clusters, negatives=negatives, pool=pool, min_cluster=min_cluster)
        self.settings = StepSettings(
            negatives=sizes.negatives,
            pool=sizes.pool,
            min_cluster=sizes.min_cluster,
            sampler=sampler,
            bank_fraction=bank_fraction,
            exclude_self=exclude_self,
            margin=margin,
            margin_value=margin_value,
            temperature=temperature,
            inter_temperature=temperature if inter_temperature is None else inter_temperature,
            intra_weight=intra_weight,
            inter_weight=inter_weight,
            bank_momentum=bank_momentum,
            labels=labels,
            centroid_interval=centroid_interval,
            repair_starts=repair_starts,
        )
        at_least("warmup_epochs", warmup_epochs, 0)
        for name, value in (("offline_interval", offline_interval), ("kmeans_iterations", kmeans_iterations), ("neighbors", neighbors)):
            at_least(name, value, 1)
        self.context = context
        self.warmup_epochs, self.recluster_after_warmup = warmup_epochs, recluster_after_warmup
        self.offline_interval, self.kmeans_iterations = offline_interval, kmeans_iterations
        self.inter_projector = None if share_neck else _fresh_copy(self.projector, keyed_generator(context.seed, "interclr/neck"))
        self.dim = embedding_dim(self.encoder, self.projector)
        told = IntraSettings(self.dim, temperature, queue, key_momentum, bn_splits, bank_negatives, hidden)
        self.intra = INTRA[intra](self.model, self._heads(), context, told)
        self.view_count = self.intra.view_count
        for name, part in self.intra.parts.items():
            self.add_module(name, part)
        self.bank = Bank.unfilled(context.num_samples, self.dim, sizes.clusters)
        graph = torch.full((context.num_samples, neighbors), -1, dtype=torch.int64) if positives == "neighbors" else None
        self.register_buffer("graph", graph)
        self._known_filled = False
        self._pending: tuple[Tensor, Tensor] | None = None

    def prepare(self, extract: Extract) -> None:
        """Start the key networks where the query networks are, and fill the bank by k-means."""
        self.intra.prepare()
        if not self._bank_rests(0):
            self._fill_bank(extract, 0)

    def start_epoch(self, epoch: int, extract: Extract) -> None:
        """Cluster anew where offline labels or the end of the warm-up ask for it; renew the graph of neighbours."""
        if self._bank_rests(epoch):
            return
        offline = self.settings.labels == "offline" and epoch % self.offline_interval == 0
        warm = self.recluster_after_warmup and epoch == self.warmup_epochs
        if epoch > 0 and (offline or warm):
            self._fill_bank(extract, epoch)
        if self.graph is not None:
            self.graph.copy_(mutual_neighbors(self.bank, self.graph.shape[1]))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Weighted sum of the loss between views and the loss between images; the latter is 0 while warming up."""
        epoch = step // self.context.steps_per_epoch
        if not self._bank_rests(epoch):
            self._check_filled()
        intra, query, keys = self._compared(outputs, batch, step)
        indices = batch.indices.to(self.bank.labels.device)
        # kept for after_step: sampling sees the bank before the step, and a step that diverges leaves no trace in it
        self._pending = (indices, keys)
        settings = self.settings
        if epoch < self.warmup_epochs:
            return {"loss": intra, "intra": intra.detach(), "inter": intra.new_zeros(())}
        generator = keyed_generator(self.context.seed, "interclr/sample", step)
        chosen = choose(self.bank, query.detach(), indices, generator, settings, self.graph)
        inter = inter_loss(
            query,
            self.bank.features,
            chosen.positives,
            chosen.negatives,
            temperature=settings.inter_temperature,
            margin=settings.margin,
            margin_value=settings.margin_value,
            weights=chosen.weights,
        )
        loss = settings.intra_weight * intra + settings.inter_weight * inter
        return {"loss": loss, "intra": intra.detach(), "inter": inter.detach()}

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the key networks, the queue and the bank past the step; returns the bank's health figures."""
        (indices, keys), self._pending = self._pending or (None, None), None
        self.intra.after_step(step, keys)
        if keys is None or indices is None or self._bank_rests(step // self.context.steps_per_epoch):
            return {}
        generator = keyed_generator(self.context.seed, "interclr/repair", step)
        return dict(advance_(self.bank, indices, keys[:, -self.dim :], step, self.settings, generator))

    def _bank_rests(self, epoch: int) -> bool:
        """Whether the bank is of no use yet: nothing reads it in a warm-up after which it is filled anew."""
        return self.recluster_after_warmup and epoch < self.warmup_epochs and not self.intra.reads_bank

    def _compared(self, outputs: Outputs, batch: Batch, step: int) -> Compared:
        """The loss between views, of what it looks at and what the loss between images does, side by side."""
        rows = list(outputs.blocks("projector"))
        if self.inter_projector is not None:
            rows = [torch.cat(pair, dim=1) for pair in zip(rows, outputs.blocks("inter"), strict=True)]
        return self.intra.compare(rows, batch, step, self.bank.features)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Queries: the first view; both where the views are compared without key networks, or in both directions."""
        found = outputs_of(self.model, batch, self.intra.views, [*self.uses, *names], joint=self.intra.joint)
        if self.inter_projector is None:
            return found
        own = torch.cat([self.inter_projector(z) for z in found.passes("backbone")])
        return replace(found, values={**found.values, "inter": own})

    def _heads(self) -> list[nn.Module]:
        return [self.projector] if self.inter_projector is None else [self.projector, self.inter_projector]

    def _fill_bank(self, extract: Extract, epoch: int) -> None:
        features = extract() if self.inter_projector is None else extract(self.inter_projector)
        if features.shape != self.bank.features.shape:
            expected, got = tuple(self.bank.features.shape), tuple(features.shape)
            raise DataError(f"interclr: expected one embedding for each sample, {expected}, got {got}: extract the whole training set")
        if not bool(torch.isfinite(features).all()):
            raise DivergedError(f"interclr: the embeddings of epoch {epoch} are not finite: lower the learning rate")
        generator = keyed_generator(self.context.seed, "interclr/kmeans", epoch)
        fill_bank_(self.bank, features.to(self.bank.features), generator, self.kmeans_iterations)

    def _check_filled(self) -> None:
        # once per process: reading the counts stalls a GPU
        if not self._known_filled and not self.bank.filled:
            raise KinshotError("interclr: the bank is empty: call prepare(extract), or load a checkpoint, before the first step")
        self._known_filled = True


def _fresh_copy(head: nn.Module, generator: torch.Generator) -> nn.Module:
    """A head of the same shape with newly drawn linear layers (uniform within 1 / sqrt(inputs), as torch's default)."""
    fresh = copy.deepcopy(head)
    for module in fresh.modules():
        if isinstance(module, nn.Linear):
            for parameter in module.parameters(recurse=False):
                nn.init.uniform_(parameter, -(module.in_features**-0.5), module.in_features**-0.5, generator=generator)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm | nn.LayerNorm):
            module.reset_parameters()
    return fresh
