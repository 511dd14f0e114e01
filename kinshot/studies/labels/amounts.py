"""How many labels are known: so many of each class, a share of them, or all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import DataError
from kinshot.fewshot.draws import Pool
from kinshot.fewshot.linear_probe import label_draws
from kinshot.recipes.amounts import Amount


@dataclass(frozen=True)
class Drawn:
    """The labelled samples of one amount.

    Args:
        amount: how many.
        rows: their numbers, (draws, n); one draw where all labels are known.
        per_class: labelled samples of a class, on average.
    """

    amount: Amount
    rows: np.ndarray
    per_class: float


def drawn(amounts: Sequence[Amount], pool: Pool, names: Sequence[str], draws: int, seed: int, say: Callable[[str], None]) -> list[Drawn]:
    """The draws of every amount, in ascending order of labels; amounts for which a class is too small are left out, which is said.

    Raises DataError where none is left.
    """
    wanted = {amount: amount.of(pool.counts) for amount in amounts}
    smallest, at = int(pool.counts.min()), names[int(pool.counts.argmin())]
    small = [amount.text for amount, needed in wanted.items() if (needed > pool.counts).any()]
    if len(small) == len(wanted):
        raise DataError(f"class {at!r} has {smallest} samples, and {', '.join(small)} were asked for: lower --counts, or use other data")
    if small:
        say(f"class {at!r} has {smallest} samples: {', '.join(small)} left out")
    found = []
    for amount, needed in wanted.items():
        if amount.text in small:
            continue
        whole = bool((needed == pool.counts).all())
        rows = np.arange(len(pool.order))[None] if whole else label_draws(pool, needed, draws, seed)
        found.append(Drawn(amount, rows, float(needed.mean())))
    return sorted(found, key=lambda one: one.per_class)
