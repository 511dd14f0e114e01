"""Augmenters: embeddings made of a batch's embeddings, with their place in its relation; one file each.

An augmenter is a pure function `(z (A, D), relation (A, A), *, settings) -> (z (A + S, D), relation (A + S, A + S))`: the batch's own rows
come first and as they are, and every objective over relations takes the result. One that draws takes `generator` beside these.

One that remembers something of classes is an `ObjectiveModule`, registered with `classes=True`, built as `(dim, classes, context, *,
settings)` and called as `(z, relation, y (A,), step) -> (z, relation, y (A + S,))`: rows' classes, -1 unknown, come and go beside them.
"""

from kinshot.core.registry import Registry

AUGMENTERS = Registry("augmenter", "kinshot.objectives.augmenters")
