"""Data sources, one file each; `SOURCES` finds them by name without importing them."""

from kinshot.core.registry import Registry

SOURCES = Registry("data source", "kinshot.datasets")
