"""What a sample is, one class a kind; `SPECS` finds them by the kind that sources and encoders name, without importing them."""

from kinshot.core.registry import Registry

SPECS = Registry("kind of samples", "kinshot.samples")
