"""A training step of metric learning, loss and miner forwards and backwards: kinshot beside pytorch-metric-learning.

A batch of 256 embeddings of 512 numbers, 4 of each of 64 classes out of 1000. Our side is what a term of a recipe runs: the relation of the
batch's labels, the miner where there is one, the objective. Before anything is timed both sides must give the same loss and the same
gradients, from the same rows of classes; where a miner draws, on the pairs that ours drew. Beside them stand the matrix products that no
exact step can do without: what they leave is all that code can save.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from pytorch_metric_learning import losses, miners
from torch import Tensor, nn

from benchmarks.common import BATCH, CLOCKS, SEED, Clock, Measured, alternate, parser, ratios, say, settle, write_result
from kinshot.core.context import RunContext
from kinshot.core.rng import keyed_generator
from kinshot.kin.constructors import labels
from kinshot.kin.kin import Pairs
from kinshot.kin.miners.distance_weighted import distance_weighted
from kinshot.kin.relation import Relation
from kinshot.learn.change import Change
from kinshot.objectives.margin import Margin
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.proxies.proxy_anchor import ProxyAnchor
from kinshot.objectives.proxies.sub_center_arc_face import SubCenterArcFace

DIM, CLASSES, PRESENT, CENTERS = 512, 1000, 64, 3
BAR, ALIKE = 2.0, 1e-4
OURS, THEIRS, PRODUCTS = "kinshot", "pytorch-metric-learning", "the products alone"
CONTEXT = RunContext(num_samples=BATCH, batch_size=BATCH, steps_per_epoch=1, total_steps=1, seed=SEED)
Work = Callable[[], object]
Loss = Callable[[], Tensor]


@dataclass(frozen=True)
class Contest:
    """One objective on both sides.

    Args:
        ours: the loss of a step.
        theirs: the same.
        leaves: of both sides, what takes gradients, in one order; of rows of classes, one row a class.
        products: the matrix products that a step cannot do without; none where it compares few pairs.
        same: both losses where they must agree, if not those of a step.
    """

    ours: Loss
    theirs: Loss
    leaves: tuple[Sequence[Tensor], Sequence[Tensor]]
    products: Work | None = None
    same: tuple[Loss, Loss] | None = None

    def apart(self) -> float:
        """How far the sides are from one another in loss or gradients, in units of the largest number of each."""
        found = []
        for loss, leaves in zip(self.same or (self.ours, self.theirs), self.leaves, strict=True):
            value = loss()
            found.append([value.detach(), *torch.autograd.grad(value, leaves)])
        return max(_apart(a, b) for a, b in zip(*found, strict=True))

    def sides(self, steps: int, clock: Clock) -> dict[str, Callable[[], float]]:
        """Milliseconds of a step, by side."""

        def step(loss: Loss, leaves: Sequence[Tensor]) -> Work:
            def work() -> None:
                for leaf in leaves:
                    leaf.grad = None
                loss().backward()

            return work

        works = {OURS: step(self.ours, self.leaves[0]), THEIRS: step(self.theirs, self.leaves[1])}
        works |= {} if self.products is None else {PRODUCTS: self.products}
        return {name: lambda work=work: milliseconds(work, steps, clock) for name, work in works.items()}  # type: ignore[misc]


def _apart(a: Tensor, b: Tensor) -> float:
    b = b.reshape(a.shape) if a.dim() < 2 else b if a.shape == b.shape else b.T
    return float((a - b).abs().max() / b.abs().max())


def milliseconds(work: Work, steps: int, clock: Clock) -> float:
    """Of one of so many calls."""
    started = clock()
    for _ in range(steps):
        work()
    return 1000 * (clock() - started) / steps


def batch() -> tuple[Tensor, Tensor]:
    """Embeddings (256, 512) around class means, not at unit length, and their classes; 4 of each that is present."""
    generator = keyed_generator(SEED, "benchmark/metric steps")
    y = torch.randperm(CLASSES, generator=generator)[:PRESENT].repeat_interleave(BATCH // PRESENT)
    means = torch.randn(CLASSES, DIM, generator=generator)
    return (means[y] + 2 * torch.randn(BATCH, DIM, generator=generator)).requires_grad_(), y


def products(anchors: int, rows: int) -> Work:
    """Similarities (anchors, rows), and of their gradient those of both sides."""
    z, weight, gradient = torch.randn(anchors, DIM), torch.randn(rows, DIM), torch.randn(anchors, rows)
    return lambda: (z @ weight.T, gradient @ weight, gradient.T @ z)


def multi_similarity_contest(z: Tensor, y: Tensor) -> Contest:
    """Multi-similarity with its miner, which our objective has inside."""
    miner, loss = miners.MultiSimilarityMiner(0.1), losses.MultiSimilarityLoss(alpha=2, beta=40, base=0.5)
    return Contest(
        lambda: multi_similarity(z, labels(y), reduction="mean"),
        lambda: loss(z, y, miner(z, y)),
        ([z], [z]),
        products(BATCH, BATCH),
    )


def margin_contest(z: Tensor, y: Tensor) -> Contest:
    """Margin loss with a learned boundary on pairs that the distance-weighted miner draws."""
    own, mined = Margin(DIM, CLASSES, CONTEXT), Change(miner=distance_weighted, seed=SEED)
    miner, loss = miners.DistanceWeightedMiner(), losses.MarginLoss(learn_beta=True)
    drawn = mined(Pairs(z, labels(y), y=y), 0)
    chosen = triplets(drawn.relation)
    return Contest(
        lambda: own(*mined(Pairs(z, labels(y), y=y), 0)),
        lambda: loss(z, y, miner(z, y)),
        ([z, own.beta], [z, loss.beta]),
        same=(lambda: own(*drawn), lambda: loss(z, y, chosen)),
    )


def triplets(relation: Relation) -> tuple[Tensor, Tensor, Tensor]:
    """Drawn pairs as anchors, kin and others: an anchor has as many others as kin, one that was drawn twice twice."""
    positive, negative = relation.dense()
    anchor, kin = positive.nonzero(as_tuple=True)
    others = negative.nonzero()[:, 1].repeat_interleave(negative[negative > 0].long())
    return anchor, kin, others


def proxy_anchor_contest(z: Tensor, y: Tensor) -> Contest:
    """Proxy-Anchor."""
    own, other = ProxyAnchor(DIM, CLASSES, CONTEXT), losses.ProxyAnchorLoss(CLASSES, DIM, margin=0.1, alpha=32)
    with torch.no_grad():
        other.proxies.copy_(own.rows.weight)
    return Contest(lambda: own(z, y), lambda: other(z, y), ([z, own.rows.weight], [z, other.proxies]), products(BATCH, CLASSES))


def sub_center_contest(z: Tensor, y: Tensor) -> Contest:
    """Sub-center ArcFace with three centers of each class."""
    own = SubCenterArcFace(DIM, CLASSES, CONTEXT, centers=CENTERS)
    settings = {"num_classes": CLASSES, "embedding_size": DIM, "sub_centers": CENTERS}
    other = losses.SubCenterArcFaceLoss(margin=math.degrees(own.margin), scale=own.scale, **settings)
    other.W = nn.Parameter(own.rows.weight.detach().T.clone())
    leaves = [z, own.rows.weight], [z, other.W]
    return Contest(lambda: own(z, y), lambda: other(z, y), leaves, products(BATCH, CLASSES * CENTERS))


CONTESTS = {
    "multi-similarity with its miner": multi_similarity_contest,
    "margin, distance-weighted miner": margin_contest,
    "Proxy-Anchor": proxy_anchor_contest,
    f"sub-center ArcFace, K {CENTERS}": sub_center_contest,
}


def compare(title: str, contest: Contest, options: argparse.Namespace, clock: Clock) -> list[Measured]:
    """Times of both sides and of the products, how often ours fits into theirs, and how often the products would."""
    sides = contest.sides(options.steps, clock)
    alternate(sides, 1)
    found = alternate(sides, options.rounds)
    measured = [Measured(f"{title}: {name}", "ms", values) for name, values in found.items()]
    measured.append(Measured(f"{title}: {THEIRS} / {OURS}", "ratio", ratios(found[THEIRS], found[OURS]), BAR))
    if PRODUCTS in found:
        measured.append(Measured(f"{title}: {THEIRS} / {PRODUCTS}", "ratio", ratios(found[THEIRS], found[PRODUCTS])))
    return measured


def main() -> int:
    """Compare values, measure, print, and write a result file where asked; 1 where values differ."""
    options = parser(__doc__, rounds=15, steps=10).parse_args()
    allocator, clock = settle(options.threads), CLOCKS[options.clock]
    contests = {title: contest(*batch()) for title, contest in CONTESTS.items()}
    apart = {title: contest.apart() for title, contest in contests.items()}
    for title, far in apart.items():
        say(f"{title}: loss and gradients apart by {far:.1e} of the largest number of each")
    if max(apart.values()) > ALIKE:
        say(f"they must agree within {ALIKE:g}: nothing is timed")
        return 1
    measured = [row for title, contest in contests.items() for row in compare(title, contest, options, clock)]
    for one in measured:
        say(one.line())
    if options.json:
        data = {"batch": BATCH, "dim": DIM, "classes": CLASSES, "classes of the batch": PRESENT, "centers": CENTERS}
        data |= {"apart": {title: float(f"{far:.1e}") for title, far in apart.items()}}
        notes = [
            f"clock {options.clock}, {options.threads} threads",
            allocator,
            "labels, miner, loss, and backward to embeddings and rows of classes; float32",
            "apart: loss and gradients of both sides before anything is timed, in units of the largest number of each; of the margin loss "
            "on the pairs that ours drew, as draws differ",
            f"the products alone: {DIM} numbers a row, forwards and both gradients, as no exact step can do with fewer",
        ]
        write_result(options.json, "benchmarks.metric_steps", data, measured, ["pytorch-metric-learning"], notes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
