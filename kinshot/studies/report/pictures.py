"""Every picture of a report with what it shows in words, drawn for a light and for a dark page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from kinshot.studies.report.content import Content
from kinshot.studies.report.figures import (
    accuracy_figure,
    differences_of,
    heads_figure,
    lines_of,
    paired_figure,
    said_p,
    signed,
    spread_figure,
)
from kinshot.studies.report.figures_classes import chosen_classes, classes_figure, confusion_figure, reliability_figure
from kinshot.studies.report.picture import Picture, drawn
from kinshot.studies.report.samples import Sample
from kinshot.studies.report.sheet import sheet_png


def draw(content: Content) -> list[Picture]:
    """The figures of a report, in the order of its page."""
    return [*_accuracy(content), *_heads(content), *_answers(content), *_reliability(content), *_spread(content)]


def sheets(content: Content, samples: Mapping[int, Sample]) -> list[Picture]:
    """The gallery's episodes as pictures, where samples are pictures."""
    if not all(sample.picture for sample in samples.values()):
        return []
    return [
        Picture(f"gallery-{i}", "sheets", f"Episode {episode.number}", "", sheet_png(episode, samples))
        for i, episode in enumerate(content.gallery, 1)
    ]


def _accuracy(content: Content) -> list[Picture]:
    ways_list = list(dict.fromkeys(row.ways for row in content.rows))
    found = []
    for feature in content.features:
        for ways in ways_list:
            told = []
            for head in content.heads:
                points = [f"{r.mean:.1f} % at {r.shots}-shot" for r in lines_of(content, content.main, feature, head, ways)]
                told += [f"{head} {', '.join(points)}"] * bool(points)
            many = f", {ways}-way" if len(ways_list) > 1 else ""
            name = f"accuracy-{_safe(feature)}" + (f"-{ways}-way" if len(ways_list) > 1 else "")
            alt = f"Accuracy against shots with 95 % bands, feature {feature}{many}: {'; '.join(told)}."
            found.append(drawn(name, "accuracy", f"Feature {feature}{many}", alt, partial(accuracy_figure, content, feature, ways)))
    return found


def _heads(content: Content) -> list[Picture]:
    focus = content.focus
    where = f"{focus.ways}-way, feature {focus.feature}"
    alt = f"Bars of accuracy of the heads {', '.join(content.heads)} for each number of shots, {where}; the numbers are in the table."
    found = [drawn("heads", "heads", f"Accuracy, {where}", alt, partial(heads_figure, content))]
    differences = differences_of(content)
    if differences:
        told = [f"{d.head} at {d.shots}-shot {signed(d.mean)} ± {d.ci95:.2f} points, {said_p(d.p)}" for d in differences]
        alt = f"Differences to {content.focus.head} on the same episodes with 95 % intervals: {'; '.join(told)}."
        title = f"Difference to {content.focus.head}"
        found.append(drawn("paired", "heads", title, alt, partial(paired_figure, content)))
    return found


def _answers(content: Content) -> list[Picture]:
    head = content.focus.head
    worst, best = chosen_classes(content.classes)
    ends = [*worst, *best]
    title = f"The worst and the best of {len(content.classes)} classes" if best else "All classes, the worst first"
    alt = f"Bars of accuracy by class with {head}, from {ends[0].name} at {ends[0].accuracy[head]:.0f} % to {ends[-1].name} at "
    alt += f"{ends[-1].accuracy[head]:.0f} %; every class is in the table."
    classes = drawn("classes", "classes", title, alt, partial(classes_figure, content.classes, head))
    confusion = content.confusion
    many = len(confusion.names) < confusion.classes
    title = f"The {len(confusion.names)} classes of the most frequent confusions" if many else f"All {confusion.classes} classes"
    alt = f"Confusion matrix of {len(confusion.names)} classes; the most frequent confusions and the whole matrix are in the tables."
    return [classes, drawn("confusion", "confusion", title, alt, partial(confusion_figure, confusion))]


def _reliability(content: Content) -> list[Picture]:
    found = []
    for number, reliability in enumerate(content.reliability, 1):
        alt = f"Reliability diagram of {reliability.head}: expected calibration error {100 * reliability.error:.1f} %; bins in the table."
        found.append(drawn(f"calibration-{number}", "calibration", reliability.head, alt, partial(reliability_figure, reliability)))
    return found


def _spread(content: Content) -> list[Picture]:
    spread = content.spread
    total, worst, best = sum(spread.counts), spread.worst[0].accuracy, spread.best[0].accuracy
    alt = f"Histogram of accuracy over {total} episodes: mean {spread.mean:.1f} %, from {worst:.1f} % to {best:.1f} %."
    return [drawn("episodes", "episodes", "From episode to episode", alt, partial(spread_figure, spread))]


def _safe(text: str) -> str:
    """A file name of letters, digits and dashes."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
