"""Several losses weighed by what training learns about them, in place of weights that somebody chose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest

KINDS = ("uncertainty", "softmax")


def by_uncertainty(losses: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The scalar sum of exp(-a) L + a, and the weights exp(-a): a loss that stays large counts less, at the price of a.

    Paper: Kendall, Gal, Cipolla 2018, arXiv 1705.07115 (homoscedastic uncertainty). For losses above 0; one that is 0 or less is never
    too heavy, and its weight grows without end.

    Args:
        losses: L (n,).
        a: learned (n,).
    """
    weights = (-a).exp()
    return (weights * losses + a).sum(), weights


def by_softmax(losses: Tensor, a: Tensor, penalty: float = 1.0) -> tuple[Tensor, Tensor]:
    """The scalar sum of n softmax(a) L + penalty * KL(uniform || softmax(a)), and the weights n softmax(a), whose mean is 1.

    Without the penalty all of the weight would go to the smallest loss.

    Paper: a reconstruction of Zabihzadeh, Alitbi, Mousavirad 2021, arXiv 2107.01130, from its abstract.

    Args:
        losses: L (n,).
        a: learned (n,).
        penalty: on unequal weights, from 0.
    """
    weights = len(losses) * a.softmax(0)
    return (weights * losses).sum() - penalty * weights.log().mean(), weights


class LearnedBalance(nn.Module):
    """Weights of a run's losses as parameters: all 1 at first, each loss times the weight that the recipe gives it.

    Args:
        labels: what the losses are called.
        kind: "uncertainty" or "softmax", see `by_uncertainty` and `by_softmax`.
    """

    def __init__(self, labels: Sequence[str], kind: Literal["uncertainty", "softmax"] = "uncertainty") -> None:
        super().__init__()
        if kind not in KINDS:
            raise ConfigError(f"balance: got {kind!r}: {suggest(kind, KINDS)}")
        self.labels, self.kind = list(labels), kind
        self.a = nn.Parameter(torch.zeros(len(self.labels)))

    @torch.no_grad()
    def weights(self) -> Tensor:
        """What each loss is multiplied by now, (n,)."""
        return (-self.a).exp() if self.kind == "uncertainty" else len(self.a) * self.a.softmax(0)

    def forward(self, losses: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimize, and each loss's weight by `balance_LABEL`."""
        values = torch.stack(list(losses)).float()
        total, weights = by_uncertainty(values, self.a) if self.kind == "uncertainty" else by_softmax(values, self.a)
        return total, {f"balance_{label}": weight for label, weight in zip(self.labels, weights.detach(), strict=True)}
