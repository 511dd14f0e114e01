"""What is reached without knowing which class is asked for: the two rules that every learner has to stand above.

Perfect saliency is the cap of all that find things without looking at the support: a few-shot method has shown something above it only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.samples.class_map import IGNORE

ALL_FOREGROUND, SALIENCY = "all_foreground", "perfect_saliency"
CLASS_BLIND = (ALL_FOREGROUND, SALIENCY)
"""The names that they have in results."""


def class_blind(masks: Tensor) -> dict[str, Tensor]:
    """Labels that the two rules give, int64 (B, H, W) each, by name.

    Both say way 1 of what they take for foreground. With several ways they cannot tell which it is, and the order of ways is drawn, so
    that the first is as good as any.

    Args:
        masks: class maps (B, H, W), values as in `kinshot.datasets.scenes`: every value but 0 and 255 is an object.
    """
    return {
        ALL_FOREGROUND: torch.ones_like(masks, dtype=torch.int64),
        SALIENCY: ((masks != 0) & (masks != IGNORE)).long(),
    }
