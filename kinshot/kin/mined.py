"""What miners share: a relation as two matrices of weights beside the similarities, and back."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation


def both_weights(miner: str, similarity: Tensor, relation: Relation) -> tuple[Tensor, Tensor]:
    """Positive and negative weights (A, R) where the similarities are, bool or float.

    Raises:
        ConfigError: not one similarity for each pair.
    """
    if tuple(similarity.shape) != relation.shape:
        raise ConfigError(f"{miner}: expected a similarity for each pair of {relation.shape}, got {tuple(similarity.shape)}")
    positive, negative = relation.dense()
    return positive.to(similarity.device), negative.to(similarity.device)


def left(relation: Relation, positive: Tensor, negative: Tensor, kept: tuple[Tensor, Tensor]) -> Relation:
    """The relation with what is kept of either part, two bool (A, R)."""
    return Relation(Mask(positive.masked_fill(~kept[0], 0)), Mask(negative.masked_fill(~kept[1], 0)), relation.shape)
