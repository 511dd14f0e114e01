"""A loss of two sets of rows over the pairs of modalities that samples have, whichever each of them lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.objectives.aligned import blanked

PairLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(first (B, D), second (B, D2), both bool (B,)) -> scalar`: which samples show both."""

PairTerms = Callable[[Tensor, Tensor, Tensor], Mapping[str, Tensor]]
"""The same of several scalars by name, which are 0 where `both` is false throughout."""


def shared_pairs(present: Tensor, core: int | None = None, least: int = 2) -> list[tuple[int, int]]:
    """Pairs a < b of modalities that at least `least` samples show both of, in order.

    Args:
        present: bool (M, B), which modalities each sample has.
        core: a modality that every pair holds ("core view" of CMC); None = every pair ("full graph").
        least: samples.
    """
    if core is not None and not 0 <= core < len(present):
        raise ConfigError(f"core: expected the number of a modality, 0 to {len(present) - 1}, got {core}")
    together = (present.float() @ present.float().T).tolist()
    pairs = [(a, b) for a in range(len(present)) for b in range(a + 1, len(present)) if core is None or core in (a, b)]
    return [(a, b) for a, b in pairs if together[a][b] >= least]


def over_pairs(loss: PairLoss, z: Sequence[Tensor], present: Tensor, *, core: int | None = None, least: int = 2) -> Tensor:
    """The mean of a loss over the pairs of modalities that at least `least` samples show both of; 0 where there is none.

    `vicreg` and `barlow_twins` across modalities are `over_pairs(lambda a, b, both: vicreg(a, b, present=both), z, present)`.

    Paper: Tian, Krishnan, Isola 2019, arXiv 1906.05849: core view and full graph.

    Args:
        loss: of two modalities' rows and of which samples show both; absent rows are given as 0.
        z: embeddings (B, D) of each of M modalities.
        present: bool (M, B), which modalities each sample has.
        core: a modality that every pair holds; None = all pairs.
        least: samples that a pair needs, or it is left out of the mean.

    Raises:
        ConfigError: not one row of `present` for each modality, or a core that is none.
    """
    rows = _rows(z, present)
    found = [loss(rows[a], rows[b], present[a] & present[b]) for a, b in shared_pairs(present, core, least)]
    return torch.stack(found).mean() if found else sum((one.sum() for one in rows), rows[0].new_zeros(())) * 0


def terms_over_pairs(terms: PairTerms, z: Sequence[Tensor], present: Tensor, *, core: int | None = None) -> dict[str, Tensor]:
    """The mean of each of several terms over the pairs of modalities that at least two samples show both of.

    Arguments and errors as of `over_pairs`; where there is no such pair, what the terms are of no sample.
    """
    rows = _rows(z, present)
    pairs = shared_pairs(present, core)
    found = [terms(rows[a], rows[b], present[a] & present[b]) for a, b in pairs] or [terms(rows[0], rows[1], present[0] & False)]
    return {name: torch.stack([one[name] for one in found]).mean() for name in found[0]}


def _rows(z: Sequence[Tensor], present: Tensor) -> list[Tensor]:
    """Checked, and 0 where absent."""
    if len(z) < 2 or present.dtype != torch.bool or present.shape != (len(z), len(z[0])):
        got = f"{len(z)} modalities {[tuple(one.shape) for one in z]} and present {present.dtype} {tuple(present.shape)}"
        raise ConfigError(f"present: expected two or more modalities and bool (M, B), got {got}")
    return [blanked(one, there) for one, there in zip(z, present, strict=True)]
