"""Recognition from a few examples: episodes, heads (one file each), evaluation on cached features."""

from kinshot.fewshot.labelled import Heads

HEADS = Heads("head", "kinshot.fewshot.heads")
