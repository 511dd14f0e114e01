"""Settings of the protocols for frozen features."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How frozen features are evaluated.

    Args:
        ks: neighbours that vote, each number on its own.
        temperature: of the votes of neighbours.
        shots: labelled samples of each class, of low-shot.
        draws: draws of these.
        seed: key of the draws, of the validation split of the linear probe, and of a bank that is drawn.
    """

    ks: tuple[int, ...] = (20, 200)
    temperature: float = 0.1
    shots: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 96)
    draws: int = 5
    seed: int = 0
