"""Augmenters: embeddings made of a batch's embeddings, with their place in its relation; one file each.

An augmenter is a pure function `(z (A, D), relation (A, A), *, settings) -> (z (A + S, D), relation (A + S, A + S))`: the batch's own rows
come first and as they are, and every objective over relations takes the result. One that draws takes `generator` beside these.
"""

from kinshot.core.registry import Registry

AUGMENTERS = Registry("augmenter", "kinshot.objectives.augmenters")
