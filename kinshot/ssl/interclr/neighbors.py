"""Mutual nearest neighbours inside each pseudo-class, as a stricter choice of positives (ours, not the paper's)."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.objectives.common import full_precision
from kinshot.ssl.interclr.bank import Bank
from kinshot.ssl.interclr.sampling import Draw, members_by_label


@torch.no_grad()
def mutual_neighbors(bank: Bank, count: int) -> Tensor:
    """For each sample the members of its class that it counts among its nearest and that count it among theirs.

    Returns int64 (N, count) bank rows, nearest first; -1 fills places without a mutual neighbour.

    Args:
        bank: with a clustering; similarities are dot products of its features.
        count: k, nearest members considered in each direction.
    """
    groups = members_by_label(bank.labels, len(bank.centroids))
    graph = torch.full((len(bank.labels), count), -1, dtype=torch.int64, device=bank.labels.device)
    for members in groups.order.split(groups.counts.tolist()):
        if len(members) > 1:
            graph[members] = _mutual(bank.features[members], members, count)
    return graph


def draw_neighbors(graph: Tensor, labels: Tensor, indices: Tensor, fallback: Draw, generator: torch.Generator) -> Draw:
    """A uniform one of each sample's mutual neighbours that still has its label; the fallback's positive where none has.

    Args:
        graph: (N, k) from `mutual_neighbors`, possibly of an earlier step.
        labels: int64 (N,), the present ones.
        indices: int64 (B,) samples that ask.
        fallback: positives drawn otherwise.
        generator: CPU generator.
    """
    candidates = graph[indices]
    usable = (candidates >= 0) & (labels[candidates.clamp(min=0)] == labels[indices].unsqueeze(1))
    keys = torch.rand(candidates.shape, generator=generator).to(candidates.device).masked_fill_(~usable, -1.0)
    chosen = candidates.gather(1, keys.argmax(dim=1, keepdim=True)).squeeze(1)
    available = usable.sum(dim=1)
    return Draw(
        torch.where(available > 0, chosen, fallback.indices),
        torch.where(available > 0, available, fallback.available),
    )


def _mutual(rows: Tensor, members: Tensor, count: int) -> Tensor:
    near = min(count, len(members) - 1)
    with full_precision(rows):
        scores = (rows @ rows.T).fill_diagonal_(-torch.inf)
    nearest = scores.topk(near, dim=1).indices
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, nearest, value=True)
    mutual = chosen.T.gather(1, nearest)
    found = members.new_full((len(members), count), -1)
    found[:, :near] = torch.where(mutual, members[nearest], -1)
    return found
