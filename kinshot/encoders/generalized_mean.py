"""The generalized mean over places: from the mean to the largest value, by a power."""

from __future__ import annotations

from torch import Tensor

from kinshot.encoders.maps import Maps
from kinshot.objectives.common import at_least_float32, full_precision


def generalized_mean(maps: Maps, power: Tensor | float, eps: float = 1e-6) -> Tensor:
    """(mean over valid places of max(x, eps)^power)^(1 / power), each channel by itself; in float32 or better.

    Power 1 is the mean, and the larger it is, the nearer the largest value; values below `eps` count as `eps`, so that it suits maps
    behind a rectifier. Each channel is divided by its largest value meanwhile, which changes nothing but that no power overflows.

    Paper: Radenovic, Tolias, Chum 2017, arXiv 1711.02512 (GeM); in metric learning, Ye et al. 2020, arXiv 2001.04193 (AGW)

    Args:
        maps: (B, C, *grid).
        power: a number, or a tensor of one that is learned.
        eps: smallest value that counts, above 0.

    Returns:
        (B, C); zero for a sample without a valid place.

    >>> from kinshot.encoders.maps import Maps
    >>> generalized_mean(Maps(torch.tensor([[[1.0, 2.0, 2.0, 4.0]]]), 1), 3.0)
    tensor([[2.7259]])
    """
    with full_precision(maps.values):
        places = at_least_float32(maps.values).flatten(2).clamp_min(eps)
        valid = None if maps.valid is None else maps.valid.flatten(1).unsqueeze(1)
        if valid is not None:
            places = places.masked_fill(~valid, eps)
        largest = places.detach().amax(2)
        powers = (places / largest.unsqueeze(2)) ** power
        if valid is None:
            return largest * powers.mean(2) ** (1.0 / power)
        count = valid.sum(2)
        mean = ((powers * valid).sum(2) / count.clamp_min(1)).masked_fill(count == 0, 1.0)
        return (largest * mean ** (1.0 / power)).masked_fill(count == 0, 0.0)
