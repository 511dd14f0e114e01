"""What a file holds of fitted estimators: parts by their step, plain data and tensors, and nothing that could run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from kinshot.core.errors import CheckpointError
from kinshot.learn.sealed import read_sealed, write_sealed

KIND, SCHEMA_VERSION = "kinshot scikit-learn", 1
WHAT = "an estimator that `kinshot.sklearn.save` wrote"


@dataclass(frozen=True)
class Part:
    """One estimator.

    Attributes:
        kind: head or encoder.
        name: of the head, or where the encoder is found.
        parameters: its settings, plain data.
        facts: what it learned that is plain data.
        tensors: what it learned that is none.
    """

    kind: str
    name: str
    parameters: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def write_parts(path: Path, parts: Mapping[str, Part]) -> None:
    """Write or replace a file of the steps of a pipeline by name, or of one estimator whose name is empty.

    Raises DataError where it cannot be written; what was there before is unchanged then.
    """
    steps = [[name, part.kind, part.name, part.parameters, part.facts] for name, part in parts.items()]
    tensors = {f"{place}.{key}": value for place, part in enumerate(parts.values()) for key, value in part.tensors.items()}
    write_sealed(path, KIND, SCHEMA_VERSION, {"steps": steps}, tensors)


def read_parts(path: Path) -> dict[str, Part]:
    """What `write_parts` wrote, verified. Raises CheckpointError."""
    head, tensors = read_sealed(path, KIND, SCHEMA_VERSION, WHAT)
    steps, found = head.get("steps"), dict[str, Part]()
    if not isinstance(steps, list) or not steps:
        raise CheckpointError(f"{path} names no estimator: expected {WHAT}")
    for place, step in enumerate(steps):
        types = (str, str, str, dict, dict)
        if not isinstance(step, list) or len(step) != len(types) or not all(map(isinstance, step, types)) or step[0] in found:
            raise CheckpointError(f"{path}: step {place} does not describe an estimator: expected {WHAT}")
        own = {key.partition(".")[2]: value for key, value in tensors.items() if key.partition(".")[0] == str(place)}
        _, kind, name, parameters, facts = step
        found[step[0]] = Part(kind, name, parameters, facts, own)
    if "" in found and len(found) > 1:
        raise CheckpointError(f"{path}: a step of its pipeline has no name: expected {WHAT}")
    return found
