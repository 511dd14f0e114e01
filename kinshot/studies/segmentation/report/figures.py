"""The figures of a report on segmentation, each with what it shows in words."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinshot.segmentation.class_blind import SALIENCY
from kinshot.studies.report.axes import PAD, bars_figure, curve, histogram_figure, percent_limits, shot_axis
from kinshot.studies.report.figures_classes import ALL_CLASSES, EXTREME_CLASSES
from kinshot.studies.report.picture import Picture, drawn
from kinshot.studies.report.theme import MARKERS, Theme, canvas, dress, legend, short
from kinshot.studies.segmentation.report.content import ClassLine, Content, Line, Said
from kinshot.studies.segmentation.rows import NAMES

DRAWN = 2
"""Rules of measuring that have figures, the first ones; all are in the table."""
STYLES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def rule_name(rule: str) -> str:
    """A class-blind rule as people write it."""
    return rule.replace("_", " ")


def draw(content: Content) -> list[Picture]:
    """The figures of a report, in the order of its page."""
    several = len({ways for ways, _ in content.tasks}) > 1
    found = []
    for figure in content.figures[:DRAWN]:
        for ways in dict.fromkeys(ways for ways, _ in content.tasks):
            many = f", {ways}-way" if several else ""
            name = f"{figure}-{ways}-way".replace("_", "-")
            title = f"{NAMES[figure]} against shots{many}" if len(_shots(content, ways)) > 1 else f"{NAMES[figure]}{many}"
            found.append(drawn(name, "iou", title, _told(content, figure, ways), partial(iou_figure, content, figure, ways)))
    return [*found, *_classes(content), *_mistakes(content), *_spread(content)]


def _told(content: Content, figure: str, ways: int) -> str:
    parts = []
    for who, lines in _by_who(content, figure, ways).items():
        parts.append(f"{who} {', '.join(f'{line.mean:.1f} % at {line.shots}-shot' for line in lines)}")
    return f"{NAMES[figure]} of {ways}-way episodes with 95 % intervals: {'; '.join(parts)}."


def _shots(content: Content, ways: int) -> list[int]:
    return [shots for w, shots in content.tasks if w == ways]


def _by_who(content: Content, figure: str, ways: int) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for shots in _shots(content, ways):
        for line in content.of(figure, ways, shots):
            found.setdefault(line.who, []).append(line)
    return found


def iou_figure(content: Content, figure: str, ways: int, theme: Theme) -> Figure:
    """A figure against shots: a curve with its band for each head, gray lines for what needs no training or no support."""
    shots, lines = _shots(content, ways), _by_who(content, figure, ways)
    if len(shots) == 1:
        return _rows_figure(figure, [found[0] for found in lines.values()], theme)
    made = canvas(theme, 5.4, 3.9)
    axes = made.subplots()
    handles, labels, number = [], [], 0
    for who, found in lines.items():
        if found[0].kind == "model":
            handles.append(curve(axes, found, theme.series[number % len(theme.series)], MARKERS[number % len(MARKERS)]))
            number += 1
        else:
            style = STYLES[(len(handles) - number) % len(STYLES)]
            handles += axes.plot([r.shots for r in found], [r.mean for r in found], linestyle=style, color=theme.faint, linewidth=1.8)
        labels.append(short(who))
    shot_axis(axes, shots)
    every = [line for found in lines.values() for line in found]
    percent_limits(axes, [line.low for line in every], [line.high for line in every])
    axes.set_ylabel(f"{NAMES[figure]}, %")
    dress(axes, theme)
    legend(made, handles, labels, theme, loc="outside lower center", ncols=2)
    return made


def _rows_figure(figure: str, lines: list[Line], theme: Theme) -> Figure:
    """One number of shots makes no curve: a row with its interval for everybody, those that were not trained in gray."""
    made = canvas(theme, 5.4, 1.2 + 0.4 * len(lines))
    axes = made.subplots()
    number = 0
    for at, line in enumerate(lines):
        trained = line.kind == "model"
        color = theme.series[number % len(theme.series)] if trained else theme.faint
        _row(axes, line, at, color, MARKERS[number % len(MARKERS)] if trained else "|", theme)
        number += trained
    ends = [end for line in lines for end in (line.low, line.high)]
    air = max(2.5, PAD * (max(ends) - min(ends)))
    axes.set_xlim(max(0.0, min(ends) - air), min(100.5, max(ends) + air))
    axes.set_ylim(len(lines) - 0.5, -0.8)
    axes.set_yticks(range(len(lines)), [short(line.who) for line in lines])
    axes.set_xlabel(f"{lines[0].shots}-shot {NAMES[figure]}, %")
    dress(axes, theme, grid="x")
    return made


def _row(axes: Axes, line: Line, at: int, color: str, marker: str, theme: Theme) -> None:
    ends = [[line.mean - line.low], [line.high - line.mean]]
    axes.errorbar(line.mean, at, xerr=ends, color=color, marker=marker, markersize=7, linewidth=1.8, capsize=3)
    axes.annotate(f"{line.mean:.1f}", (line.mean, at), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=theme.ink)


def _classes(content: Content) -> list[Picture]:
    rows = [row for row in content.classes if row.iou is not None]
    if not rows:
        return []
    many = len(rows) > ALL_CLASSES
    title = f"The worst and the best of {len(rows)} classes" if many else "IoU by class, the worst first"
    alt = f"Bars of IoU by class with {content.focus.head}, from {rows[0].name} at {rows[0].iou:.0f} % to {rows[-1].name} at "
    alt += f"{rows[-1].iou:.0f} %, with what {rule_name(SALIENCY)} gets; every class is in the table."
    return [drawn("classes", "classes", title, alt, partial(classes_figure, rows))]


def classes_figure(rows: list[ClassLine], theme: Theme) -> Figure:
    """A bar for each class, the worst at the top, and across it what perfect saliency gets."""
    many = len(rows) > ALL_CLASSES
    worst, best = (rows[:EXTREME_CLASSES], rows[-EXTREME_CLASSES:]) if many else (rows, [])
    shown = [*worst, *best]
    blind = [row.rules.get(rule_name(SALIENCY)) for row in shown]
    marks = (rule_name(SALIENCY), [value or 0.0 for value in blind]) if any(value is not None for value in blind) else None
    low, high = ([(row.name, row.iou or 0.0) for row in part] for part in (worst, best))
    return bars_figure(low, high, len(rows) - len(shown), "intersection by union, %", theme, marks)


def _mistakes(content: Content) -> list[Picture]:
    rows = content.mistakes.said
    if not rows:
        return []
    shown = rows[:ALL_CLASSES]
    title = "Where what was found lies" if len(shown) == len(rows) else f"Where what was found lies: the {len(shown)} classes least right"
    alt = "Bars by class of where the pixels lie that were said to be of it: on it, on another object, on plain background; from "
    alt += (
        f"{shown[0].name} with {shown[0].right:.0f} % right to {shown[-1].name} with {shown[-1].right:.0f} %; the numbers are in the table."
    )
    return [drawn("mistakes", "mistakes", title, alt, partial(mistakes_figure, shown))]


def mistakes_figure(rows: list[Said], theme: Theme) -> Figure:
    """A bar of 100 % for each class: right, on another object (hatched), on plain background (dotted)."""
    made = canvas(theme, 5.4, 1.3 + 0.24 * len(rows))
    axes = made.subplots()
    places = range(len(rows))
    right, objects, ground = ([getattr(row, part) for row in rows] for part in ("right", "objects", "ground"))
    before = [r + o for r, o in zip(right, objects, strict=True)]
    handles = [
        axes.barh(places, right, 0.78, color=theme.series[0]),
        axes.barh(places, objects, 0.78, right, color=theme.series[1], edgecolor=theme.paper, hatch="////", linewidth=0),
        axes.barh(places, ground, 0.78, before, color=theme.grid, edgecolor=theme.faint, hatch="...", linewidth=0),
    ]
    axes.set_yticks(places, [short(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("of the pixels that were said to be of the class, %")
    dress(axes, theme, grid=None)
    axes.tick_params(axis="y", length=0)
    legend(made, handles, ["right", "on another object", "on plain background"], theme, loc="outside lower center", ncols=3)
    return made


def _spread(content: Content) -> list[Picture]:
    spread = content.spread
    if not spread.worst:
        return []
    alt = f"Histogram of IoU over {sum(spread.counts)} episodes: mean {spread.mean:.1f} %, from {spread.worst[0].iou:.1f} % to "
    alt += f"{spread.best[0].iou:.1f} %."
    make = partial(histogram_figure, spread.edges, spread.counts, spread.mean, "IoU of an episode, %")
    return [drawn("episodes", "episodes", "From episode to episode", alt, make)]
