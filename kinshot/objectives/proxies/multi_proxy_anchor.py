"""Multi-proxy anchor: Proxy-Anchor with several proxies of a class, the nearest of which counts most."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.objectives import OBJECTIVES
from kinshot.objectives.common import check_above, full_precision
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.proxies.directions import cosines
from kinshot.objectives.proxies.proxy_anchor import anchored, check_anchor, with_margins
from kinshot.objectives.proxies.rows import ProxyRows, checked, share, soft_maximum


def multi_proxy_anchor_loss(
    z: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    proxies: int = 2,
    gamma: float = 0.1,
    margin: float = 0.1,
    alpha: float = 32.0,
    anchor: Literal["class", "sample"] = "class",
) -> Tensor:
    """`proxy_anchor.anchored` of S_ic = sum_k softmax_k(s(z_i, p_ck) / gamma) s(z_i, p_ck), a scalar.

    Paper: Saeki, Kawahara, Aman 2021, arXiv 2110.03997; a reconstruction, see `MultiProxyAnchor`.

    Args:
        z: (B, D).
        y: int64 (B,), -1 = unknown: costs 0.
        weight: (C * proxies, D), class after class.
        proxies: of a class.
        gamma: how soft the maximum over them is, above 0.
        margin: of the similarity, from 0.
        alpha: sharpness, above 0.
        anchor: "class" or "sample".

    Raises:
        ConfigError: a setting out of range, shapes that do not fit together, or a class without rows.
    """
    _check(proxies, gamma)
    check_anchor(margin, alpha, anchor)
    z, weight = checked("multi_proxy_anchor", z, weight, y, proxies)
    with full_precision(z):
        similarity = soft_maximum(cosines(z, weight), proxies, gamma)
        return anchored(similarity, y, margin=margin, alpha=alpha, anchor=anchor)


def _check(proxies: int, gamma: float) -> None:
    check_above("proxies", proxies)
    check_above("gamma", gamma)


@OBJECTIVES.register("multi_proxy_anchor", takes="proxies")
class MultiProxyAnchor(ObjectiveModule):
    """Proxy-Anchor of an embedding's similarity to several proxies of a class, which is a soft maximum over them.

    Paper: Saeki, Kawahara, Aman 2021, arXiv 2110.03997. A reconstruction: the soft maximum is that of SoftTriple (Qian, Shang, Sun, Hu,
    Li, Jin 2019, arXiv 1909.05235), and the loss that of Proxy-Anchor (Kim, Kim, Cho, Kwak 2020, arXiv 2003.13911).

    Args:
        dim: of embeddings, D.
        classes: how many there are.
        context: what is known of the run; plays no part, and may be left out.
        proxies: of a class, at least 1.
        gamma: how soft the maximum over them is, above 0.
        margin: of the similarity, from 0.
        alpha: sharpness, above 0.
        anchor: over what sums run, see `proxy_anchor`: "class" or "sample".
        proxy_lr: share of the learning rate that the rows take, above 0.

    Raises:
        ConfigError: a setting out of range, or no class.

    >>> z, y = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([0, 1, -1])  # the class of the third is not known
    >>> loss = kinshot.objectives.multi_proxy_anchor(2, 2, proxies=2, alpha=2.0)
    >>> loss.rows.imprint_(torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([0, 0, 1, 1]))
    >>> round(loss(z, y).item(), 3), loss.logits(z).argmax(1).tolist()
    (1.609, [0, 0, 1])
    """

    def __init__(
        self,
        dim: int,
        classes: int,
        context: RunContext | None = None,
        *,
        proxies: int = 2,
        gamma: float = 0.1,
        margin: float = 0.1,
        alpha: float = 32.0,
        anchor: Literal["class", "sample"] = "class",
        proxy_lr: float = 1.0,
    ) -> None:
        super().__init__()
        _check(proxies, gamma)
        check_anchor(margin, alpha, anchor)
        self.proxies, self.gamma = proxies, gamma
        self.margin, self.alpha, self.anchor = margin, alpha, anchor
        self.lr_scale = share(proxy_lr)
        self.rows = ProxyRows(dim, classes, proxies)

    def logits(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Similarities times alpha (B, C) of embeddings (B, D); with classes (B,) as the loss sees them, with the margins."""
        similarity = soft_maximum(self.rows.cosines(z), self.proxies, self.gamma)
        return self.alpha * similarity if y is None else with_margins(similarity, y, self.margin, self.alpha)

    def forward(self, z: Tensor, y: Tensor, step: int = 0) -> Tensor:
        """The loss of embeddings (B, D) of classes (B,); `step` plays no part."""
        return multi_proxy_anchor_loss(
            z,
            y,
            self.rows.weight,
            proxies=self.proxies,
            gamma=self.gamma,
            margin=self.margin,
            alpha=self.alpha,
            anchor=self.anchor,
        )
