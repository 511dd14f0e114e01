"""TS-TCC's temporal contrasting: the context of one view predicts the future of the other."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.relation import Relation
from kinshot.objectives.temporal.cpc import cpc, future_steps


def temporal_contrasting(
    weak: Tensor,
    strong: Tensor,
    of_strong: Tensor,
    of_weak: Tensor,
    at: Tensor | int,
    relation: Relation | None = None,
    *,
    valid: Tensor | None = None,
    temperature: float = 1.0,
) -> dict[str, Tensor]:
    """Both directions by name: `weak_to_strong` and `strong_to_weak`, each `cpc` of the other view's next K steps.

    TS-TCC's loss is their sum and, at 0.7, `nt_xent` at temperature 0.2 of both views' projected contexts over `kinshot.kin.views`.

    Paper: Eldele, Ragab, Chen, Wu, Kwoh, Li, Guan 2021, arXiv 2106.14112.
    Departure: each prediction is told from the futures of other series, as in the paper's formula; the released code normalises over
        predictions for each future.

    Args:
        weak: the weakly augmented view's encodings (B, T, D).
        strong: the strongly augmented view's (B, T, D), same steps.
        of_strong: what the weak view's context predicts of the strong view (B, K, D).
        of_weak: what the strong view's context predicts of the weak view (B, K, D).
        at: the last step that contexts look at, int64 (B,) or one for all; drawn by the caller.
        relation: see `cpc`.
        valid: bool (B, T), steps that hold anything; None = all.
        temperature: see `cpc`.

    Raises:
        ConfigError: a setting out of range, or shapes that do not fit together.
    """
    if weak.shape != strong.shape or of_strong.shape != of_weak.shape or of_strong.dim() != 3:
        got = [tuple(x.shape) for x in (weak, strong, of_strong, of_weak)]
        raise ConfigError(f"temporal_contrasting: expected views (B, T, D), predictions (B, K, D), both sides alike, got {got}")
    found = {}
    for name, predicted, other in (("weak_to_strong", of_strong, strong), ("strong_to_weak", of_weak, weak)):
        future, there = future_steps(other, at, predicted.shape[1], valid)
        found[name] = cpc(predicted, future, relation, valid=there, temperature=temperature)
    return found
