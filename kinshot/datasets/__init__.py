"""Data sources, one file each; `SOURCES` finds them by name without importing them.

A source whose samples are no images says where it is registered of what kind they are: `@SOURCES.register("mine", kind="tokens")`.
One of streams says kind="series", and has a field of that kind, or of frames, for each sensor.
"""

from kinshot.core.registry import Registry

SOURCES = Registry("data source", "kinshot.datasets")
