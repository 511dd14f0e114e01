"""What runs say of claims: paired differences, intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.claims.plan import Claim, Task
from kinshot.core.statistics.means import mean_of
from kinshot.core.statistics.multiple import holm
from kinshot.core.statistics.parts import Estimate

Figures = Mapping[str, Mapping[int, Mapping[str, float]]]
"""Of one task: figures by arm and seed."""

RULE = "95 %, Student t over paired differences of seeds; seen: the interval lies on the claimed side of 0, opposite: on the other"


@dataclass(frozen=True)
class Verdict:
    """What the runs say of one claim.

    Args:
        claim: which.
        task: on what.
        difference: how much better `arm` is, in the direction of the claim, and with what it may lack added, with its interval.
        arm: mean of the judged figure of `arm`.
        over: that of what it is compared with.
        seeds: of the pairs.
        also: mean differences of the figures that judge nothing, in their own direction.
        cpu_minutes: what training and measuring all arms of the claim cost; arms that several claims share count in each.
    """

    claim: Claim
    task: Task
    difference: Estimate
    arm: float
    over: float
    seeds: tuple[int, ...]
    also: dict[str, Estimate]
    cpu_minutes: float

    @property
    def word(self) -> str:
        """seen, not seen or opposite."""
        return "seen" if self.difference.low > 0 else "opposite" if self.difference.high < 0 else "not seen"


def judged(claim: Claim, task: Task, figures: Figures, cost: Mapping[str, Mapping[int, float]]) -> Verdict | None:
    """The verdict on a claim by the seeds that all its arms have; None with fewer than three."""
    seeds = tuple(seed for seed in task.seeds if all(seed in figures.get(arm, {}) for arm in claim.arms))
    if len(seeds) < 3:
        return None

    def column(arm: str, metric: str) -> np.ndarray:
        values = np.array([figures[arm][seed][metric] for seed in seeds])
        if not np.isfinite(values).all():
            raise SystemExit(f"{task.name}, {arm}: {metric} is not finite")
        return values

    def sides(metric: str, beside: str) -> tuple[np.ndarray, np.ndarray]:
        first = column(claim.arm, metric)
        second = column(claim.over, beside) if claim.over else np.full(len(seeds), claim.above)
        if claim.since:
            first, second = first - column(claim.since[0], metric), second - column(claim.since[1], beside)
        return first, second

    first, second = sides(claim.metric, claim.over_metric or claim.metric)
    sign = -1 if claim.lower else 1
    also = {metric: mean_of(np.subtract(*sides(metric, metric))) for metric in claim.also if claim.over}
    spent = sum(cost[arm][seed] for arm in claim.arms for seed in seeds)
    return Verdict(
        claim, task, mean_of(sign * (first - second) + claim.slack), float(first.mean()), float(second.mean()), seeds, also, spent
    )


def rows_of(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The rows of the result file, p-values corrected for the number of claims beside the raw ones."""
    corrected = holm([one.difference.p for one in verdicts])
    return [_row(one, p) for one, p in zip(verdicts, corrected, strict=True)]


def _row(one: Verdict, p_holm: float) -> dict[str, Any]:
    claim = one.claim
    return {
        "label": f"{claim.name}, {one.task.name} ({claim.metric}): {one.word}",
        "metric": "in favour of the claim",
        "claim": claim.says,
        "paper": claim.paper,
        "judged by": claim.metric,
        "arm": claim.arm,
        "over": _named(claim),
        **({"since": list(claim.since)} if claim.since else {}),
        **({"slack": claim.slack} if claim.slack else {}),
        "verdict": one.word,
        "mean": _rounded(one.difference.mean),
        "ci95": _rounded(one.difference.half_width),
        "n": len(one.seeds),
        "seeds": list(one.seeds),
        "p": float(f"{one.difference.p:.2g}"),
        "p_holm": float(f"{p_holm:.2g}"),
        "of arm": _rounded(one.arm),
        "of over": _rounded(one.over),
        "also": {name: [_rounded(value.mean), _rounded(value.half_width)] for name, value in one.also.items()},
        "cpu_minutes": round(one.cpu_minutes, 2),
    }


def _named(claim: Claim) -> str | float | None:
    """What stands on the other side: an arm, a reference that the arm is measured beside, or a constant."""
    if not claim.over:
        return claim.above
    if not claim.over_metric:
        return claim.over
    return claim.over_metric if claim.over == claim.arm else f"{claim.over} ({claim.over_metric})"


def _rounded(value: float) -> float:
    """Four digits."""
    return value if value == 0 or not math.isfinite(value) else float(f"{value:.4g}")
