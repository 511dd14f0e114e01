"""What augmenters of single rows share: copies that stand for their parents in a relation."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation


def copied(relation: Relation, parents: Tensor, *, anchors: bool = True) -> Relation:
    """The relation of rows and of copies of some of them, (A + S, A + S): a copy is related as its parent is.

    Args:
        relation: of the rows to one another, (A, A).
        parents: the row that each copy is one of, int64 (S,).
        anchors: whether copies are anchors, too, and kin to their parent and to its other copies, with weight 1. If not, they are
            references alone, neither kin nor other to their parent.
    """
    rows = torch.arange(relation.shape[0], device=parents.device)
    index = torch.cat([rows, parents])
    kin, apart = (part.to(parents.device)[index][:, index] for part in relation.dense())
    if anchors:
        own = (index.unsqueeze(1) == index).fill_diagonal_(False)
        kin = torch.where(own, torch.ones_like(kin), kin)
    else:
        kin[len(rows) :], apart[len(rows) :] = 0, 0
    return Relation(Mask(kin), Mask(apart.masked_fill(kin > 0, 0)), (len(index), len(index)))


def check_batch(name: str, z: Tensor, relation: Relation, y: Tensor | None) -> Tensor:
    """The classes of a batch's rows, int64 (A,).

    Raises:
        ConfigError: classes that are not known, references, or shapes that do not fit together.
    """
    if y is None:
        raise ConfigError(f"augmenter {name}: it remembers something of each class, and the kin of this term names none: choose kin labels")
    if z.dim() != 2 or relation.shape != (len(z), len(z)) or y.shape != (len(z),):
        got = f"{tuple(z.shape)}, {relation.shape} and {tuple(y.shape)}"
        raise ConfigError(f"{name}: expected (A, D), a relation (A, A) and classes (A,), got {got}")
    return y


def check_classes(name: str, classes: int) -> None:
    """Raises ConfigError where the kin of a term names no classes."""
    if classes < 1:
        raise ConfigError(f"augmenter {name}: it remembers something of each class, and the kin of this term names none: choose kin labels")
