"""The figure of `ssl measure`: what encoders reach against their size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from kinshot.studies.footprint import counted
from kinshot.studies.measure_rows import DISTILLED, INT8, STUDENT, TEACHER
from kinshot.studies.report.theme import LIGHT, MARKERS, Theme, canvas, dress, legend, short

SAID = {TEACHER: "teacher", STUDENT: "student from scratch", DISTILLED: "student distilled", INT8: "in int8"}
"""Roles in words, in the order of their markers."""

_STEP, _SPAN = 0.06, 0.4
"""Models of one size stand side by side: so many decades apart, and within so many."""
_COLUMNS = 2
"""Panels beside one another."""
_MOST = 100.5
"""Where an axis of percent ends at the latest."""
_APART = 0.12
"""Decades between the sizes that are written below the axis."""

Row = Mapping[str, Any]


def size_figure(rows: Sequence[Row], theme: Theme = LIGHT) -> Figure:
    """Few-shot accuracy with 95 % intervals against parameters on a log axis: a panel for each task.

    The marker says the role, the color the name; models of one name and several sizes are joined by a line, in int8 none are.

    Args:
        rows: as `measure_rows.row_of` makes them.
        theme: colors.
    """
    tasks = [(task["ways"], task["shots"]) for task in rows[0]["accuracy"]]
    names = list(dict.fromkeys(row["name"] for row in rows))
    colors = [theme.series[names.index(row["name"]) % len(theme.series)] for row in rows]
    columns = min(len(tasks), _COLUMNS)
    lines = -(-len(tasks) // columns)
    figure = canvas(theme, 5.4 * columns, 3.6 * lines + 0.8)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for spare in panels[len(tasks) :]:
        spare.set_axis_off()
    for place, (axes, (ways, shots)) in enumerate(zip(panels, tasks, strict=False)):
        _points(axes, rows, [row["accuracy"][place] for row in rows], colors, theme)
        _size_axis(axes, sorted({row["parameters"] for row in rows}))
        axes.set_ylim(top=min(axes.get_ylim()[1], _MOST))  # an interval of few seeds may reach beyond what can be
        axes.set_ylabel(f"{ways}-way {shots}-shot accuracy, %")
        dress(axes, theme)
    handles, labels = _key(rows, colors, theme)
    legend(figure, handles, labels, theme, loc="outside lower center", ncols=min(len(labels), 2 * columns))
    return figure


def _points(axes: Axes, rows: Sequence[Row], tasks: Sequence[Row], colors: Sequence[str], theme: Theme) -> None:
    joined: dict[str, list[tuple[float, float, str]]] = {}
    for x, row, task, color in zip(side_by_side([row["parameters"] for row in rows]), rows, tasks, colors, strict=True):
        marker, fill = _look(row["role"], color, theme)
        axes.errorbar(x, task["mean"], task["ci95"], fmt=marker, color=color, markerfacecolor=fill, markersize=6.5, capsize=2.5)
        if row["role"] != INT8:
            joined.setdefault(row["name"], []).append((x, task["mean"], color))
    for points in joined.values():
        if len(points) > 1:
            xs, means, shades = zip(*sorted(points), strict=True)
            axes.plot(xs, means, color=shades[0], linewidth=1, zorder=1)


def _look(role: str, color: str, theme: Theme) -> tuple[str, str]:
    """Marker and filling of a role; int8 is hollow."""
    return MARKERS[list(SAID).index(role)], theme.paper if role == INT8 else color


def side_by_side(sizes: Sequence[float]) -> list[float]:
    """Sizes, equal ones moved apart on the log axis, around where they belong."""
    found, seen = [], {size: 0 for size in sizes}
    for size in sizes:
        together = sizes.count(size)
        step = min(_STEP, _SPAN / together)
        found.append(size * 10 ** (step * (seen[size] - (together - 1) / 2)))
        seen[size] += 1
    return found


def _size_axis(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log")
    written: list[int] = []
    for size in sizes:
        if not written or size >= written[-1] * 10**_APART:
            written.append(size)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(written, [counted(size) for size in written])
    axes.set_xlim(sizes[0] / 2, sizes[-1] * 2)
    axes.set_xlabel("parameters")


def _key(rows: Sequence[Row], colors: Sequence[str], theme: Theme) -> tuple[list[Line2D], list[str]]:
    """What the legend shows: every name in its color, and then every role in gray."""
    first: dict[str, tuple[str, str]] = {}
    for row, color in zip(rows, colors, strict=True):
        if row["role"] != INT8:
            first.setdefault(row["name"], (row["role"], color))
    entries = [(*_look(role, color, theme), color, short(name)) for name, (role, color) in first.items()]
    roles = [role for role in SAID if any(row["role"] == role for row in rows)]
    entries += [(*_look(role, theme.faint, theme), theme.faint, SAID[role]) for role in roles]
    lines = [Line2D([], [], linestyle="", marker=m, color=c, markerfacecolor=fill, markersize=6.5) for m, fill, c, _ in entries]
    return lines, [text for *_, text in entries]
