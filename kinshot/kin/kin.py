"""The contract of a source of kinship that a recipe can name: among the rows of a batch, who is kin to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, suggest
from kinshot.kin.relation import Relation
from kinshot.samples.batch import Batch, Shown

if TYPE_CHECKING:
    from kinshot.kin.graph import RelationGraph


class Word(Protocol):
    """What a teacher says of shown samples: one of its outputs, (R, ...), without gradient."""

    @property
    def needs_clean(self) -> bool:
        """Whether it must see the clean samples in every step."""

    def __call__(self, shown: Shown, batch: Batch, step: int) -> Tensor: ...  # noqa: D102 - the class says it


@dataclass(frozen=True)
class Known:
    """What a kinship may know of the training samples.

    Args:
        context: of the run.
        labels: class of every sample, int64 (N,), -1 unknown; None where there are none.
        attributes: further arrays by name, each with a row for every sample.
        graph: the graph over the samples that a text such as `knn:k=5` names, and "" the recipe's own.
        teacher: what a teacher says, from the settings of kin `teacher`.
    """

    context: RunContext
    labels: np.ndarray | None = None
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    graph: Callable[[str], RelationGraph] | None = None
    teacher: Callable[..., Word] | None = None

    def classes(self, attribute: str, whose: str) -> Tensor:
        """Class of every sample, int64 (N,): its label, or the attribute of that name.

        Raises ConfigError, with the attributes that there are, where the source has neither.
        """
        if not attribute:
            if self.labels is None:
                raise ConfigError(f"kin {whose} needs labels, and the data has none: choose another kin, or data with labels")
            return torch.from_numpy(np.asarray(self.labels, dtype=np.int64))
        return torch.from_numpy(np.asarray(self.attribute(attribute, whose), dtype=np.int64))

    def attribute(self, name: str, whose: str) -> np.ndarray:
        """The attribute of that name. Raises ConfigError with those that there are."""
        if name not in self.attributes:
            known = f": {suggest(name, self.attributes)}" if self.attributes else ": the data has no attributes"
            raise ConfigError(f"kin {whose} needs the attribute {name!r} of the data{known}")
        return np.asarray(self.attributes[name])


class Pairs(NamedTuple):
    """What an objective over kin takes: anchors z (A, D), their relation, and references (R, D) or None for the anchors themselves.

    `y` is the class of each anchor, int64 (A,), -1 unknown, where the kin knows classes.
    """

    z: Tensor
    relation: Relation
    refs: Tensor | None = None
    y: Tensor | None = None


class Kin:
    """A source of kinship.

    Registered parts are built as `(known, *, settings)`. `pairs` is a pure function of what it is given. A part that is registered with
    `labelled=True` knows samples by their labels, which is said of whatever learns from it; one with `speaks=True` has a `word`,
    and one with `classes=True` says the class of each anchor.
    """

    anchors: Literal["views", "view", "clean"] = "views"
    """Which rows are anchors: all views of the batch, its first view alone, or the samples as they are."""
    partner_input: Literal["clean", "view"] = "clean"
    """How further samples come: as evaluation sees them, or as a view."""
    draws: bool = False
    """Whether `draw` asks for further samples beside a batch."""
    classes: int = 0
    """How many classes its pairs name, 0 where it names none."""
    labels: Tensor | None = None
    """Class of every training sample, int64 (N,), -1 unknown, where it names classes."""

    @property
    def needs_clean(self) -> bool:
        """Whether it looks at the clean samples."""
        return self.anchors == "clean"

    def renews(self, epoch: int) -> bool:
        """Whether it asks for embeddings of all samples before an epoch."""
        return False

    def renew(self, epoch: int, z: Tensor) -> None:
        """Called before an epoch for which it `renews`, with embeddings (N, D) of the training samples, float32 on the CPU.

        What it makes of them is state: a kin that remembers something is also a module, with buffers.
        """

    def draw(self, samples: Tensor, step: int) -> Tensor:
        """Further samples to load beside a batch of int64 `samples` (B,): int64 (P,); a pure, picklable function."""
        return samples[:0]

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """Anchors, relation and references; None where nothing is to be compared.

        Args:
            z: embeddings of the anchors (A, D).
            partners: embeddings of the samples that `draw` asked for (P, D); None for none.
            shown: what the anchors show.
            batch: the step's samples.
            step: 0-based step of the whole run.
        """
        raise NotImplementedError(f"{type(self).__name__} must define pairs()")  # a contract, not a gap

    def word(self, shown: Shown, batch: Batch, step: int) -> Tensor:
        """What the teacher says of shown samples (R, ...), for a kin that is registered with `speaks=True`."""
        raise NotImplementedError(f"{type(self).__name__} has no teacher")  # a contract, not a gap


def at(values: Tensor, shown: Shown) -> Tensor:
    """Rows of what is known of every sample (N, ...) for the shown samples, on their device."""
    return values[shown.samples.cpu()].to(shown.samples.device)
