"""The page: sections in their order, each a pure function of the content and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinshot.recipes.specs import Task
from kinshot.studies.report.content import Confusion, Content, Reliability
from kinshot.studies.report.figures import p_value, signed
from kinshot.studies.report.frame import facts, framed, warning
from kinshot.studies.report.gallery import episode_html
from kinshot.studies.report.headline import best_lines, headline, tasks_of
from kinshot.studies.report.markup import Html, fill, folded, illustrated, joined, named, paragraph, small, table
from kinshot.studies.report.picture import Picture
from kinshot.studies.report.samples import Sample
from kinshot.studies.summaries import Line, is_reference

TELLING = 0.05
"""From this calibration error on a diagram stands open."""
_FEW_ROWS = 12
"""Tables up to this length stand open."""
TITLES = {
    "accuracy": "Accuracy",
    "heads": "Heads side by side",
    "classes": "Accuracy by class",
    "confusion": "Confusions",
    "episodes": "Best and worst episodes",
    "gallery": "Gallery",
    "calibration": "Calibration",
    "about": "How it was measured",
}


def page(content: Content, figures: Sequence[Picture], samples: Mapping[int, Sample]) -> str:
    """The whole report as one HTML file that needs nothing else.

    Args:
        content: what it says.
        figures: pictures by section, see `pictures.draw`.
        samples: the gallery's samples by number.
    """
    drawn = {key: [p for p in figures if p.section == key] for key in TITLES}
    makers = {
        "accuracy": _accuracy(content, drawn["accuracy"]),
        "heads": _heads(content, drawn["heads"]),
        "classes": _classes(content, drawn["classes"]),
        "confusion": _confusion(content, drawn["confusion"]),
        "episodes": _episodes(content, drawn["episodes"]),
        "gallery": _gallery(content, samples),
        "calibration": _calibration(content, drawn["calibration"]),
        "about": _about(content),
    }
    return framed(
        "kinshot few-shot report", content.title, warning(content.warning), headline(content),
        {key: (TITLES[key], body) for key, body in makers.items()},
    )  # fmt: skip


def _about(content: Content) -> Html:
    rows = {**content.about, "Versions": ", ".join(f"{k} {v}" for k, v in content.versions.items()), "Command": content.command}
    return facts(rows)


def _focus(content: Content) -> str:
    f = content.focus
    return f"{f.ways}-way {f.shots}-shot, feature {f.feature} of {f.model}"


def _task(ways: int | str, shots: int | str) -> Html:
    return fill('<span class="whole">$ways-way $shots-shot</span>', ways=ways, shots=shots)


def _accuracy(content: Content, drawn: list[Picture]) -> Html:
    tasks = tasks_of(content)
    found: dict[tuple[str, str, str], dict[Task, str]] = {}
    for r in content.rows:
        found.setdefault((r.model, r.feature, r.head), {})[(r.ways, r.shots)] = f"{r.mean:.2f} ± {r.ci95:.2f}"
    several = len(content.features) > 1  # a column that always says the same only pushes the numbers out of a narrow window
    rows = [
        [head, named(model), *[feature] * several, *(cells.get(task, "") for task in tasks)]
        for (model, feature, head), cells in found.items()
    ]
    chance = ", ".join(f"{100 / int(ways):.3g} % for {ways}-way" for ways in sorted({w for w, _ in tasks}))
    titles = ["head", "model", *["feature"] * several, *(_task(ways, shots) for ways, shots in tasks)]
    told = f"Mean accuracy over episodes in percent; bands and ± are 95 % intervals. Chance is {chance}."
    references = [r for r in content.rows if is_reference(r.model)]
    if references:
        told += f" Gray lines are references that any training must beat, with the head {content.focus.head}."
    verdict = {True: "lies above both references on every task, with disjoint intervals", None: ""}.get(
        content.beats_references, "does not lie above both references on every task with disjoint intervals"
    )
    warned = f" But {content.warning}." if content.warning else ""
    text = joined([paragraph(told), paragraph(f"The best line {verdict}.{warned}") if verdict else ""])
    best = _best(content, tasks, references) if len({ways for ways, _ in tasks}) > 1 else ""  # else the first lines have said it
    return joined(
        [illustrated(drawn, text, best), table("Accuracy in percent, ± half of the 95 % interval", titles, rows, texts=2 + several)]
    )


def _best(content: Content, tasks: list[Task], references: list[Line]) -> Html:
    """The best line of each task, beside the best reference."""
    rows = []
    for ways, shots in tasks:
        best, other = best_lines(content, (ways, shots))
        if best:
            cells = [f"{r.mean:.1f}, {r.model if is_reference(r.model) else r.feature}, {r.head}" if r else "" for r in (best, other)]
            rows.append([_task(ways, shots), *cells[: 1 + bool(references)]])
    return table("The best line of each task", ["task", "best", *["best reference"] * bool(references)], rows, texts=3)


def _heads(content: Content, drawn: list[Picture]) -> Html:
    if not content.paired:
        return illustrated(drawn, paragraph("Only one head was measured, so there is no difference to show."))
    several = len({(d.model, d.feature) for d in content.paired}) > 1
    rows = [
        [d.head, _task(d.ways, d.shots), *[named(d.model), d.feature] * several, f"{signed(d.mean)} ± {d.ci95:.2f}", p_value(d.p),
         p_value(d.p_holm),
         f"{d.wins} / {d.n - d.wins - d.losses} / {d.losses}"]
        for d in content.paired
    ]  # fmt: skip
    titles = ["head", "task", *["model", "feature"] * several, "points", "p", "p (Holm)", "better / equal / worse"]
    first = content.paired[0].against
    told = (
        f"Every head saw the same episodes, so differences to {first} are taken episode by episode (paired Student t, two-sided). "
        "p is of a single comparison, p (Holm) corrected for the heads of one model, feature and task; hollow marks have p of 0.05 or more."
    )
    if content.focus.model != content.main:
        told += f" Bars are the {content.main} checkpoints; the figure of differences is of {content.focus.model}."
    paired = table(f"Difference to {first} in points of accuracy, on the same episodes", titles, rows, texts=4 if several else 2)
    return illustrated(drawn, paragraph(told), paired if len(rows) <= 2 * _FEW_ROWS else folded(f"All {len(rows)} differences", paired))


def _classes(content: Content, drawn: list[Picture]) -> Html:
    heads = list(content.classes[0].accuracy)
    rows = [[named(row.name), row.queries, *(f"{row.accuracy[head]:.1f}" for head in heads)] for row in content.classes]
    found = table("Percent of the queries put into their class", ["class", "queries", *heads], rows)
    told = f"Share of a class's queries that {content.focus.head} put into it, over all episodes ({_focus(content)})."
    return illustrated(drawn, paragraph(told), found if len(rows) <= _FEW_ROWS else folded(f"All {len(rows)} classes as a table", found))


def _confusion(content: Content, drawn: list[Picture]) -> Html:
    c = content.confusion
    rows = [[named(p.true), named(p.predicted), p.count, p.met, f"{p.percent:.1f}"] for p in c.pairs]
    pairs = table("The most frequent confusions", ["true class", "put into", "queries", "of", "%"], rows, texts=2)
    many = len(c.names) < c.classes
    which = f"Only {len(c.names)} of {c.classes} classes are shown: those of the most frequent confusions. " if many else ""
    told = (
        f"{which}A cell says how many percent of the row's queries were put into the column, counting only episodes in which both "
        f"classes played; a dot means that they never met. By {content.focus.head}, {_focus(content)}."
    )
    if not rows:
        pairs = paragraph("No query was put into a wrong class.")
    return joined([illustrated(drawn, paragraph(told), pairs), folded("The matrix as a table", _matrix(c))])


def _matrix(c: Confusion) -> Html:
    numbers = [
        [named(name), *("never met" if p is None else f"{n} of {m} ({p:.0f} %)" for n, m, p in zip(*cells, strict=True))]
        for name, *cells in zip(c.names, c.counts, c.met, c.percent, strict=True)
    ]
    return table("Rows are true classes, columns what queries were put into", ["true class", *map(named, c.names)], numbers)


def _calibration(content: Content, drawn: list[Picture]) -> Html:
    sure = [r.head for r in content.reliability]
    silent = [head for head in content.classes[0].accuracy if head not in sure]
    left_out = f"The scores of {', '.join(silent)} are similarities: they rank the classes and do not say how sure an answer is."
    if not sure:
        return paragraph(left_out, " So there is nothing to calibrate; heads such as logistic, tim or pt_map give probabilities.")
    rows = [[r.head, f"{100 * r.error:.2f}", sum(r.counts)] for r in content.reliability]
    told = (
        "Whether answers that a head is 80 % sure of are right 80 times of 100. Confidence is the head's own probability, the softmax of "
        f"its logits where it gives those. {content.reliability[0].rule.capitalize()}; {_focus(content)}."
    )
    errors = table("Expected calibration error in percent", ["head", "ECE, %", "answers"], rows)
    telling = [picture for picture, r in zip(drawn, content.reliability, strict=False) if r.error >= TELLING]
    honest = [picture for picture in drawn if picture not in telling]
    bars = paragraph(
        "Bars show how often answers of a confidence are right; the dashed diagonal is an honest head, and what is hatched is the gap to "
        "it. A large gap says that a temperature is off, not that the answers are wrong."
    )
    diagrams = [bars, small(telling)] if telling else []
    more = [folded(f"Diagrams of the heads that are honest ({len(honest)})", small(honest))] if honest else []
    bins = folded("All bins", *(_bins(r) for r in content.reliability))
    return joined([paragraph(told, f" {left_out}" if silent else ""), errors, *diagrams, *more, bins])


def _bins(r: Reliability) -> Html:
    rows = [
        [f"{low:.3f} to {high:.3f}", n, "" if c is None else f"{c:.3f}", "" if a is None else f"{a:.3f}"]
        for low, high, n, c, a in zip(r.edges[:-1], r.edges[1:], r.counts, r.confidence, r.accuracy, strict=True)
    ]
    return table(f"Calibration of {r.head}", ["confidence", "answers", "mean confidence", "share right"], rows)


def _episodes(content: Content, drawn: list[Picture]) -> Html:
    s = content.spread
    rows = [
        [f"{kind} {place}", joined(_with_commas(e.classes)), e.number, f"{e.accuracy:.1f}"]
        for kind, found in (("worst", s.worst), ("best", s.best))
        for place, e in enumerate(found, 1)
    ]
    told = f"Accuracy of single episodes, by {content.focus.head}: {_focus(content)}. Episodes are numbered from 0 in the order drawn."
    extremes = table("Extreme episodes", ["rank", "classes", "episode", "accuracy, %"], rows, texts=2)
    return joined([illustrated(drawn, paragraph(told)), extremes])


def _with_commas(names: Sequence[str]) -> list[object]:
    shown: list[object] = []
    for name in names[:10]:
        shown += [", ", named(name)] if shown else [named(name)]
    return [*shown, f" and {len(names) - 10} more"] if len(names) > 10 else shown


def _gallery(content: Content, samples: Mapping[int, Sample]) -> Html:
    told = (
        f"Some episodes as {content.focus.head} answered them: {_focus(content)}. A tick and a solid green frame mark a right answer; "
        "a cross and a dashed red frame a wrong one, with the class that the sample was put into, by its name or by the letter of its "
        "row. Pictures are as the encoder gets them."
    )
    return joined([paragraph(told), *(episode_html(episode, samples) for episode in content.gallery)])
