"""How good embeddings are, measured without labels: what two views of the same samples say of each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kinshot.datasets.base import Source
from kinshot.learn.gauges import effective_rank, neighbor_agreement, view_retrieval

SAMPLES = 1000
_BATCH = 256


def view_quality(
    source: Source,
    views: Callable[..., list[Tensor]],
    embed: Callable[[Tensor], dict[str, Tensor]],
    *,
    seed: int,
    epoch: int,
    device: torch.device,
) -> dict[str, float]:
    """Gauges of up to SAMPLES samples, spread over the source, for backbone and projector.

    `retrieval` and `agreement` compare two views, see `kinshot.learn.gauges`; `effective_rank` is of the first.
    The same samples and, for the same `epoch`, the same views whenever it is called.

    Args:
        source: the training source.
        views: makes a batch's views, `views(samples, indices, seed=, epoch=)`.
        embed: normalised batch to `backbone` and `projector`, without gradient, in evaluation mode.
        seed: the run's seed.
        epoch: key of the views; one that is never trained on, and the one after it, for two fresh views.
        device: where views and embeddings are computed.
    """
    rows = np.linspace(0, len(source) - 1, min(SAMPLES, len(source))).astype(np.int64)
    found: dict[str, list[list[Tensor]]] = {"backbone": [[], []], "projector": [[], []]}
    for part in np.array_split(rows, -(-len(rows) // _BATCH)):
        samples, indices = source.load(part).to(device), torch.from_numpy(part)
        for number in (0, 1):
            z = embed(views(samples, indices, seed=seed, epoch=epoch + number)[0])
            for name, kept in found.items():
                kept[number].append(z[name].float().cpu())
    gauges: dict[str, float] = {}
    for name, pair in found.items():
        x, y = (torch.cat(parts) for parts in pair)
        gauges[f"retrieval/{name}"] = float(view_retrieval(x, y))
        gauges[f"agreement/{name}"] = float(neighbor_agreement(x, y))
        gauges[f"effective_rank/{name}"] = float(effective_rank(x))
    return gauges
