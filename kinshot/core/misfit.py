"""Why weights do not fit a module, in a few words instead of a page of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

_SHOWN = 3


def misfit(module: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """What keeps `module.load_state_dict(weights)` from loading, and what to do; empty for nothing.

    Said are names that are missing, left over, or of another shape. A prefix that all names share and the module's do not, such as
    `module.` of DataParallel, is said with the way to drop it.
    """
    own = module.state_dict()
    prefix = _foreign_prefix(list(weights), own)
    if prefix:
        return f"all its names begin with {prefix!r}: save them without, as {{name.removeprefix({prefix!r}): value for ...}}"
    shapes = [
        f"{name} {tuple(weights[name].shape)} in place of {tuple(value.shape)}"
        for name, value in own.items()
        if name in weights and weights[name].shape != value.shape
    ]
    found = {
        "missing": [name for name in own if name not in weights],
        "left over": [name for name in weights if name not in own],
        "of another shape": shapes,
    }
    told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in found.items() if names)
    return told and f"{told}; name the model that they belong to"


def _foreign_prefix(names: Sequence[str], own: Mapping[str, object]) -> str:
    """The first words that all names share and without which most of them are the module's own."""
    first = names[0].split(".") if names else []
    for count in range(1, len(first)):
        prefix = ".".join(first[:count]) + "."
        if not all(name.startswith(prefix) for name in names):
            return ""
        if 2 * sum(name.removeprefix(prefix) in own for name in names) > len(names):
            return prefix
    return ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
