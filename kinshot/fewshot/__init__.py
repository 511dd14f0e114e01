"""Recognition from a few examples: episodes, heads (one file each), evaluation on cached features."""

from kinshot.core.registry import Registry

HEADS = Registry("head", "kinshot.fewshot.heads")
