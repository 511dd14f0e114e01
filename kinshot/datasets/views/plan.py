"""Views as a plan and its application: what is random is drawn once, and applied to every field of the samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.rng import keyed_uniform
from kinshot.samples.spec import Spec

Indices = Tensor | np.ndarray


@dataclass(frozen=True)
class Plan:
    """What was drawn for the views of a batch, before any sample was looked at. Plain data on the CPU, which can be pickled.

    Args:
        indices: int64 (B,), which samples the batch holds.
        draws: for each field, and each of its views, numbers in [0, 1), float32 (B, D).
    """

    indices: np.ndarray
    draws: Mapping[str, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Smaller:
    """Views that are smaller than the samples, which an encoder must take too.

    Args:
        side: the shorter one in pixels.
        given: the settings that make them so.
        advice: what to set instead.
    """

    side: int
    given: str
    advice: str


class Views(ABC):
    """Random views of samples of one or several fields.

    `draw` and `apply` are the contract; `views(samples, indices, seed=, epoch=)` is both at once. A sample's view depends on (seed, view,
    epoch, index) and its own content alone, never on its batch.

    Args:
        input: what the samples are, or what each of their fields is.
        views: of each sample.

    Attributes:
        fields: specifications by field; the only one of samples that are one tensor is called by its kind.
        smaller: views that are smaller than the samples, where there are some.
    """

    smaller: Smaller | None = None

    def __init__(self, input: Spec | Mapping[str, Spec], views: int) -> None:
        self.input, self.views = input, views
        self.fields: dict[str, Spec] = {input.kind: input} if isinstance(input, Spec) else dict(input)
        if not self.fields:
            raise ConfigError("views: expected samples of one field or more, got none: name the fields")

    @abstractmethod
    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """Everything random of the views of a batch of samples `indices`, int64 (B,)."""

    @abstractmethod
    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` views of a loaded batch (B, ...) of a field, normalised, on its device. Raises ConfigError for an unknown field."""

    @overload
    def __call__(self, samples: Tensor, indices: Indices, seed: int, epoch: int) -> list[Tensor]: ...
    @overload
    def __call__(self, samples: Mapping[str, Tensor], indices: Indices, seed: int, epoch: int) -> list[dict[str, Tensor]]: ...
    def __call__(self, samples: Tensor | Mapping[str, Tensor], indices: Indices, seed: int, epoch: int) -> Any:
        """`views` random views of a loaded batch: tensors, or a dict by field where that is what the batch is.

        Raises ConfigError for an unknown field, or for one tensor where there are several fields.
        """
        plan = self.draw(indices, seed, epoch)
        if isinstance(samples, Tensor):
            if len(self.fields) != 1:
                raise ConfigError(f"views: expected samples of the fields {', '.join(self.fields)}, got one tensor: give a dict by field")
            return self.apply(plan, next(iter(self.fields)), samples)
        applied = {field: self.apply(plan, field, batch) for field, batch in samples.items()}
        return [{field: found[view] for field, found in applied.items()} for view in range(self.views)]

    def spec_of(self, field: str) -> Spec:
        """What a field is. Raises ConfigError, with the closest name, for one that there is not."""
        if field not in self.fields:
            raise ConfigError(f"views: there is no field {field!r}: {suggest(field, self.fields)}")
        return self.fields[field]


def drawn(columns: Mapping[str, int], views: int, indices: Indices, seed: int, epoch: int) -> Plan:
    """The plan of so many uniform numbers for each sample, view and field.

    The first field's are those that it would have without the others, so that a mask or a further sensor changes nothing of the views of
    what was there before.

    Args:
        columns: numbers by field.
        views: of each sample.
        indices: int64 (B,).
        seed: the run's seed.
        epoch: of the run.
    """
    rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
    purposes = {field: "" if place == 0 else f"/{field}" for place, field in enumerate(columns)}

    def numbers(field: str, view: int) -> Tensor:
        return torch.from_numpy(keyed_uniform(seed, f"view{view}{purposes[field]}", epoch, rows, columns[field]))

    return Plan(rows, {field: tuple(numbers(field, view) for view in range(views)) for field in columns})
