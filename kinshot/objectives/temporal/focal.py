"""FOCAL: what modalities share and what each keeps to itself, in orthogonal halves of an embedding; near in time stays near."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.aligned import blanked
from kinshot.objectives.common import check_above, check_at_least, full_precision, unit
from kinshot.objectives.temporal.stacked import mean_of_valid, stacked_info_nce, told_apart

_AXES = "(2 views, M modalities, S sequences, L windows, D)"


def focal(
    z: Tensor,
    present: Tensor,
    relation: Relation | None = None,
    *,
    temperature: float = 0.07,
    margin: float = 1.0,
    shared: float = 1.0,
    private: float = 1.0,
    orthogonality: float = 3.0,
    temporal: float = 5.0,
) -> Tensor:
    """The sum of `focal_terms`, weighted.

    Paper: Liu, Kimura, Liu, Wang, Li, Diggavi, Srivastava, Abdelzaher 2023, arXiv 2310.20071; terms and weights as in the released code.

    Args:
        z: projected embeddings (2, M, S, L, D) of two views; a row's first D / 2 numbers are shared, the others private.
        present: bool (M, S, L), which windows have which modality; the others play no part.
        relation: of the sequences to themselves, (S, S), whose negatives are told apart; None = all other sequences.
        temperature: of both contrasts, above 0; 0.07 in the paper for a transformer, 0.5 for a recurrent network.
        margin: by how much sequences are wider apart than their windows, in distances as they are, at least 0.
        shared: weight, at least 0.
        private: weight, at least 0.
        orthogonality: weight, at least 0.
        temporal: weight, at least 0.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    weights = {"shared": shared, "private": private, "orthogonality": orthogonality, "temporal": temporal}
    check_at_least(0, **weights)
    terms = focal_terms(z, present, relation, temperature=temperature, margin=margin)
    return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()


def focal_terms(
    z: Tensor, present: Tensor, relation: Relation | None = None, *, temperature: float = 0.07, margin: float = 1.0
) -> dict[str, Tensor]:
    """The four terms by name, unweighted; absent rows enter none of the means.

    * `shared`: NT-Xent of the shared halves of two modalities, summed over pairs of modalities and over views;
    * `private`: NT-Xent of the private halves of both views, summed over modalities. Either runs over the windows at one place of their
      sequences, and is the mean over places and rows that have both kin and others;
    * `orthogonality`: mean of max(0, cosine) of shared and private halves, and of two modalities' private halves, summed over modalities,
      over their pairs and over views;
    * `temporal`: mean over ordered pairs of sequences of max(0, d_in - d_out + margin), summed over modalities and views. d_in is the mean
      distance of two windows of the first sequence, d_out that of a window of either, of whole embeddings.

    Arguments and errors as of `focal`.
    """
    check_above("temperature", temperature)
    check_at_least(0, margin=margin)
    if z.dim() != 5 or len(z) != 2 or z.shape[4] < 2 or z.shape[4] % 2:
        raise ConfigError(f"focal: expected embeddings {_AXES} with an even D, got {tuple(z.shape)}")
    if present.dtype != torch.bool or present.shape != z.shape[1:4]:
        raise ConfigError(f"present: expected bool {tuple(z.shape[1:4])}, got {present.dtype} {tuple(present.shape)}")
    with full_precision(z):
        rows = blanked(z, present)
        shared, private = (unit(half) for half in rows.chunk(2, -1))
        others = told_apart("focal", relation, z.shape[2], z.device)
        return {
            "shared": _shared(shared, present, others, temperature),
            "private": _private(private, present, others, temperature),
            "orthogonality": _orthogonality(shared, private, present),
            "temporal": _ranking(rows, present, others > 0, margin),
        }


def _pairs(present: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of the modalities of each pair m < n, both (P,)."""
    first, second = torch.triu_indices(len(present), len(present), 1, device=present.device)
    return first, second


def _shared(u: Tensor, present: Tensor, others: Tensor, temperature: float) -> Tensor:
    m, n = _pairs(present)
    return _nt_xent(u[:, m], u[:, n], present[m] & present[n], others, temperature).sum()


def _private(u: Tensor, present: Tensor, others: Tensor, temperature: float) -> Tensor:
    return _nt_xent(u[0], u[1], present, others, temperature).sum()


def _nt_xent(one: Tensor, two: Tensor, present: Tensor, others: Tensor, temperature: float) -> Tensor:
    """NT-Xent of unit rows of two sides (..., S, L, D), at each place by itself: the mean over places and rows, (...)."""
    rows, there = torch.cat([one, two], -3).transpose(-3, -2), torch.cat([present, present], -2).transpose(-2, -1)
    count = one.shape[-3]
    kin = torch.eye(2 * count, dtype=torch.bool, device=rows.device).roll(count, 1)
    pairs = there.unsqueeze(-1) & there.unsqueeze(-2)
    logits = rows @ rows.transpose(-2, -1) / temperature
    return mean_of_valid(*stacked_info_nce(logits, kin & pairs, others.repeat(2, 2) * pairs), dim=(-2, -1))


def _orthogonality(shared: Tensor, private: Tensor, present: Tensor) -> Tensor:
    m, n = _pairs(present)
    within = mean_of_valid((shared * private).sum(-1).clamp(min=0), present.expand(shared.shape[:-1]), (-2, -1))
    cosine, both = (private[:, m] * private[:, n]).sum(-1), present[m] & present[n]
    return within.sum() + mean_of_valid(cosine.clamp(min=0), both.expand(cosine.shape), (-2, -1)).sum()


def _ranking(z: Tensor, present: Tensor, apart: Tensor, margin: float) -> Tensor:
    """`apart` bool (S, S): which sequences are to be wider apart."""
    sequences, flat, there = z.shape[2:4], z.flatten(2, 3), present.flatten(1)
    # the differences themselves: by way of products float32 loses small distances
    d = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = there.unsqueeze(2) & there.unsqueeze(1) & ~torch.eye(flat.shape[2], dtype=torch.bool, device=z.device)
    d, pairs = (x.unflatten(-1, sequences).unflatten(-3, sequences) for x in (d, pairs.expand(d.shape)))
    mean, some = mean_of_valid(d, pairs, (-3, -1)), pairs.any(-1).any(-2)
    inside = mean.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
    valid = some & some.diagonal(dim1=-2, dim2=-1).unsqueeze(-1) & apart
    return mean_of_valid((inside - mean + margin).clamp(min=0), valid, (-2, -1)).sum()
