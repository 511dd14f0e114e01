"""Encoders, one file each; `ENCODERS` finds them by name without importing them."""

from kinshot.core.registry import Registry

ENCODERS = Registry("encoder", "kinshot.encoders")
