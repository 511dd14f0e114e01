"""What moves of a learner, as tensors by name: `method/...` and `terms/...` of a checkpoint's training part."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kinshot.learn.learner import Learner

_METHOD, _TERMS = "method", "terms"


def state_of(learner: Learner) -> dict[str, Tensor]:
    """The method's state and that of the terms."""
    found = {}
    for name, value in learner.state_dict().items():
        own = name.startswith("method.")
        found[f"{_METHOD}/{name.removeprefix('method.')}" if own else f"{_TERMS}/{name.removeprefix('terms.')}"] = value
    return found


def load_state(learner: Learner, training: Mapping[str, Tensor]) -> None:
    """Put it back. Raises RuntimeError where it does not fit, or where teachers are others."""
    found = {}
    for name, value in training.items():
        part, _, rest = name.partition("/")
        if part in (_METHOD, _TERMS):
            # a term's state begins with its number
            found[f"method.{rest}" if part == _METHOD else f"terms.{rest}" if rest[:1].isdigit() else rest] = value
    learner.load_state_dict(found)
