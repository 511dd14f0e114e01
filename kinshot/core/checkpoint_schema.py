"""Checkpoints of older versions, read as this version writes them.

Schema 1 kept what a method learned for others, rows of classes and the network of a head, among its training state alone, and the state
of a method that stood inside another under `base.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MODEL = ("encoder", "projector", "rows", "network")
_INSIDE = "base."


def from_schema_1(training: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The training tensors of schema 1 under the names of schema 2."""
    found: dict[str, Tensor] = {}
    for name, value in training.items():
        part, _, rest = name.partition("/")
        rest = rest.removeprefix(_INSIDE)
        if part == "method" and rest == "teachers":
            found["terms/teachers"] = value
        elif part == "method" and rest.startswith("terms."):
            number, _, inner = rest.removeprefix("terms.").partition(".")
            found[f"terms/{number}.objective.{inner}"] = value
        elif part == "method" and rest.split(".")[0] in MODEL:
            found[f"method/model.{rest}"] = value
        elif part == "average":
            if rest.split(".")[0] in MODEL:
                found[f"average/{rest}"] = value
        else:
            found[f"{part}/{rest}" if part == "method" else name] = value
    return found


def part_of(training: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """A part of the model out of the training tensors, in the names of schema 2: averaged weights where there are some."""
    for start in (f"average/{part}.", f"method/model.{part}."):
        found = {name.removeprefix(start): value for name, value in training.items() if name.startswith(start)}
        if found:
            return found
    return {}
