"""A first-in first-out queue of keys that knows whose they are and changes only between two steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import ABSENT


class SampleQueue(nn.Module):
    """The latest keys with the index of the sample that each was made of, overwritten oldest first; empty at first.

    `remember` notes what a step wants stored, `commit` stores it. What is noted is not state: keys, indices and pointer are, as
    buffers, and a resumed run continues with them.

    Args:
        length: K, keys held.
        width: D of a key.
    """

    keys: Tensor
    indices: Tensor
    pointer: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        if length < 1:
            raise ConfigError(f"queue: expected room for at least 1 key, got {length}")
        self.register_buffer("keys", torch.zeros(length, width))
        self.register_buffer("indices", torch.full((length,), -1, dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self._noted: tuple[Tensor, Tensor] | None = None

    @property
    def held(self) -> Tensor:
        """Which rows hold a key, bool (K,)."""
        return self.indices >= 0

    def of_others(self, indices: Tensor) -> Tensor:
        """Which rows hold a key of another sample than each of `indices` int64 (B,), bool (B, K)."""
        return self.held & (self.indices != indices.unsqueeze(1))

    def remember(self, keys: Tensor, indices: Tensor) -> None:
        """Note keys (B, D) of the samples `indices` int64 (B,) for `commit`; a later call takes the place of an earlier one.

        Raises:
            ConfigError: not one index for each key.
        """
        if indices.shape != keys.shape[:1]:
            raise ConfigError(f"queue: expected one sample index for each of {len(keys)} rows, got {tuple(indices.shape)}")
        self._noted = keys.detach(), indices

    @torch.no_grad()
    def commit(self) -> None:
        """Store what was noted, if anything; of more keys than fit, only the last ones."""
        if self._noted is None:
            return
        (keys, indices), self._noted = self._noted, None
        length = len(self.keys)
        # no place is written twice: on a GPU it is not defined which write would win
        skipped = max(0, len(keys) - length)
        # positions are computed on the device: reading the pointer would stall a GPU in every step
        places = (self.pointer + torch.arange(skipped, len(keys), device=self.keys.device)) % length
        self.keys[places] = keys[skipped:].to(self.keys)
        self.indices[places] = indices[skipped:].to(self.indices)
        self.pointer.copy_((self.pointer + len(keys)) % length)


def similarities(rows: Tensor, keys: Tensor, held: Tensor | None, temperature: float) -> Tensor:
    """<row, key> / temperature, (B, K), and the logarithm of 0 for keys that do not count; no gradient flows into keys.

    Args:
        rows: (B, D).
        keys: (K, D).
        held: which keys count, bool (K,); None = all.
        temperature: above 0.
    """
    keys = keys.detach().to(rows)
    bias = rows.new_zeros(len(keys))
    if held is not None:
        bias = bias.masked_fill(~held, ABSENT)
    # all within the product: a pass over (B, K) costs as much as the product itself
    return torch.addmm(bias, rows / temperature, keys.T)


def queue_length(size: int, num_samples: int) -> int:
    """`size`, but no more than the data set has samples: beyond that a queue only holds older keys of the same samples."""
    if size < 1:
        raise ConfigError(f"size: expected room for at least 1 key, got {size}")
    return min(size, num_samples)
