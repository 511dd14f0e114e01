"""CMC: the same instant is found again in every other modality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kinshot.kin.recordings import across_modalities
from kinshot.kin.relation import Relation
from kinshot.objectives.info_nce import info_nce
from kinshot.objectives.temporal.modality_pairs import over_pairs


def cmc(z: Sequence[Tensor], present: Tensor, relation: Relation, *, temperature: float = 0.1, core: int | None = None) -> Tensor:
    """Cross-modal InfoNCE: the mean over pairs a < b of modalities of (CE(S_ab) + CE(S_ab^T)) / 2, S_ab = u_a u_b^T / temperature.

    It is `info_nce` of both modalities' rows over the relation `across_modalities(relation, both, negatives="other")`, whose average runs
    over the samples that show both; a pair that fewer than two show is left out. CE takes what is told apart from the relation:
    overlapping windows of one recording, which `windows` leaves out, are no false negatives. A sample that is told apart from none
    costs 0.

    Paper: Tian, Krishnan, Isola 2019, arXiv 1906.05849.
    Departures: negatives are those of the batch, where there a memory bank holds them; the mean over pairs, where there is the sum, so
        that the loss keeps its size however many modalities are missing.

    Args:
        z: embeddings (B, D) of each of M modalities, scaled to unit length here.
        present: bool (M, B), which modalities each sample has.
        relation: of the samples to themselves, (B, B), as `windows` or `views(ids, copies=1)` makes it.
        temperature: divides every cosine; above 0. 0.07 in the paper, 0.1 to 0.2 is usual for sensors.
        core: a modality that every pair holds ("core view"); None = all pairs ("full graph").

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """

    def of_pair(first: Tensor, second: Tensor, both: Tensor) -> Tensor:
        kin = across_modalities(relation, both.expand(2, -1), negatives="other")
        return info_nce(torch.cat([first, second]), kin, temperature=temperature, reduction="valid")

    return over_pairs(of_pair, z, present, core=core)
