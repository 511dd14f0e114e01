"""What is normal of gauges, and what to do where one is not. Pure functions of numbers; the thresholds are those of docs/photos.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from kinshot.studies.run_report.content import Curve, Gauge, Verdict

SPREAD_GOOD, SPREAD_LOW = 0.7, 0.3
UNIFORM_GOOD = -2.0
ALIGN_NEAR, ALIGN_FAR = 0.1, 1.0
RETRIEVAL_TIMES, RETRIEVAL_HALF = 2.0, 0.5
LEAST_RECORDS = 5
"""Curves of fewer records are not judged by where they go."""
_COLLAPSE = (
    "embeddings use few of the directions that they have: check that views of one sample are not too weak and that images are not all "
    "alike, then try a lower train.lr, a lower temperature, or a larger train.batch_size"
)


@dataclass(frozen=True)
class Size:
    """How far a rank can reach: `samples` rows of `dim` numbers."""

    samples: int
    dim: int

    @property
    def good(self) -> float:
        """A tenth of the dimension, at least 2, and no more than half of what there are samples for."""
        return min(max(2.0, self.dim / 10), self.samples / 2)

    @property
    def low(self) -> float:
        """Below it embeddings have collapsed: 5, less where there are fewer than 125 dimensions."""
        return min(max(1.2, min(5.0, self.dim / 25)), self.good)


def judged(name: str, means: str, before: float | None, value: float | None, normal: str, verdict: Verdict, advice: str) -> Gauge:
    """A gauge whose advice stands only where it is not normal; a value that is not finite is wrong, none is unknown."""
    if value is None:
        return Gauge(name, means, before, None, normal, "unknown")
    if value != value or abs(value) == float("inf"):
        advice = "it is not finite: training has diverged; lower train.lr, or set train.clip"
        return Gauge(name, means, before, None, normal, "wrong", advice)
    return Gauge(name, means, before, value, normal, verdict, "" if verdict == "normal" else advice)


def spread(name: str, before: float | None, value: float | None) -> Gauge:
    """`collapse/feature_std`."""
    verdict: Verdict = "unknown" if value is None else "normal" if value >= SPREAD_GOOD else "look" if value >= SPREAD_LOW else "wrong"
    advice = "many embeddings point one way: train longer, or look at the effective rank" if verdict == "look" else _COLLAPSE
    means = "spread of the directions of embeddings, 0 where all are the same"
    return judged(name, means, before, value, f"{SPREAD_GOOD:g} to 1", verdict, advice)


def rank(name: str, before: float | None, value: float | None, size: Size, classes: int = 0) -> Gauge:
    """`effective_rank`; training that is given `classes` needs no more directions than these."""
    good, low = size.good, size.low
    if classes:
        good, low = min(good, classes / 2), min(low, max(1.2, classes / 10))
    verdict: Verdict = "unknown" if value is None else "normal" if value >= good else "look" if value >= low else "wrong"
    advice = _COLLAPSE if verdict == "wrong" else "few directions are in use: see whether it still rises, and train longer where it does"
    means = f"directions in use, of {min(size.samples, size.dim)}"
    return judged(name, means, before, value, f"{good:.3g} or more", verdict, advice)


def evenness(name: str, before: float | None, value: float | None) -> Gauge:
    """`collapse/uniformity`."""
    verdict: Verdict = "unknown" if value is None else "normal" if value <= UNIFORM_GOOD else "look"
    advice = "embeddings leave most of the sphere empty: natural where a method does not push samples apart, collapse where the rank is low"
    means = "how evenly embeddings cover the sphere, 0 where all are the same"
    return judged(name, means, before, value, "-2 to -4", verdict, advice)


def closeness(name: str, before: float | None, value: float | None, spread_now: float | None) -> Gauge:
    """`collapse/alignment`; near 0 is good only where embeddings are spread."""
    collapsed = spread_now is not None and spread_now < SPREAD_LOW
    verdict: Verdict = "unknown"
    advice = ""
    if value is not None:
        near = value < ALIGN_NEAR
        verdict = "look" if value > ALIGN_FAR or (near and collapsed) else "normal"
        advice = (
            "views of a sample are close because all embeddings are: see the spread"
            if near
            else "two views of a sample have little in common: weaken the views (views.crop, views.jitter), or train longer"
        )
    return judged(
        name, "squared distance of two views of a sample; 2 is chance", before, value, f"{ALIGN_NEAR:g} to {ALIGN_FAR:g}", verdict, advice
    )  # fmt: skip


def found_again(name: str, before: float | None, value: float | None, samples: int) -> Gauge:
    """`views/retrieval`: how many of the samples are told apart by their views."""
    verdict: Verdict = "unknown"
    if value is not None:
        risen = before is None or value >= RETRIEVAL_TIMES * before or value >= RETRIEVAL_HALF
        verdict = "normal" if risen else "look" if before is not None and value > 1.1 * before else "wrong"
    advice = (
        "it has risen little: train longer, or use weaker views"
        if verdict == "look"
        else "nothing is learned that tells samples apart: raise train.lr, and look at the views below: a person must tell what they show"
    )
    means = f"share of {samples} samples whose view finds their other view; chance is {100 / samples:.2g} %"
    return judged(name, means, before, value, "several times its value before training, or above a half", verdict, advice)


def agreed(name: str, before: float | None, value: float | None, samples: int, k: int = 5) -> Gauge:
    """`views/agreement`: whether two views agree on who is like whom."""
    verdict: Verdict = "unknown" if value is None else "normal" if before is None or value >= before else "look"
    advice = "views are told apart by something else than what they show, such as a frame or a date that is burnt in: crop it away"
    means = f"share of the {k} nearest that two views agree on; chance is {min(1.0, k / max(1, samples - 1)):.2g}"
    return judged(name, means, before, value, "above its value before training", verdict, advice)


def loss_gauge(curve: Curve) -> Gauge:
    """`train/loss`: it falls."""
    means, normal = "what is minimised, means of the first and the last tenth of the records", "falls for the whole run"
    if None in curve.values:
        advice = "it was not finite at times: lower train.lr, or set train.clip"
        return Gauge(curve.tag, means, None, curve.finite[-1] if curve.finite else None, normal, "wrong", advice)
    if len(curve.values) < LEAST_RECORDS:
        return Gauge(curve.tag, means, curve.finite[0], curve.finite[-1], normal, "unknown")
    first, last = ends(curve.finite)
    fell = first - last
    verdict: Verdict = "normal" if fell > 0.01 * abs(first) else "look"
    advice = "it does not fall: raise train.lr where it is flat from the start, lower it where it jumps; a loss whose parts change may rise"
    return judged(curve.tag, means, first, last, normal, verdict, advice)


def gradient_gauge(curve: Curve) -> Gauge:
    """`train/grad_norm`: steady within a factor of ten."""
    means, normal = "length of the gradient, means of the first and the last tenth of the records", "steady, within a factor of ten"
    if len(curve.finite) < LEAST_RECORDS:
        return Gauge(curve.tag, means, None, curve.finite[-1] if curve.finite else None, normal, "unknown")
    first, last = ends(curve.finite)
    verdict: Verdict = "normal" if last <= 10 * first else "look"
    return judged(curve.tag, means, first, last, normal, verdict, "it grows: lower train.lr, or set train.clip")


def probe_gauge(curve: Curve) -> Gauge:
    """`eval/knn/...` and `eval/validation/...`: it rises, and does not fall far below its best."""
    means, normal = "best and last value during training", "rises, then levels off"
    if not curve.finite:
        return Gauge(curve.tag, means, None, None, normal, "unknown")
    best, last = max(curve.finite), curve.finite[-1]
    verdict: Verdict = "normal" if last >= 0.9 * best else "look"
    advice = "it has fallen below its best: train for fewer epochs, or with a lower train.lr"
    return judged(curve.tag, means, best, last, normal, verdict, advice)


def waiting_gauge(curve: Curve) -> Gauge:
    """`time/data_share`: how long a step waits for data."""
    value = statistics.median(curve.finite) if curve.finite else None
    verdict: Verdict = "unknown" if value is None else "normal" if value <= 0.5 else "look"
    return judged(
        curve.tag, "share of a step spent waiting for data, median", None, value, "below 0.5", verdict,
        "the processor waits for files: raise train.workers, or train on smaller images",
    )  # fmt: skip


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last tenth of some values, at least one of them each."""
    part = max(1, len(values) // 10)
    return statistics.fmean(values[:part]), statistics.fmean(values[-part:])
