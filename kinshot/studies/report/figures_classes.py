"""The figures of answers: accuracy by class, who is taken for whom, and whether confidence is earned."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from kinshot.studies.report.axes import bars_figure
from kinshot.studies.report.content import ClassRow, Confusion, Reliability
from kinshot.studies.report.theme import Theme, canvas, dress, short

ALL_CLASSES = 30
"""Up to so many classes all have a bar; beyond, the worst and the best have."""
EXTREME_CLASSES = 12
_DARK_CELL = 60


def chosen_classes(rows: list[ClassRow]) -> tuple[list[ClassRow], list[ClassRow]]:
    """The classes that have bars, from the worst: all and none, or the worst and the best ones."""
    if len(rows) <= ALL_CLASSES:
        return rows, []
    return rows[:EXTREME_CLASSES], rows[-EXTREME_CLASSES:]


def classes_figure(rows: list[ClassRow], head: str, theme: Theme) -> Figure:
    """A bar for each class, the worst at the top; with many classes the worst and the best ones."""
    worst, best = chosen_classes(rows)
    low, high = ([(row.name, row.accuracy[head]) for row in part] for part in (worst, best))
    return bars_figure(low, high, len(rows) - len(low) - len(high), "queries put into their class, %", theme)


def confusion_figure(confusion: Confusion, theme: Theme) -> Figure:
    """Rows are true classes, columns predictions: percent of the queries that could have been put there; dots where none could."""
    size = len(confusion.names)
    values = np.array([[np.nan if p is None else p for p in row] for row in confusion.percent])
    side = max(4.2, 1.7 + 0.235 * size)
    figure = canvas(theme, side, side)
    axes = figure.subplots()
    ramp = LinearSegmentedColormap.from_list("shares", list(theme.ramp))
    axes.imshow(np.nan_to_num(values), cmap=ramp, vmin=0, vmax=100, interpolation="nearest")
    for row, column in np.ndindex(size, size):
        value = values[row, column]
        if value >= 0.5:
            color = theme.paper if value > _DARK_CELL else theme.ink
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7.5, color=color, in_layout=False)
    apart = np.argwhere(np.isnan(values))
    axes.plot(apart[:, 1], apart[:, 0], ".", markersize=2, color=theme.faint)
    names = [short(name, 18) for name in confusion.names]
    axes.set_xticks(range(size), names, rotation=90 if max(map(len, names)) > 2 else 0)
    axes.set_yticks(range(size), names)
    axes.set_xlabel("put into")
    axes.set_ylabel("true class")
    dress(axes, theme, grid=None)
    axes.tick_params(length=0, labelsize=8)
    axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color=theme.grid, linewidth=0.7)
    axes.tick_params(which="minor", length=0)
    return figure


def reliability_figure(found: Reliability, theme: Theme) -> Figure:
    """Share of right answers against confidence, the diagonal being honest; below, how many answers each bin has."""
    figure = canvas(theme, 5.4, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    starts, widths = found.edges[:-1], np.diff(found.edges)
    filled = [i for i, count in enumerate(found.counts) if count]
    _bins(above, found, filled, widths, theme)
    above.plot([0, 1], [0, 1], "--", color=theme.ink, linewidth=1.2)
    above.set_title(f"expected calibration error {100 * found.error:.1f} %", fontsize=9.5, loc="left", color=theme.ink)
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    above.set_ylabel("share of right answers")
    below.bar(starts, found.counts, widths, align="edge", color=theme.faint, edgecolor=theme.paper, linewidth=0.8)
    below.set_ylabel("answers")
    below.set_xlabel("confidence of the answer")
    dress(above, theme)
    dress(below, theme)
    return figure


def _bins(axes: Axes, found: Reliability, filled: list[int], widths: np.ndarray, theme: Theme) -> None:
    """Bars up to the accuracy of each bin, and the gap between accuracy and confidence hatched."""
    accuracy, confidence = ([values[i] or 0.0 for i in filled] for values in (found.accuracy, found.confidence))
    starts, wide = [found.edges[i] for i in filled], [float(widths[i]) for i in filled]
    axes.bar(starts, accuracy, wide, align="edge", color=theme.series[0], edgecolor=theme.paper, linewidth=0.8)
    low = [min(a, c) for a, c in zip(accuracy, confidence, strict=True)]
    gap = [abs(a - c) for a, c in zip(accuracy, confidence, strict=True)]
    axes.bar(starts, gap, wide, low, align="edge", color=theme.paper, alpha=0.6, linewidth=0)
    axes.bar(starts, gap, wide, low, align="edge", facecolor="none", edgecolor=theme.wrong, hatch="////", linewidth=1)
