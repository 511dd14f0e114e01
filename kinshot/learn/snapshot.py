"""Copies of named tensors that belong to a run's state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Snapshot(nn.Module):
    """Copies of tensors by name, each a buffer.

    Args:
        tensors: what to copy; later copies have the same names and shapes.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {name: name.replace(".", "/") for name in tensors}  # names of buffers have no points
        for name, value in tensors.items():
            self.register_buffer(self.names[name], value.detach().clone())

    def of(self, name: str) -> Tensor:
        """The copy of a tensor."""
        return self.get_buffer(self.names[name])

    @torch.no_grad()
    def take_(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors as they are now."""
        for name in self.names:
            self.of(name).copy_(tensors[name])

    @torch.no_grad()
    def give_(self, tensors: Mapping[str, Tensor]) -> None:
        """Make tensors what was copied of them."""
        for name in self.names:
            tensors[name].copy_(self.of(name))
