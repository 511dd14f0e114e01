"""The figures of a run's page: small curves, retrieval against k, and how large clusters are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kinshot.studies.report.axes import curve as interval_curve
from kinshot.studies.report.axes import percent_limits, shot_axis
from kinshot.studies.report.picture import Picture, drawn
from kinshot.studies.report.theme import MARKERS, Theme, canvas, dress, legend, short
from kinshot.studies.run_report.content import Clusters, Content, Curve, Retrieval
from kinshot.studies.run_report.curves import group_of
from kinshot.studies.run_report.retrieval import NOW

MOST = 30
"""Curves that are drawn at most; all are in the tables."""
_SMOOTHED = 200
"""From so many records on a mean over a fiftieth of them is drawn over the records themselves."""
_NORMAL = {"collapse/feature_std": (0.7, 1.0), "collapse/uniformity": (-4.0, -2.0), "collapse/alignment": (0.1, 1.0)}
"""Where curves of gauges are normally."""


def figures_of(content: Content) -> list[Picture]:
    """The figures in the order of the page; section is a group of curves, `retrieval` or `clusters`."""
    found = [_curve_picture(curve, content.checkpoint_step) for curve in drawn_curves(content.curves)]
    if content.retrieval is not None:
        found += [_retrieval_picture(content.retrieval, metric) for metric in content.retrieval.lines]
    if content.clusters is not None and len(content.clusters.sizes) > 1:
        found.append(_sizes_picture(content.clusters))
    return found


def drawn_curves(curves: Sequence[Curve]) -> list[Curve]:
    """Those of which there is a line to draw."""
    return [curve for curve in curves if len(curve.finite) > 1][:MOST]


def number(value: float | None) -> str:
    """A number with four digits that tell something."""
    return "not finite" if value is None else f"{value:.4g}"


def _curve_picture(curve: Curve, checkpoint: int) -> Picture:
    name = "curve-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in curve.tag)
    lost = len(curve.values) - len(curve.finite)
    alt = (
        f"{curve.tag} from {number(curve.values[0])} at step {curve.steps[0]} to {number(curve.values[-1])} at step {curve.steps[-1]}, "
        f"between {number(min(curve.finite))} and {number(max(curve.finite))}"
    )
    alt += f"; {lost} of {len(curve.values)} records are not finite." if lost else "."
    return drawn(name, group_of(curve.tag), curve.tag, alt, partial(curve_figure, curve, checkpoint))


def curve_figure(curve: Curve, checkpoint: int, theme: Theme) -> Figure:
    """A scalar over steps, where it is normal, and where the weights are from that were looked at."""
    figure = canvas(theme, 3.3, 2.0)
    axes = figure.subplots()
    steps = np.array(curve.steps, dtype=float)
    values = np.array([math.nan if value is None else value for value in curve.values])
    many = len(steps) >= _SMOOTHED
    marker = "o" if len(steps) <= 12 else ""
    axes.plot(steps, values, color=theme.series[0], linewidth=0.7 if many else 1.6, alpha=0.4 if many else 1, marker=marker, markersize=3.5)
    if many:
        width = len(steps) // 50
        axes.plot(steps[width - 1 :], _means(values, width), color=theme.series[0], linewidth=1.8)
    low, high = min(curve.finite), max(curve.finite)
    air = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - air, high + air)
    if curve.tag in _NORMAL:
        axes.axhspan(*_NORMAL[curve.tag], color=theme.series[2], alpha=0.16, linewidth=0)
    if checkpoint < curve.steps[-1]:
        axes.axvline(checkpoint, color=theme.faint, linewidth=1.2, linestyle=":")
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("step", fontsize=9)
    dress(axes, theme)
    axes.yaxis.get_offset_text().set_color(theme.ink)
    return figure


def _means(values: np.ndarray, width: int) -> np.ndarray:
    """Means of the last `width` values, those that are no numbers left out."""
    known = np.isfinite(values)
    kernel = np.ones(width)
    count = np.convolve(known, kernel, "valid")
    found: np.ndarray = np.convolve(np.where(known, values, 0.0), kernel, "valid") / np.where(count > 0, count, np.nan)
    return found


def _retrieval_picture(retrieval: Retrieval, metric: str) -> Picture:
    told = [
        f"{line} {points[0].mean:.1f} % at {points[0].shots}, {points[-1].mean:.1f} % at {points[-1].shots}"
        for line, points in retrieval.lines[metric].items()
    ]
    chance = retrieval.chance[metric]
    alt = f"{metric.capitalize()} against k: {'; '.join(told)}; chance {chance[0]:.1f} % and {chance[-1]:.1f} %."
    return drawn(metric, "retrieval", f"{metric.capitalize()} at k", alt, partial(retrieval_figure, retrieval, metric))


def retrieval_figure(retrieval: Retrieval, metric: str, theme: Theme) -> Figure:
    """A metric against k with 95 % bands, now and before training, and chance."""
    figure = canvas(theme, 5.0, 3.5)
    axes = figure.subplots()
    handles: list[object] = []
    lines = retrieval.lines[metric]
    for place, (line, points) in enumerate(lines.items()):
        color = theme.series[0] if line == NOW else theme.faint
        handles.append(interval_curve(axes, points, color, MARKERS[place]))
    points = [point for of in lines.values() for point in of]
    ks = sorted({point.shots for point in points})
    chance = retrieval.chance[metric]
    handles += axes.plot(ks, chance, "--", color=theme.wrong, linewidth=1.4)
    shot_axis(axes, ks)
    axes.set_xlabel("k nearest")
    axes.set_ylabel({"recall": "queries with kin among them, %", "precision": "kin among them, %"}[metric])
    percent_limits(axes, [*(p.low for p in points), *chance], [*(p.high for p in points), *chance])
    dress(axes, theme)
    legend(figure, handles, [*lines, "chance"], theme, loc="outside lower center", ncols=3)
    return figure


def _sizes_picture(clusters: Clusters) -> Picture:
    sizes = clusters.sizes
    empty = sizes.count(0)
    alt = f"Sizes of {len(sizes)} clusters, largest first: from {sizes[0]} to {sizes[-1]} samples, {empty} of them empty."
    return drawn("cluster-sizes", "clusters", "Sizes of all clusters", alt, partial(sizes_figure, sizes))


def sizes_figure(sizes: list[int], theme: Theme) -> Figure:
    """How large clusters are, largest first."""
    figure = canvas(theme, 5.0, 2.6)
    axes = figure.subplots()
    axes.bar(range(1, len(sizes) + 1), sizes, 1.0 if len(sizes) > 60 else 0.8, color=theme.series[0], linewidth=0)
    mean = sum(sizes) / len(sizes)
    line = axes.axhline(mean, color=theme.ink, linestyle="--", linewidth=1.3)
    axes.set_xlim(0.4, len(sizes) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("cluster, largest first")
    axes.set_ylabel("samples")
    dress(axes, theme)
    legend(axes, [line], [short(f"mean {mean:.3g}")], theme, loc="upper right")
    return figure
