"""Amounts of labels as a command line gives them: `1,5,10%,full`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinshot.core.errors import ConfigError
from kinshot.core.schema import shown

if TYPE_CHECKING:
    import numpy as np

FULL = "full"
_FORM = re.compile(r"([0-9]{1,9})|([0-9]{1,3}(?:\.[0-9]{1,6})?)%|full")


@dataclass(frozen=True)
class Amount:
    """How many samples of each class have a label.

    Args:
        count: so many; 0 where a share says.
        share: of each class, from 0 to 1, at least one; 1 is all of them.
    """

    count: int = 0
    share: float = 0.0

    @property
    def text(self) -> str:
        """`5 per class`, `10 %` or `full`."""
        return f"{self.count} per class" if self.count else FULL if self.share == 1 else f"{100 * self.share:g} %"

    def of(self, counts: np.ndarray) -> np.ndarray:
        """Labelled samples of each class, of classes with so many samples: (C,)."""
        if self.count:
            return counts * 0 + self.count
        found: np.ndarray = (counts * self.share).round().astype(counts.dtype).clip(min=1)
        return found


def parse_amounts(text: str, option: str) -> list[Amount]:
    """`1,5,10%,full`, each once. Raises ConfigError naming the option."""
    found: dict[Amount, None] = {}
    for part in text.split(","):
        match = _FORM.fullmatch(part.strip())
        share = 1.0 if part.strip() == FULL else float(match[2]) / 100 if match and match[2] else 0.0
        count = int(match[1]) if match and match[1] else 0
        if not (count or 0 < share <= 1):
            raise ConfigError(f"{option}: expected numbers of labelled samples, shares or full, such as 1,5,10%,full; got {shown(text)}")
        found[Amount(count, share)] = None
    return list(found)
