"""The page of a run: sections in their order, each a pure function of the content and its pictures."""

from __future__ import annotations

from collections.abc import Sequence

from kinshot.studies.report.frame import facts, framed, warning
from kinshot.studies.report.markup import Html, fill, folded, illustrated, joined, paragraph, small, table
from kinshot.studies.report.picture import Picture
from kinshot.studies.run_report.content import KIND, Content, Curve, Retrieval
from kinshot.studies.run_report.curves import GROUPS, by_tag, group_of
from kinshot.studies.run_report.figures import number
from kinshot.studies.run_report.parts import (
    Samples,
    clusters_html,
    gauges_html,
    map_html,
    map_table,
    strips_html,
    views_html,
)
from kinshot.studies.run_report.retrieval import BEFORE, NOW
from kinshot.studies.run_report.style import RUN_STYLE
from kinshot.studies.run_report.views import Grid

TITLES = {
    "gauges": "Gauges",
    "curves": "Curves",
    "views": "Augmented views",
    "map": "Map of the embedding",
    "neighbors": "Nearest neighbors",
    "clusters": "Clusters",
    "retrieval": "Retrieval",
    "about": "About this run",
}
FOOTER = "The numbers behind every picture are in its table; ssl report --json prints them all."
_RECORDS = 12
"""Records that a table shows of every curve."""


def page(content: Content, figures: Sequence[Picture], grid: Grid | None, samples: Samples, thumbnails: Samples) -> str:
    """The whole page as one HTML file that needs nothing else.

    Args:
        content: what it says.
        figures: see `figures_of`.
        grid: pictures of views; None for none.
        samples: the samples that are shown, by number.
        thumbnails: those of the map.
    """
    bodies = {
        "gauges": _gauges(content),
        "curves": _curves(content, figures),
        "views": _views(content, grid, samples),
        "map": _map(content, thumbnails),
        "neighbors": _neighbors(content, samples),
        "clusters": _clusters(content, figures, samples),
        "retrieval": _retrieval(content, figures),
        "about": facts({**content.about, "Command": content.command}),
    }
    sections = {key: (TITLES[key], _absent(content, key) if body is None else body) for key, body in bodies.items()}
    warned = joined(warning(text) for text in content.warnings)
    return framed(KIND, content.title, warned, _tiles(content), sections, footer=FOOTER, style=RUN_STYLE)


def _absent(content: Content, key: str) -> Html:
    text = content.absent.get(key, "There is nothing to show.")
    return paragraph(text[:1].upper() + text[1:].rstrip(".") + ".")


def _tiles(content: Content) -> Html:
    found = [("training", content.reached.partition(" of a run")[0], "that was not finished" * ("NOT" in content.reached))]
    loss = by_tag(content.curves).get("train/loss")
    if loss is not None and loss.finite:
        found.append(("loss", number(loss.finite[-1]), f"from {number(loss.finite[0])}"))
    if content.retrieval is not None:
        first = {line: points[0] for line, points in content.retrieval.lines["recall"].items()}
        was, chance = first[BEFORE].mean, content.retrieval.chance["recall"][0]
        found.append(("nearest is kin", f"{first[NOW].mean:.1f} %", f"before training {was:.1f} %, chance {chance:.1f} %"))
    again = [gauge for gauge in content.gauges if gauge.name.startswith("views/retrieval/") and gauge.value is not None]
    if again and content.retrieval is None:
        before = again[0].before
        told = "" if before is None else f"before training {100 * before:.1f} %"
        found.append(("views find each other", f"{100 * (again[0].value or 0):.1f} %", told))
    judged = [gauge.verdict for gauge in content.gauges if gauge.verdict != "unknown"]
    if judged:
        bad = [f"{judged.count(kind)} {said}" for kind, said in (("wrong", "wrong"), ("look", "worth a look")) if kind in judged]
        found.append(("gauges", f"{judged.count('normal')} of {len(judged)} normal", ", ".join(bad)))
    tiles = joined(
        fill("<li><b>$value</b><span>$name</span>$more</li>", name=name, value=value,
             more=fill('<span class="against">$text</span>', text=more) if more else "")
        for name, value, more in found
    )  # fmt: skip
    return fill('<ul class="tiles">$tiles</ul>', tiles=tiles)


def _gauges(content: Content) -> Html | None:
    if not content.gauges:
        return None
    told = (
        "What tells that training goes wrong before any label does. Where there are two numbers, the first is that before training (of "
        "curves, at their beginning or best). Ranges are rules of thumb: compare with other runs on the same data."
    )
    if content.map is not None:
        told += " Collapse gauges and those of views are measured on this checkpoint, with two fresh views of the same samples."
    rows = [[g.name, number(g.before) if g.before is not None else "", number(g.value) if g.value is not None else "", g.verdict]
            for g in content.gauges]  # fmt: skip
    shown = table("Gauges", ["gauge", "before", "now", "verdict"], rows)
    return joined([paragraph(told), gauges_html(content.gauges), folded("Gauges as a table", shown)])


def _curves(content: Content, figures: Sequence[Picture]) -> Html | None:
    if not content.curves:
        return None
    last = max(curve.steps[-1] for curve in content.curves)
    told = f"What the run recorded, up to step {last}; green bands are where a gauge normally is."
    if content.checkpoint_step < last:
        told += f" A dotted line marks step {content.checkpoint_step}, whose weights this page looks at."
    parts: list[object] = [paragraph(told)]
    hidden = 0
    for group, title in GROUPS.items():
        curves = [curve for curve in content.curves if group_of(curve.tag) == group]
        drawn = [picture for picture in figures if picture.section == group]
        hidden += len([curve for curve in curves if len(curve.finite) > 1]) - len(drawn)
        if curves:
            parts.append(fill("<h3>$title</h3>$drawn", title=title, drawn=small(drawn) if drawn else ""))
            parts.append(folded(f"{title} as a table", _records(curves)))
    if hidden:
        parts.append(paragraph(f"{hidden} further curves are in the tables alone."))
    return joined(parts)


def _records(curves: Sequence[Curve]) -> Html:
    """Every curve in a row: its ends, its range, and some of its records."""
    rows = [
        [curve.tag, len(curve.values), number(curve.values[0]), *((number(min(curve.finite)), number(max(curve.finite))) if curve.finite
         else ("", "")), number(curve.values[-1]), _some(curve)]
        for curve in curves
    ]  # fmt: skip
    return table("Records", ["scalar", "records", "first", "lowest", "highest", "last", f"up to {_RECORDS} of them, step: value"], rows)


def _some(curve: Curve) -> str:
    count = len(curve.steps)
    shown = sorted({round(i * (count - 1) / max(1, min(_RECORDS, count) - 1)) for i in range(min(_RECORDS, count))})
    return "; ".join(f"{curve.steps[i]}: {number(curve.values[i])}" for i in shown)


def _views(content: Content, grid: Grid | None, samples: Samples) -> Html | None:
    if grid is None:
        return None
    epochs = " and ".join(map(str, grid.shown.epochs))
    whose = "The very views that training sees" if grid.shown.own else "The views that this training would see"
    told = (
        f"{whose} of these samples in epoch {epochs}: they follow from the run's seed, the epoch and the sample's number. "
        "A person must still see what each shows: views that nobody can tell are too strong, views that are all alike too weak."
    )
    return joined([paragraph(told), views_html(content, grid, samples)])


def _map(content: Content, thumbnails: Samples) -> Html | None:
    found = content.map
    if found is None:
        return None
    kept = ", ".join(f"{100 * share:.0f} % by {'t-SNE' if kind == 'tsne' else 'PCA'}" for kind, share in found.kept.items())
    told = (
        f"{len(found.points)} of the {found.of} samples that were embedded, each a point. No map in two dimensions shows everything: of "
        f"the {found.k} nearest neighbors of a sample in the embedding, {kept} are also among its {found.k} nearest on the map (chance "
        f"{100 * found.chance:.0f} %)."
    )
    return joined([paragraph(told), map_html(content, found, thumbnails), map_table(content, found)])


def _neighbors(content: Content, samples: Samples) -> Html | None:
    found = content.strips
    if found is None:
        return None
    many = len(found.strips)
    labelled = bool(content.label_of)
    order = (
        f"{many} queries, from one that finds most of its class among its nearest to one that finds least. A tick and a solid green frame "
        "mark kin, samples of the query's class; a cross and a dashed red frame others."
        if labelled
        else f"{many} queries, evenly through the data."
    )
    copies = f" {found.copied} of them have an exact copy, which is never shown to it." if found.copied else ""
    told = f"{order} The nearest are those of the {found.searched} samples that were embedded, but for the query itself.{copies}"
    return joined([paragraph(told), strips_html(content, found.strips, samples)])


def _clusters(content: Content, figures: Sequence[Picture], samples: Samples) -> Html | None:
    found = content.clusters
    if found is None:
        return None
    filled = len([size for size in found.sizes if size])
    count = len(found.sizes)
    what = {
        "pseudo-classes": f"The {count} pseudo-classes that the method keeps of all {found.rows} samples",
        "prototypes": f"The {count} prototypes that the method has learned, {filled} of them nearest to any of {found.rows} samples",
        "k-means": f"The run keeps no clusters of these samples: k-means made these {count} of the features of {found.rows}",
    }[found.kind]
    shown = "all of them" if len(found.shown) == filled else f"{len(found.shown)} of them, evenly from the largest to the smallest"
    told = f"{what}; shown are {shown}, each by the samples nearest to its centroid."
    if found.agreement is not None:
        told += f" Adjusted mutual information with the classes is {found.agreement:.2f} (0 is chance, 1 the same division)."
    drawn = [picture for picture in figures if picture.section == "clusters"]
    rows = [[f"cluster {c.number}", c.size, f"{100 * c.share:.0f}" if c.share is not None else ""] for c in found.shown]
    sizes = folded("Sizes as a table", table("Clusters that are shown", ["cluster", "samples", "most frequent class, %"], rows))
    odd = ""
    if len(found.sizes) >= 8 and found.sizes[0] > found.rows / 4:
        odd = paragraph(
            f"One cluster holds {found.sizes[0]} of the {found.rows} samples: look at what it shows; where it means nothing, train longer "
            "before clusters are used (method.warmup_epochs), or ask for fewer clusters."
        )
    return joined([illustrated(drawn, joined([paragraph(told), odd]), sizes), clusters_html(content, found.shown, samples)])


def _retrieval(content: Content, figures: Sequence[Picture]) -> Html | None:
    found = content.retrieval
    if found is None:
        return None
    left = f"; {found.left_out} samples without kin were not asked" if found.left_out else ""
    told = (
        f"Each of {found.queries} samples looks for others of its class, its kin, among {found.among}, itself and copies left out{left}. "
        "Recall at k: how many find any among the k nearest; precision at k: which share of these are kin. Bands are 95 % intervals over "
        "queries; chance is what k samples drawn at random would give."
    )
    drawn = [picture for picture in figures if picture.section == "retrieval"]
    return joined([illustrated(drawn, paragraph(told)), _numbers(found)])


def _numbers(found: Retrieval) -> Html:
    rows = []
    for metric, lines in found.lines.items():
        for place, k in enumerate(point.shots for point in lines[NOW]):
            cells = [f"{points[place].mean:.1f} ± {(points[place].high - points[place].low) / 2:.1f}" for points in lines.values()]
            rows.append([f"{metric} at {k}", *cells, f"{found.chance[metric][place]:.1f}"])
    return table("Retrieval in percent, ± half of the 95 % interval", ["", NOW, BEFORE, "chance"], rows)
