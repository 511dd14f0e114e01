"""Key networks: copies that follow the trained networks slowly and are never trained themselves."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator


def momentum_copy(module: nn.Module) -> nn.Module:
    """A copy with its own parameters, none of which takes gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow_(target: nn.Module, source: nn.Module, momentum: float) -> None:
    """Move the parameters of `target` to `momentum * target + (1 - momentum) * source`.

    What the source does not train stays as it is. Buffers are left alone: the running statistics of batch normalisation come
    from the target's own forward passes.
    """
    pairs = [pair for pair in zip(target.parameters(), source.parameters(), strict=True) if pair[1].requires_grad]
    ours: list[Tensor] = [one for one, _ in pairs]
    theirs: list[Tensor] = [other for _, other in pairs]
    if ours:
        torch._foreach_mul_(ours, momentum)
        torch._foreach_add_(ours, theirs, alpha=1 - momentum)


class KeyNetwork(nn.Module):
    """Momentum copies of an encoder and of the heads on it; the keys of MoCo and InterCLR come from here.

    MoCo shuffles a batch over its GPUs, so that query and key are never normalised by the same neighbours, which would give
    the positive away. On one device, shuffled parts of the batch can play the GPUs' role: `splits`.

    Paper: He, Fan, Wu, Xie, Girshick 2019, arXiv 1911.05722.

    Args:
        encoder: the trained encoder.
        heads: the trained heads on it.
        momentum: share of the copies that stays in a step, in [0, 1].
        splits: parts of a batch that batch normalisation sees separately; 1 is one plain forward pass.
        batch_size: samples in a batch.
        seed: of the shuffles.

    Raises:
        ConfigError: a momentum outside [0, 1], or parts with fewer than two samples.
    """

    def __init__(self, encoder: nn.Module, heads: Sequence[nn.Module], *, momentum: float, splits: int, batch_size: int, seed: int) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ConfigError(f"key_momentum: expected a number from 0 to 1, got {momentum}")
        if splits < 1 or (splits > 1 and batch_size // splits < 2):
            raise ConfigError(f"bn_splits: expected 1 to {max(1, batch_size // 2)} for batches of {batch_size}, got {splits}")
        self.encoder = momentum_copy(encoder)
        self.heads = nn.ModuleList(momentum_copy(head) for head in heads)
        self.momentum, self.splits, self.seed = momentum, splits, seed

    @torch.no_grad()
    def forward(self, x: Tensor, step: int) -> Tensor:
        """Keys of a batch: the heads' outputs side by side, (B, D * heads), not normalised."""
        if self.splits == 1:
            return self._embed(x)
        order = torch.randperm(len(x), generator=keyed_generator(self.seed, "key/shuffle", step)).to(x.device)
        keys = torch.cat([self._embed(part) for part in x[order].tensor_split(self.splits)])
        return keys[order.argsort()]

    def follow_(self, encoder: nn.Module, heads: Sequence[nn.Module]) -> None:
        """Move every copy towards the network it follows."""
        follow_(self.encoder, encoder, self.momentum)
        for ours, theirs in zip(self.heads, heads, strict=True):
            follow_(ours, theirs, self.momentum)

    def synchronize_(self, encoder: nn.Module, heads: Sequence[nn.Module]) -> None:
        """Make every copy equal to the network it follows, buffers included."""
        self.encoder.load_state_dict(encoder.state_dict())
        for ours, theirs in zip(self.heads, heads, strict=True):
            ours.load_state_dict(theirs.state_dict())

    def _embed(self, x: Tensor) -> Tensor:
        features = self.encoder(x)
        return torch.cat([head(features) for head in self.heads], dim=1)
