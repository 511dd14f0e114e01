"""The classifier that a run's method learned: `rows` of its checkpoint."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.checkpoint import Checkpoint
from kinshot.learn.method import WRAPPED


def classifier_state(checkpoint: Checkpoint, parts: tuple[str, ...] = ("average", "method")) -> dict[str, Tensor]:
    """The state of `rows`, the classifier that a method learned, of the first of the parts that has one; else empty.

    A method may stand inside another, which teaches it or adds a structure term.
    """
    tensors = checkpoint.tensors.get("training", {})
    for prefix in (f"{part}/{wrapped}rows." for part in parts for wrapped in ("", WRAPPED)):
        found = {name[len(prefix) :]: value.float() for name, value in tensors.items() if name.startswith(prefix)}
        if found:
            return found
    return {}
