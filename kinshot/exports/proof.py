"""Whether what was exported says what the encoder says: compared on samples, in batches of several sizes, before it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError

BOUND = 1e-4
"""Largest difference of two features, as a share of the largest number in them: single precision adds up in another order elsewhere."""
BATCHES = (1, 3)
"""Sizes of batches beside that of all samples."""


@dataclass(frozen=True)
class Proof:
    """A comparison that was passed.

    Attributes:
        samples: how many, and what they are.
        batches: sizes in which they were given.
        difference: the largest, as a share of the largest number.
    """

    samples: str
    batches: tuple[int, ...]
    difference: float

    def __str__(self) -> str:
        """`equal to the encoder on 12 photographs, in batches of 1, 3, 12: largest difference 3.1e-07 of the largest number`."""
        sizes = ", ".join(map(str, self.batches))
        off = f"largest difference {self.difference:.1e} of the largest number"
        return f"equal to the encoder on {self.samples}, in batches of {sizes}: {off}"


Features = Callable[[Tensor], Mapping[str, Tensor]]


def proved(what: str, ours: Features, theirs: Features, values: Tensor, shown: str) -> Proof:
    """The comparison of two functions of samples.

    Args:
        what: was made, for messages.
        ours: what the encoder says, by output.
        theirs: what was exported says.
        values: samples (B, ...).
        shown: what the samples are.

    Raises:
        ConfigError: they differ by more than BOUND, or in shape; or what was exported does not take a batch.
    """
    sizes = tuple(dict.fromkeys((*(size for size in BATCHES if size < len(values)), len(values))))
    worst = 0.0
    for size in sizes:
        batch = values[:size]
        wanted = ours(batch)
        try:
            found = theirs(batch)
        except Exception as error:  # what another library's model raises is anything
            raise ConfigError(f"{what} does not take a batch of {size}: {_line(error)}; choose another format") from error
        for name, value in wanted.items():
            worst = max(worst, _difference(what, name, value, found[name]))
    return Proof(f"{len(values)} {shown}", sizes, worst)


def _difference(what: str, name: str, wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        raise ConfigError(f"{what}: {name} is {tuple(found.shape)} where the encoder gives {tuple(wanted.shape)}: choose another format")
    if not bool(torch.isfinite(wanted).all()):
        raise ConfigError(f"{what}: the encoder's own {name} is not finite: its weights have diverged; use another checkpoint")
    scale = float(wanted.abs().max())
    off = float((found.float() - wanted).abs().max())
    share = off / scale if scale else off
    if not share <= BOUND:  # true for NaN too
        raise ConfigError(
            f"{what}: {name} differs from the encoder's by {share:.1e} of the largest number, more than {BOUND:.0e}: nothing is written; "
            "choose another format"
        )
    return share


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
