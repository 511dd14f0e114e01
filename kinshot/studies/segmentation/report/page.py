"""The page: sections in their order, each a pure function of the content and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinshot.segmentation.class_blind import SALIENCY
from kinshot.studies.report.figures import p_value, signed
from kinshot.studies.report.frame import facts, framed, warning
from kinshot.studies.report.markup import Html, fill, folded, illustrated, joined, named, paragraph, table
from kinshot.studies.report.picture import Picture
from kinshot.studies.segmentation.report.content import MEAN, Content, EpisodeLine, Line
from kinshot.studies.segmentation.report.figures import rule_name
from kinshot.studies.segmentation.report.gallery import episode_html
from kinshot.studies.segmentation.report.panels import EpisodePictures
from kinshot.studies.segmentation.rows import NAMES

TITLES = {
    "iou": "Intersection by union",
    "gallery": "From the worst episode to the best",
    "classes": "By class",
    "mistakes": "What is wrongly found",
    "episodes": "From episode to episode",
    "about": "How it was measured",
}
_FEW_ROWS = 12
"""Tables up to this length stand open."""


def page(content: Content, figures: Sequence[Picture], pictures: Mapping[int, EpisodePictures]) -> str:
    """The whole report as one HTML file that needs nothing else.

    Args:
        content: what it says.
        figures: by section, see `figures.draw`.
        pictures: of the gallery's episodes by their number.
    """
    drawn = {key: [p for p in figures if p.section == key] for key in TITLES}
    versions = ", ".join(f"{name} {version}" for name, version in content.versions.items())
    bodies = {
        "iou": _iou(content, drawn["iou"]),
        "gallery": _gallery(content, pictures),
        "classes": _classes(content, drawn["classes"]),
        "mistakes": _mistakes(content, drawn["mistakes"]),
        "episodes": _episodes(content, drawn["episodes"]),
        "about": facts({**content.about, "Versions": versions, "Command": content.command}),
    }
    sections = {key: (TITLES[key], body) for key, body in bodies.items()}
    return framed("kinshot segmentation report", content.title, warning(content.warning), headline(content), sections)


def headline(content: Content) -> Html:
    """The best head on every task, large, and below it everything that it has to stand above."""
    first = content.figures[0]
    tiles = joined(_tile(content, first, ways, shots) for ways, shots in content.tasks)
    mean = ", mean over folds," if content.fold == MEAN else ""
    told = f"{NAMES[first]}{mean} of the best learner with its 95 % interval; below, what needs no training, and what needs no support."
    return joined([fill('<ul class="tiles">$tiles</ul>', tiles=tiles), fill('<p class="note">$told</p>', told=told)])


def _tile(content: Content, figure: str, ways: int, shots: int) -> Html:
    lines = content.of(figure, ways, shots)
    best = max((line for line in lines if line.kind == "model"), key=lambda line: line.mean)
    against = joined(
        fill('<span class="against">$who: $mean %</span>', who=line.who, mean=f"{line.mean:.1f}") for line in lines if line.kind != "model"
    )
    return fill(
        "<li><b>$mean<small> % ($low to $high)</small></b><span>$ways-way $shots-shot, $who</span>$against</li>",
        mean=f"{best.mean:.1f}", low=f"{best.low:.1f}", high=f"{best.high:.1f}", ways=ways, shots=shots, who=best.who, against=against,
    )  # fmt: skip


def _task(ways: int, shots: int) -> Html:
    return fill('<span class="whole">$ways-way $shots-shot</span>', ways=ways, shots=shots)


def _focus(content: Content) -> str:
    f = content.focus
    fold = f", fold {f.fold}" if f.fold else ""
    return f"{f.head} of {f.model}, {f.ways}-way {f.shots}-shot{fold}"


def _iou(content: Content, drawn: list[Picture]) -> Html:
    told = (
        "Intersection by union, in percent, with 95 % intervals. mIoU is the mean over classes of intersections and unions that are each "
        "added up over all episodes of a class; FB-IoU the mean over foreground and background. Class-blind rules never look at the "
        f"support: {rule_name(SALIENCY)}, the union of all labelled objects, is the most that can be had without knowing what is asked "
        "for, so a few-shot method has shown something only above it. Gray lines are what was not trained."
    )
    return joined([paragraph(told), _verdict(content), illustrated(drawn, Html("")), _figures_table(content), _paired(content)])


def _verdict(content: Content) -> Html:
    """Whether the first learner is above perfect saliency, task by task."""
    first = next(line.who for line in content.lines if line.kind == "model")
    blind = rule_name(SALIENCY)
    found = [v for v in content.paired if (v.who, v.against, v.fold) == (first, blind, content.fold)]
    if not found:
        return Html("")
    above, below = ([f"{v.ways}-way {v.shots}-shot ({signed(v.mean)} points)" for v in found if (v.low > 0) == wanted] for wanted in (1, 0))
    said = [f"above on {', '.join(above)}" * bool(above), f"not above on {', '.join(below)}" * bool(below)]
    return paragraph(
        f"Against {blind} on the same episodes, {first} is {'; '.join(filter(None, said))}, by the interval of the difference."
    )


def _figures_table(content: Content) -> Html:
    """Everybody's figures, fold by fold and the mean of them side by side."""
    found: dict[tuple[str, str, str], dict[tuple[int, int], Line]] = {}
    for line in content.lines:
        found.setdefault((line.who, line.figure, line.fold), {})[(line.ways, line.shots)] = line
    folds = content.fold == MEAN  # a column that always says the same only pushes the numbers out of a narrow window
    rows = [
        [named(who), NAMES[figure], *[fold] * folds, *(_cell(cells.get(task)) for task in content.tasks)]
        for (who, figure, fold), cells in found.items()
    ]
    titles = ["who", "figure", *["fold"] * folds, *(_task(*task) for task in content.tasks)]
    made = table("Figures in percent, with the ends of their 95 % intervals", titles, rows, texts=2 + folds)
    return made if len(rows) <= 3 * _FEW_ROWS else folded(f"All {len(rows)} rows of figures", made)


def _cell(line: Line | None) -> str:
    if line is None:
        return "none"
    return f"{line.mean:.2f} ({line.low:.1f} to {line.high:.1f})" + (f", {line.excluded} classes left out" if line.excluded else "")


def _paired(content: Content) -> Html:
    found = [v for v in content.paired if v.fold == content.fold]
    rows = [
        [named(v.who), named(v.against), _task(v.ways, v.shots), NAMES[v.figure],
         f"{signed(v.mean)} ({signed(v.low)} to {signed(v.high)})", p_value(v.p), p_value(v.p_holm)]
        for v in found
    ]  # fmt: skip
    if not rows:
        return Html("")
    titles = ["who", "minus", "task", "figure", "points", "p", "p (Holm)"]
    caption = "Points above another on the same episodes; Holm: corrected for those of one task"
    return folded(f"Differences on the same episodes ({len(rows)})", table(caption, titles, rows, texts=4))


def _gallery(content: Content, pictures: Mapping[int, EpisodePictures]) -> Html:
    told = (
        f"Some episodes, by {_focus(content)}. Colours are those of the ways; a mask's own border is drawn in its colour with a dark line "
        "outside. Hatched in gray is what nobody says anything of, which is not counted. The score is that of the way that the query was "
        "drawn for, above the best of the others: orange where the pixel is put to it, violet where not, white at the decision; the "
        "strongest colours are the largest margin of the picture."
    )
    return joined([paragraph(told), *(episode_html(episode, pictures[episode.number]) for episode in content.gallery)])


def _classes(content: Content, drawn: list[Picture]) -> Html:
    rules = list(dict.fromkeys(name for row in content.classes for name in row.rules))
    rows = []
    for row in content.classes:
        figures = (row.iou, row.dice, row.precision, row.recall, *map(row.rules.get, rules))
        rows.append([named(row.name), row.episodes, row.images, *map(_percent, figures)])
    titles = ["class", "episodes", "queries with it", "IoU", "Dice", "precision", "recall", *(f"IoU of {rule}" for rule in rules)]
    found = table("Percent, added up over all episodes of the class", titles, rows)
    told = f"By {_focus(content)}. Precision is the share of what was found that is right, recall the share of the class that was found."
    return joined([illustrated(drawn, paragraph(told)), found if len(rows) <= _FEW_ROWS else folded(f"All {len(rows)} classes", found)])


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _mistakes(content: Content, drawn: list[Picture]) -> Html:
    m = content.mistakes
    said = [[named(row.name), row.pixels, *(f"{x:.1f}" for x in (row.right, row.objects, row.ground))] for row in m.said]
    taken = [[named(row.true), named(row.said), row.pixels, f"{row.percent:.1f}"] for row in m.taken]
    told = f"Where the pixels lie that were said to be of a class, by {_focus(content)}."
    if m.objects is not None and m.ground is not None:
        told += (
            f" Of the pixels of objects that nobody asked for, {m.objects:.1f} % were said to be of a class; of plain background, "
            f"{m.ground:.1f} %. A model that knows what is asked for leaves both alone; one that only finds things takes the first."
        )
    pairs = table("What was taken for what", ["it is", "said to be", "pixels", "% of what was said to be it"], taken, texts=2)
    found = table(
        "Of the pixels that were said to be of a class", ["class", "pixels", "right, %", "another object, %", "background, %"], said
    )
    numbers = found if len(said) <= _FEW_ROWS else folded(f"All {len(said)} classes", found)
    return joined([illustrated(drawn, paragraph(told), pairs if taken else paragraph("Nothing was wrongly found.")), numbers])


def _episodes(content: Content, drawn: list[Picture]) -> Html:
    s = content.spread

    def rows(kind: str, lines: list[EpisodeLine]) -> list[list[object]]:
        return [[f"{kind} {i}", named(", ".join(line.classes)), line.number, f"{line.iou:.1f}"] for i, line in enumerate(lines, 1)]

    told = f"IoU of single episodes, the mean of their classes, by {_focus(content)}. Episodes are numbered from 0 in the order drawn."
    if s.without:
        told += f" {s.without} episodes have none: no query shows a class, and nothing was found."
    extremes = table(
        "Extreme episodes", ["rank", "classes", "episode", "IoU, %"], [*rows("worst", s.worst), *rows("best", s.best)], texts=2
    )
    return illustrated(drawn, paragraph(told), extremes)
