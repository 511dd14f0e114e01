"""The figure of `ssl labels`: what is reached against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from kinshot.studies.report.theme import LIGHT, MARKERS, Theme, canvas, dress, legend, short

_DASHES = ((0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1, 1, 1, 1, 1)))
_COLUMNS = 3
_MOST = 101.0
"""Where an axis of percent ends at the latest."""


def curve_figure(result: Mapping[str, Any], blocks: Sequence[str], theme: Theme = LIGHT) -> Figure:
    """Means with their 95 % intervals as bands against labelled samples of each class, on a log axis: a panel for each block.

    Runs have colors and markers, references are gray and broken.

    Args:
        result: of `label_curve`.
        blocks: measures of its rows.
        theme: colors.
    """
    rows = [row for row in result["rows"] if "part_of" not in row]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    looks = dict(zip(labels, _looks(labels, result["references"], theme), strict=True))
    figure = canvas(theme, 5.4 * len(blocks), 4.4)
    for axes, block in zip(figure.subplots(1, len(blocks), squeeze=False).flat, blocks, strict=True):
        for label in labels:
            _curve(axes, [row for row in rows if (row["block"], row["label"]) == (block, label)], result["labels per class"], looks[label])
        _label_axis(axes, result["labels per class"])
        axes.set_ylabel(block)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, 0.0), min(high, _MOST))  # an interval of few seeds may reach beyond what can be
        dress(axes, theme)
    handles = [Line2D([], [], **looks[label]) for label in labels]
    legend(figure, handles, [short(label, 40) for label in labels], theme, loc="outside lower center", ncols=min(len(labels), _COLUMNS))
    return figure


def _looks(labels: Sequence[str], references: Sequence[str], theme: Theme) -> list[dict[str, Any]]:
    found, runs = [], [label for label in labels if label not in references]
    for label in labels:
        if label in references:
            place = references.index(label)
            found.append({"color": theme.faint, "linestyle": _DASHES[place % len(_DASHES)], "linewidth": 1.6})
        else:
            place = runs.index(label)
            color, marker = theme.series[place % len(theme.series)], MARKERS[place % len(MARKERS)]
            found.append({"color": color, "marker": marker, "markersize": 5, "linewidth": 1.4})
    return found


def _curve(axes: Axes, rows: Sequence[Mapping[str, Any]], places: Mapping[str, float], look: Mapping[str, Any]) -> None:
    points = sorted((places[row["column"]], row["mean"], row["ci95"]) for row in rows)
    if not points:
        return
    x, mean, half = zip(*points, strict=True)
    axes.plot(x, mean, **look)
    low, high = ([m + side * h for m, h in zip(mean, half, strict=True)] for side in (-1, 1))
    axes.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)


def _label_axis(axes: Axes, places: Mapping[str, float]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(places.values()), [text.removesuffix(" per class") for text in places])
    axes.set_xlabel("labelled samples of each class")
