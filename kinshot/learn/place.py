"""Where a term of a loss stands, and how much it weighs; free of torch, so that recipes are read without it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a term applies, and how much it weighs.

    Args:
        label: what records call it, empty for the objective's name; terms of one label are recorded as their sum.
        on: output that it looks at: backbone, projector or one of its outputs, logits, or a stage of the encoder such as blocks.2.
        weight: factor in the loss.
        unit: whose embeddings are scaled to length 1 first (none, teacher, both), for objectives of a student and its teacher.
        gradients: record |gradient of the term| / |gradient of the method's loss|, at the cost of a backward pass each.
        paced: share of each class that counts in the end, those that cost least (self-paced weights, against wrong labels); 1 = all.
    """

    label: str = ""
    on: str = "backbone"
    weight: float = 1.0
    unit: str = "none"
    gradients: bool = False
    paced: float = 1.0
