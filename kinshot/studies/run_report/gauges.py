"""The gauges of a run: measured on its checkpoint and on what it was before training, or read off the records, and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from kinshot.learn.gauges import alignment, effective_rank, feature_std, neighbor_agreement, uniformity, view_retrieval
from kinshot.learn.model import Model
from kinshot.studies.run_report import normal
from kinshot.studies.run_report.content import Curve, Gauge
from kinshot.studies.run_report.curves import by_tag
from kinshot.studies.run_report.looked import Looked

SAMPLES = 256
_PROJECTOR, _BACKBONE = "projector", "backbone"
_PROBES = ("eval/knn/", "eval/validation/")


def measured_gauges(looked: Looked, epochs: int, classes: int) -> list[Gauge]:
    """Gauges of up to SAMPLES samples and two fresh views, now and before training; `classes` that training was given, 0 for none."""
    rows = looked.rows[np.linspace(0, len(looked.rows) - 1, min(SAMPLES, len(looked.rows))).astype(np.int64)]
    if len(rows) < 3:
        return []
    pair = _two_views(looked, rows, epochs)
    now, was = (_embedded(model, pair, looked) for model in (looked.by.model, looked.by.before))
    size = {name: normal.Size(len(rows), now[0][name].shape[1]) for name in now[0]}
    head = _PROJECTOR if _PROJECTOR in now[0] else _BACKBONE
    spread = float(feature_std(now[0][head]))
    found = [
        normal.spread("collapse/feature_std", float(feature_std(was[0][head])), spread),
        normal.rank("collapse/effective_rank", *_both(effective_rank, was[0], now[0], head), size[head], classes),
    ]
    if head != _BACKBONE:
        ranks = _both(effective_rank, was[0], now[0], _BACKBONE)
        found.append(normal.rank(f"effective_rank/{_BACKBONE}", *ranks, size[_BACKBONE], classes))
    if classes:  # classes pull samples together, whatever their views
        return found
    apart, together = ((float(alignment(side[0][head], side[1][head]))) for side in (was, now))
    found.append(normal.evenness("collapse/uniformity", *_both(uniformity, was[0], now[0], head)))
    found.append(normal.closeness("collapse/alignment", apart, together, spread))
    for name in dict.fromkeys((head, _BACKBONE)):
        pairs = [(side[0][name], side[1][name]) for side in (was, now)]
        again = [float(view_retrieval(*pair)) for pair in pairs]
        found.append(normal.found_again(f"views/retrieval/{name}", again[0], again[1], len(rows)))
        if len(rows) > 6:
            alike = [float(neighbor_agreement(*pair)) for pair in pairs]
            found.append(normal.agreed(f"views/agreement/{name}", alike[0], alike[1], len(rows)))
    return found


def recorded_gauges(curves: Sequence[Curve], timing: Sequence[Curve], measured: Sequence[Gauge]) -> list[Gauge]:
    """Gauges that the records alone can say; of those that were not measured, the collapse gauges as they were recorded, too."""
    known, found = by_tag(curves), []
    if "train/loss" in known:
        found.append(normal.loss_gauge(known["train/loss"]))
    if "train/grad_norm" in known:
        found.append(normal.gradient_gauge(known["train/grad_norm"]))
    found += [normal.probe_gauge(curve) for tag, curve in known.items() if tag.startswith(_PROBES)]
    if not measured:
        found += _collapse(known)
    if "time/data_share" in (waits := by_tag(timing)):
        found.append(normal.waiting_gauge(waits["time/data_share"]))
    return found


def _collapse(known: Mapping[str, Curve]) -> list[Gauge]:
    ends = {tag: (curve.values[0], curve.values[-1]) for tag, curve in known.items() if tag.startswith("collapse/")}
    found, spread = [], ends.get("collapse/feature_std", (None, None))[1]
    for tag, judge in (("feature_std", normal.spread), ("uniformity", normal.evenness)):
        if f"collapse/{tag}" in ends:
            found.append(judge(f"collapse/{tag}", *ends[f"collapse/{tag}"]))
    if "collapse/alignment" in ends:
        found.append(normal.closeness("collapse/alignment", *ends["collapse/alignment"], spread))
    return found


def _both(measure: object, was: Mapping[str, Tensor], now: Mapping[str, Tensor], name: str) -> tuple[float, float]:
    return float(measure(was[name])), float(measure(now[name]))  # type: ignore[operator]


def _two_views(looked: Looked, rows: np.ndarray, epochs: int) -> list[Tensor]:
    """Two views of samples that no epoch has trained on, as the run's own gauges take them."""
    samples, indices, seed = looked.source.load(rows).to(looked.by.device), torch.from_numpy(rows), looked.by.run.recipe.seed
    return [looked.views(samples, indices, seed=seed, epoch=epochs + number)[0] for number in (0, 1)]


def _embedded(model: Model, views: Sequence[Tensor], looked: Looked) -> list[dict[str, Tensor]]:
    spec = looked.by.input
    with torch.no_grad():
        found = [model.features(spec.fit_normalized(view)) for view in views]
    return [{name: z[name].float().cpu() for name in (_PROJECTOR, _BACKBONE) if name in z} for z in found]
