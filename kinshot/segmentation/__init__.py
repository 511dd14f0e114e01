"""Recognition of what belongs to a thing, pixel by pixel, from a few examples: dense episodes, heads (one file each), metrics.

Pixels are rows: what a stage of an encoder says of each place of an image (`Encoder.maps`) is compared with what it says of the places
that the masks of a few images mark.
"""

from kinshot.core.registry import Registry

SEGMENTERS = Registry("segmenter", "kinshot.segmentation.heads")
"""Heads of dense episodes: `(episodes: Dense, *, settings) -> scores (E, Q, 1 + ways, h, w)`, background first."""
