"""Batched augmentation, one file each; `VIEWS` finds them by name without importing them."""

from kinshot.core.registry import Registry

VIEWS = Registry("views", "kinshot.datasets.views")
