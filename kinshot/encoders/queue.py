"""A first-in first-out queue of keys that is part of the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.objectives.common import unit


class KeyQueue(nn.Module):
    """The latest unit keys, overwritten oldest first; keys and pointer are buffers, so a resumed run continues with them.

    Paper: He, Fan, Wu, Xie, Girshick 2019, arXiv 1911.05722.

    A sample drawn again may meet its own key of an earlier epoch among the negatives, as in the paper.

    Args:
        length: L, keys held.
        dim: D, dimension of a key.
        seed: seed of the random unit rows that fill the queue at first.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, length: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        if length < 1:
            raise ConfigError(f"queue: expected at least 1 key, got {length}")
        noise = torch.randn(length, dim, generator=keyed_generator(seed, "queue/initial"))
        self.register_buffer("keys", unit(noise))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue_(self, keys: Tensor) -> None:
        """Overwrite the oldest keys by unit rows (B, D), wrapping around; of more rows than fit only the last ones stay."""
        length = len(self.keys)
        skipped = max(0, len(keys) - length)
        kept = keys[skipped:].to(self.keys)
        # positions are computed on the device: reading the pointer would stall a GPU in every step
        positions = (self.pointer + skipped + torch.arange(len(kept), device=self.keys.device)) % length
        self.keys[positions] = kept
        self.pointer.copy_((self.pointer + len(keys)) % length)


def queue_for(samples: int, batch_size: int) -> int:
    """What a queue of 0 is: keys of half the samples, so that a sample seldom meets its own, at least a batch and at most 4096."""
    return max(batch_size, min(4096, samples // 2) // batch_size * batch_size)


def queue_length(wanted: int, batch_size: int, samples: int = 0) -> int:
    """`wanted` rounded down to a multiple of the batch, at least one batch, so that every key stays equally long.

    With `samples` given, 0 is `queue_for` them.

    Raises:
        ConfigError: `wanted` is below 1.
    """
    if wanted == 0 and samples:
        return queue_for(samples, batch_size)
    if wanted < 1:
        raise ConfigError(f"queue: expected at least 1 key, got {wanted}")
    return max(batch_size, wanted // batch_size * batch_size)


def embedding_dim(encoder: nn.Module, head: nn.Module) -> int:
    """Width of a head's output: that of its last linear layer, or the encoder's `dim` when it has none."""
    widths = [m.out_features for m in head.modules() if isinstance(m, nn.Linear)]
    return widths[-1] if widths else int(encoder.dim)  # type: ignore[arg-type]
