"""What a protocol found out about one encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """Figures of one encoder by one protocol.

    Args:
        figures: values by metric: one, or one for each draw.
        chosen: what was chosen on a validation split, in words, by what it is.
    """

    figures: Mapping[str, Sequence[float] | np.ndarray]
    chosen: Mapping[str, str] = field(default_factory=dict)
