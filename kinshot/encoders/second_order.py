"""Second-order attention over the places of maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def second_order(query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None = None) -> Tensor:
    """softmax(q^T k) v of every place over all valid ones; products are not divided by the root of the width.

    Args:
        query: (B, N, D), of N places.
        key: (B, N, D).
        value: (B, N, E).
        valid: bool (B, N), places that are attended to; None for all. A sample without any attends to all.

    Returns:
        (B, N, E).

    >>> second_order(torch.zeros(1, 2, 3), torch.ones(1, 2, 3), torch.tensor([[[1.0], [3.0]]]))
    tensor([[[2.],
             [2.]]])
    """
    seen = None if valid is None else (valid | ~valid.any(1, keepdim=True))[:, None, None, :]
    query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, scale=1.0).squeeze(1)


class SecondOrder(nn.Module):
    """F' = F + g(softmax(q^T k) v): every place looks at all others of its map; q, k, v and g are 1x1 maps.

    It begins as the identity: g starts at zero, as in the non-local networks that it comes from (Wang et al. 2017, arXiv 1711.07971),
    since what it starts at is not told.

    Paper: Ebrahimpour, Qian, Beach 2021, arXiv 2112.14327; as wide as the maps, since no other width of q, k and v is told

    Args:
        dim: channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.g = (nn.Linear(dim, dim) for _ in range(4))
        nn.init.zeros_(self.g.weight)
        nn.init.zeros_(self.g.bias)

    def forward(self, values: Tensor, valid: Tensor | None = None) -> Tensor:
        """Maps (B, C, *grid) to such maps; zero at places that are not valid (bool (B, *grid))."""
        places = values.flatten(2).mT
        valid = None if valid is None else valid.flatten(1)
        seen = second_order(self.q(places), self.k(places), self.v(places), valid)
        places = places + self.g(seen)
        if valid is not None:
            places = torch.where(valid.unsqueeze(2), places, 0.0)
        return places.mT.reshape(values.shape)
