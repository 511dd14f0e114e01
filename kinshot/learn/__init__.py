"""Training methods: their contract (`base`), and `METHODS`, which finds them by name without importing them.

Those that learn without labels or from a graph live in `kinshot.ssl.methods`, those that learn from base classes in
`kinshot.fewshot.methods`, those that learn from class maps in `kinshot.segmentation.methods`; one loop trains all kinds.
"""

from kinshot.core.registry import Registry

METHODS = Registry("method", "kinshot.ssl.methods", "kinshot.fewshot.methods", "kinshot.segmentation.methods")
