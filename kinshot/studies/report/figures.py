"""The figures of accuracy: against shots, heads side by side, heads against the first one, and from episode to episode."""

from __future__ import annotations

from matplotlib.figure import Figure

from kinshot.studies.report.axes import PAD, curve, histogram_figure, percent_limits, shot_axis
from kinshot.studies.report.content import Content, EpisodeSpread
from kinshot.studies.report.theme import MARKERS, Theme, canvas, dress, legend, short
from kinshot.studies.summaries import RAW, STARTED, UNTRAINED, Difference, Line

SIGNIFICANT = 0.05


def lines_of(content: Content, model: str, feature: str, head: str, ways: int | str) -> list[Line]:
    """The lines of one curve, by shots."""
    wanted = (model, feature, head, ways)
    return sorted((r for r in content.rows if (r.model, r.feature, r.head, r.ways) == wanted), key=lambda r: int(r.shots))


def accuracy_figure(content: Content, feature: str, ways: int | str, theme: Theme) -> Figure:
    """Accuracy against shots with 95 % bands, a curve for each head; references of the first head in gray."""
    shots = sorted({int(r.shots) for r in content.rows if r.ways == ways})
    if len(shots) == 1:
        return _one_shot_figure(content, feature, ways, theme)
    figure = canvas(theme, 5.4, 3.9)
    axes = figure.subplots()
    handles, labels, lows, highs = [], [], [], []
    for i, head in enumerate(content.heads):
        found = lines_of(content, content.main, feature, head, ways)
        if not found:
            continue
        handles.append(curve(axes, found, theme.series[i % len(theme.series)], MARKERS[i % len(MARKERS)]))
        labels.append(short(head))
        lows += [line.low for line in found]
        highs += [line.high for line in found]
    for found, label, style in _references(content, feature, ways):
        handles += axes.plot([r.shots for r in found], [r.mean for r in found], style, color=theme.faint, linewidth=1.6)
        labels.append(label)
        lows += [line.mean for line in found]
    shot_axis(axes, shots)
    percent_limits(axes, lows, highs)
    axes.set_ylabel("accuracy, %")
    dress(axes, theme)
    legend(figure, handles, labels, theme, loc="outside lower center", ncols=2)
    return figure


def _references(content: Content, feature: str, ways: int | str) -> list[tuple[list[Line], str, str]]:
    """Lines of the references with the first head, a label and a style for each."""
    kinds = ((UNTRAINED, feature, "--"), (STARTED, feature, "-."), *((label, own, ":") for label, own in RAW.items()))
    found = [(lines_of(content, model, own, content.focus.head, ways), model, style) for model, own, style in kinds]
    return [(lines, f"{model}, {short(content.focus.head, 18)}", style) for lines, model, style in found if lines]


def _one_shot_figure(content: Content, feature: str, ways: int | str, theme: Theme) -> Figure:
    """One number of shots makes no curve: a row for each head with its 95 % interval, references as upright lines."""
    measured = [(head, line) for head in content.heads for line in lines_of(content, content.main, feature, head, ways)]
    figure = canvas(theme, 5.4, 1.5 + 0.34 * len(measured))
    axes = figure.subplots()
    for at, (head, line) in enumerate(measured):
        i = content.heads.index(head)
        color, marker = theme.series[i % len(theme.series)], MARKERS[i % len(MARKERS)]
        axes.errorbar(line.mean, at, xerr=line.ci95, color=color, marker=marker, markersize=6, linewidth=1.8, capsize=3)
        axes.annotate(f"{line.mean:.1f}", (line.mean, at), (0, 6), textcoords="offset points", ha="center", fontsize=8, color=theme.ink)
    references = _references(content, feature, ways)
    handles = [axes.axvline(lines[0].mean, linestyle=style, color=theme.faint, linewidth=1.8) for lines, _, style in references]
    ends = [end for _, line in measured for end in (line.low, line.high)] + [lines[0].mean for lines, *_ in references]
    air = max(1.5, PAD * (max(ends) - min(ends)))
    axes.set_xlim(max(0.0, min(ends) - air), min(100.5, max(ends) + air))
    axes.set_ylim(len(measured) - 0.5, -0.8)
    axes.set_yticks(range(len(measured)), [short(head) for head, _ in measured])
    axes.set_xlabel(f"{measured[0][1].shots}-shot accuracy, %" if measured else "accuracy, %")
    dress(axes, theme, grid="x")
    if handles:
        legend(figure, handles, [label for _, label, _ in references], theme, loc="outside lower center", ncols=2)
    return figure


def heads_figure(content: Content, theme: Theme) -> Figure:
    """Bars from 0 with 95 % intervals: heads side by side for each number of shots."""
    focus = content.focus
    heads = [head for head in content.heads if lines_of(content, content.main, focus.feature, head, focus.ways)]
    shots = sorted({int(r.shots) for r in content.rows if r.ways == focus.ways})
    groups = len(shots) * len(heads)
    figure = canvas(theme, 5.4, 3.9)
    axes = figure.subplots()
    width = 0.84 / len(heads)
    handles = []
    for i, head in enumerate(heads):
        found = lines_of(content, content.main, focus.feature, head, focus.ways)
        series = content.heads.index(head) % len(theme.series)
        at = [place + (i - (len(heads) - 1) / 2) * width for place in range(len(found))]
        bars = axes.bar(at, [r.mean for r in found], 0.92 * width, color=theme.series[series])
        axes.errorbar(at, [r.mean for r in found], [r.ci95 for r in found], fmt="none", ecolor=theme.ink, elinewidth=1.1, capsize=2)
        handles.append(bars)
        for x, line in zip(at, found, strict=True) if groups <= 18 else ():
            turned = 90 if groups > 8 else 0
            text = f"{line.mean:.1f}"
            axes.text(x, line.high + 1.5, text, ha="center", va="bottom", fontsize=7.5, rotation=turned, color=theme.ink)
    axes.set_ylim(0, 112 if groups <= 18 else 103)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xticks(range(len(shots)), [f"{k}-shot" for k in shots])
    axes.set_ylabel("accuracy, %")
    dress(axes, theme)
    legend(figure, handles, [short(head) for head in heads], theme, loc="outside lower center", ncols=min(3, len(heads)))
    return figure


def differences_of(content: Content) -> list[Difference]:
    """Heads against the first one in the focus' model, feature and ways: by shots, heads in their order."""
    focus = content.focus
    mine = [d for d in content.paired if (d.model, d.feature, d.ways) == (focus.model, focus.feature, focus.ways)]
    return sorted(mine, key=lambda d: int(d.shots))


def paired_figure(content: Content, theme: Theme) -> Figure:
    """Differences to the first head on the same episodes with 95 % intervals and p-values; hollow where p is 0.05 or more."""
    found = differences_of(content)
    figure = canvas(theme, 5.4, 1.2 + 0.34 * len(found))
    axes = figure.subplots()
    axes.axvline(0, color=theme.faint, linewidth=1.2)
    for row, d in enumerate(found):
        i = content.heads.index(d.head)
        color = theme.series[i % len(theme.series)]
        fill = color if d.p < SIGNIFICANT else theme.paper
        marker = MARKERS[i % len(MARKERS)]
        axes.errorbar(d.mean, row, xerr=d.ci95, color=color, marker=marker, markerfacecolor=fill, markersize=6, linewidth=1.8, capsize=3)
    ends = [end for d in found for end in (d.mean - d.ci95, d.mean + d.ci95)]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    air = max(0.25, PAD * (high - low))
    axes.set_xlim(low - air, high + air)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_yticks(range(len(found)), [f"{short(d.head, 20)}, {d.shots}-shot" for d in found])
    axes.set_xlabel(f"points more than {short(content.focus.head)}")
    dress(axes, theme, grid="x")
    right = axes.twinx()
    dress(right, theme, grid=None)
    right.set_ylim(axes.get_ylim())
    right.set_yticks(range(len(found)), [said_p(d.p) for d in found])
    right.tick_params(length=0)
    for side in right.spines.values():
        side.set_visible(False)
    return figure


def signed(value: float) -> str:
    """A difference in words, with a sign unless it is none."""
    text = f"{value:+.2f}".replace("-", "\u2212")
    return "0.00" if text[1:] == "0.00" else text


def p_value(p: float) -> str:
    """A p-value as a cell of a table."""
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}" if p >= 0.001 else f"{p:.4f}"


def said_p(p: float) -> str:
    """A p-value in words."""
    return f"p {p_value(p)}" if p < 0.0001 else f"p = {p_value(p)}"


def spread_figure(spread: EpisodeSpread, theme: Theme) -> Figure:
    """Histogram of accuracy over episodes, with the mean."""
    return histogram_figure(spread.edges, spread.counts, spread.mean, "accuracy of an episode, %", theme)
