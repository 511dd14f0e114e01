"""Passing a network only the samples that have what it takes: absent ones enter no statistic of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn


def through(module: nn.Module, x: Tensor, rows: Tensor, dim: int) -> Tensor:
    """What a module says of some rows of a batch, (B, dim): zero for the others, which do not pass it.

    One row that is alone in a batch has no batch that it could be normalised by, and passes as in evaluation mode. Where there is none,
    the module does not run.

    Args:
        module: (n, ...) to (n, dim).
        x: (B, ...).
        rows: bool (B,), best on the CPU, as it is read there.
        dim: of what it says.
    """
    kept = rows.nonzero().squeeze(1).to(x.device)
    if not len(kept):
        return x.new_zeros(len(rows), dim)
    if len(kept) == len(rows) > 1:
        found: Tensor = module(x)
        return found
    with _evaluating(module) if len(kept) == 1 else nullcontext():
        z: Tensor = module(x[kept])
    return z.new_zeros(len(rows), dim).index_copy(0, kept, z)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each submodule's own mode comes back afterwards."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
