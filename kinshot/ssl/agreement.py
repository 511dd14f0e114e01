"""Agreement without negatives: a loss of two sets of rows over pairs of modalities, and over pairs of views of one modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kinshot.objectives.temporal.modality_pairs import PairTerms, terms_over_pairs
from kinshot.ssl.modalities import Seen


def agreement(terms: PairTerms, weights: Mapping[str, float], views: Sequence[Seen], intra: float, core: int | None) -> dict[str, Tensor]:
    """The loss across modalities, and at the weight `intra` within each of them across two views, with its terms by name.

    `loss` is the weighted sum of the terms, each the mean over pairs of modalities and over views, plus `intra` times `within`, which is
    the weighted sum of the same terms of both views of a modality, the mean over the modalities that two samples or more show in both.

    Args:
        terms: of two sets of rows and of which samples show both.
        weights: of each term.
        views: one, or two where there is something within.
        intra: weight of `within`; 0 leaves it out.
        core: a modality that every pair holds; None = all pairs.
    """
    found = [terms_over_pairs(terms, z, present, core=core) for z, present in views]
    across = {name: torch.stack([one[name] for one in found]).mean() for name in weights}
    loss = _weighed(across, weights)
    share = torch.stack([present.float().mean() for _, present in views]).mean()
    if not intra:
        return {"loss": loss, **across, "present": share}
    within = _within(terms, weights, *views)
    return {"loss": loss + intra * within, **across, "within": within, "present": share}


def _weighed(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()


def _within(terms: PairTerms, weights: Mapping[str, float], first: Seen, second: Seen) -> Tensor:
    both = first.present & second.present
    found = torch.stack([_weighed(terms(a, b, there), weights) for a, b, there in zip(first.z, second.z, both, strict=True)])
    return found.sum() / (both.sum(1) >= 2).sum().clamp(min=1)
