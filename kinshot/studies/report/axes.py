"""What figures of several reports have in common: curves against shots, bars by name, histograms of percentages."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinshot.studies.report.theme import Theme, canvas, dress, legend, short

PAD = 0.08
"""Air around the data, as a share of its range."""


class Point(Protocol):
    """A mean in percent with its interval, at a number of shots."""

    @property
    def shots(self) -> Any:
        """Support samples of each class."""

    @property
    def mean(self) -> float:
        """In percent."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def curve(axes: Axes, found: Sequence[Point], color: str, marker: str) -> object:
    """Means against shots, with bands and bars of their intervals."""
    shots = [r.shots for r in found]
    axes.fill_between(shots, [r.low for r in found], [r.high for r in found], color=color, alpha=0.22, linewidth=0)
    ends = [r.mean - r.low for r in found], [r.high - r.mean for r in found]
    return axes.errorbar(shots, [r.mean for r in found], ends, color=color, marker=marker, markersize=5, linewidth=1.8, capsize=2.5)


def shot_axis(axes: Axes, shots: list[int]) -> None:
    """Numbers of shots, by their logarithm."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(k) for k in shots])
    axes.set_xticks([], minor=True)
    axes.set_xlim(shots[0] / 1.2, shots[-1] * 1.2)
    axes.set_xlabel("shots (support samples of each class)")


def percent_limits(axes: Axes, lows: list[float], highs: list[float]) -> None:
    """The range of the data with some air, inside 0 to 100."""
    low, high = min(lows), max(highs + lows)
    air = max(1.5, PAD * (high - low))
    axes.set_ylim(max(0.0, low - air), min(100.5, high + air))


def bars_figure(
    worst: Sequence[tuple[str, float]],
    best: Sequence[tuple[str, float]],
    between: int,
    label: str,
    theme: Theme,
    marks: tuple[str, Sequence[float]] | None = None,
) -> Figure:
    """Bars of percentages by name, from the top; where `best` are set apart, `between` says how many classes are left out.

    `marks` are what each bar is to be compared with, drawn across it: what they are, and one for each bar.
    """
    shown = [*worst, *best]
    gap = 1.0 if best else 0.0
    places = [i + (gap if i >= len(worst) else 0.0) for i in range(len(shown))]
    figure = canvas(theme, 5.4, 0.9 + 0.21 * (len(shown) + gap))
    axes = figure.subplots()
    axes.barh(places, [value for _, value in shown], 0.76, color=theme.series[0])
    for place, (_, value), mark in zip(places, shown, marks[1] if marks else [-100.0] * len(shown), strict=True):
        hidden = 0 <= mark - value < 8  # the mark would stand on the number
        axes.text((mark if hidden else value) + 1 + hidden, place, f"{value:.0f}", va="center", fontsize=8, color=theme.ink)
    if marks:
        low, high = ([place + side for place in places] for side in (-0.44, 0.44))
        axes.vlines(marks[1], low, high, color=theme.paper, linewidth=5)
        line = axes.vlines(marks[1], low, high, color=theme.ink, linewidth=2)
        legend(figure, [line], [marks[0]], theme, loc="outside lower center")
    if best:
        left_out = f"\u22ee  {between} classes between"
        axes.text(1, len(worst), left_out, va="center", fontsize=8.5, style="italic", color=theme.faint)
    axes.set_yticks(places, [short(name) for name, _ in shown])
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel(label)
    dress(axes, theme, grid="x")
    axes.tick_params(axis="y", length=0)
    return figure


def histogram_figure(edges: Sequence[float], counts: Sequence[int], mean: float, label: str, theme: Theme) -> Figure:
    """How many episodes have which percentage, and their mean."""
    figure = canvas(theme, 5.4, 3.2)
    axes = figure.subplots()
    widths = [b - a for a, b in pairwise(edges)]
    axes.bar(edges[:-1], counts, widths, align="edge", color=theme.series[0], edgecolor=theme.paper, linewidth=0.8)
    axes.axvline(mean, color=theme.ink, linewidth=1.6, linestyle="--")
    top = max(counts)
    left = mean > 50
    axes.text(mean + (-1.5 if left else 1.5), top * 1.04, f"mean {mean:.1f} %", ha="right" if left else "left", fontsize=9, color=theme.ink)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, top * 1.16)
    axes.set_xlabel(label)
    axes.set_ylabel("episodes")
    dress(axes, theme)
    return figure
