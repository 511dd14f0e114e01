"""Pretraining without labels: methods and views, one file each, found by name without importing them.

The folder is called `ssl`, the import is always `kinshot.ssl`: a top-level `ssl` would replace Python's own module.
"""

from kinshot.core.registry import Registry

VIEWS = Registry("views", "kinshot.ssl.views")
