"""CPC: what is predicted of a series' future is told from the futures of other series."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.aligned import blanked
from kinshot.objectives.common import check_above, full_precision, unit
from kinshot.objectives.temporal.stacked import mean_of_valid, stacked_info_nce, told_apart


def future_steps(z: Tensor, at: Tensor | int, count: int, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The `count` steps after step `at` of each series, (B, K, D), and which of them there are, bool (B, K).

    Steps beyond the end are not there, whatever stands in their place.

    Args:
        z: series (B, T, D).
        at: the last step that is known, int64 (B,) or one for all, from 0; drawn by the caller.
        count: K, at least 1.
        valid: bool (B, T), steps that hold anything; None = all.

    Raises:
        ConfigError: shapes that do not fit together, or no step to predict.
    """
    if z.dim() != 3 or count < 1:
        raise ConfigError(f"future_steps: expected series (B, T, D) and at least 1 step, got {tuple(z.shape)} and {count}")
    if valid is not None and valid.shape != z.shape[:2]:
        raise ConfigError(f"valid: expected bool {tuple(z.shape[:2])}, got {tuple(valid.shape)}")
    last = torch.as_tensor(at, device=z.device).expand(len(z))
    steps = last.unsqueeze(1) + torch.arange(1, count + 1, device=z.device)
    inside = steps < z.shape[1]
    index = steps.clamp(max=z.shape[1] - 1)
    there = inside if valid is None else inside & valid.gather(1, index)
    return z.gather(1, index.unsqueeze(2).expand(-1, -1, z.shape[2])), there


def cpc(
    predicted: Tensor,
    future: Tensor,
    relation: Relation | None = None,
    *,
    valid: Tensor | None = None,
    temperature: float = 1.0,
    normalize: bool = False,
) -> Tensor:
    """Contrastive predictive coding: -(1/K) sum_k mean_b log softmax_b'(<W_k c_b, z_b'> / temperature) at b' = b.

    c_b is the context of series b up to a step, W_k c_b what is predicted of the step k further on, z_b the encoding of that step. Steps
    at which no row has both kin and others are left out of the mean over k.

    Paper: van den Oord, Li, Vinyals 2018, arXiv 1807.03748. Negatives are the same step ahead in the batch's other series.

    Args:
        predicted: predictors' outputs W_k c_b (B, K, D).
        future: the encodings that are there in truth (B, K, D), see `future_steps`; gradient flows into them, too.
        relation: of the series to themselves, (B, B), whose negatives are told apart (`kinshot.kin.windows` leaves out those that
            overlap); None = all other rows.
        valid: bool (B, K), future steps that are there; the others are neither predicted nor told apart.
        temperature: divides every product; above 0. 1 in the paper.
        normalize: whether products are cosines; in the paper they are not.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    check_above("temperature", temperature)
    if predicted.dim() != 3 or predicted.shape != future.shape:
        got = f"{tuple(predicted.shape)} and {tuple(future.shape)}"
        raise ConfigError(f"cpc: expected predictions and futures (B, K, D) of the same steps, got {got}")
    if valid is not None and (valid.dtype != torch.bool or valid.shape != predicted.shape[:2]):
        raise ConfigError(f"valid: expected bool {tuple(predicted.shape[:2])}, got {valid.dtype} {tuple(valid.shape)}")
    with full_precision(predicted):
        ours, theirs = (blanked(x, valid).transpose(0, 1) for x in (predicted, future))
        ours, theirs = (unit(ours), unit(theirs)) if normalize else (ours, theirs)
        logits = ours @ theirs.to(ours.dtype).transpose(1, 2) / temperature
        others = told_apart("cpc", relation, len(predicted), logits.device)
        own = torch.eye(len(predicted), dtype=torch.bool, device=logits.device)
        there = torch.ones_like(own[:1]) if valid is None else valid.T
        pairs = there.unsqueeze(2) & there.unsqueeze(1)
        losses, counts = stacked_info_nce(logits, own & pairs, others * pairs)
        return mean_of_valid(mean_of_valid(losses, counts, 1), counts.any(1))
