"""The batch-norm neck: a feature for distances, and the same one normalised for classes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class BatchNormNeck(nn.Module):
    """BNNeck: batch normalisation behind a projector, with an output on either side of it; as a whole it is the one behind.

    Objectives of distances (triplet, WRT) look at `before`, those with class rows (softmax, proxies) at `after`, which is also what is
    evaluated. The normalisation learns a scale and no shift: its bias stays at zero.

    Paper: Luo, Gu, Liao, Lai, Jiang 2019, arXiv 1903.07071; Ye et al. 2020, arXiv 2001.04193 (AGW)

    Args:
        network: features (B, dim) to (B, out).
        out: what the network gives.

    Attributes:
        names: of the outputs.
    """

    names = ("before", "after")

    def __init__(self, network: nn.Module, out: int) -> None:
        super().__init__()
        self.network, self.norm = network, nn.BatchNorm1d(out)
        self.norm.bias.requires_grad_(False)

    def outputs(self, z: Tensor) -> dict[str, Tensor]:
        """Of features (B, dim): `before` and `after` the normalisation, each (B, out)."""
        before = self.network(z)
        return {"before": before, "after": self.norm(before)}

    def joined(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """What the neck as a whole gives: `after`."""
        return outputs["after"]

    def forward(self, z: Tensor) -> Tensor:
        """Features (B, dim) to (B, out), normalised."""
        return self.norm(self.network(z))
