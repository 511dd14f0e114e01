"""The contract of a method around another one: it adds terms to a loss, and what is trained stays the wrapped method's."""

from __future__ import annotations

from torch import nn

from kinshot.learn.method import WRAPPED, Extract, Method


class Wrapper(Method):
    """A method whose networks are those of `base`, the method that it wraps."""

    prefix = WRAPPED
    base: Method

    @property
    def encoder(self) -> nn.Module:  # type: ignore[override]
        """The wrapped method's encoder."""
        return self.base.encoder

    @property
    def projector(self) -> nn.Module:  # type: ignore[override]
        """The wrapped method's projector."""
        return self.base.projector

    def prepare(self, extract: Extract) -> None:
        """Prepare the wrapped method."""
        self.base.prepare(extract)

    def start_epoch(self, epoch: int, extract: Extract) -> None:
        """Start the wrapped method's epoch."""
        self.base.start_epoch(epoch, extract)
