"""Parts of the page that are made of samples: grids of views, the map, strips of neighbours, clusters. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from kinshot.studies.report.gallery import image_html, sample_html
from kinshot.studies.report.markup import Html, fill, folded, joined, named, table
from kinshot.studies.report.samples import Sample
from kinshot.studies.run_report.content import Cluster, Content, EmbeddingMap, Gauge, MapPoint, Near, Strip
from kinshot.studies.run_report.figures import number
from kinshot.studies.run_report.views import Grid

Samples = Mapping[int, Sample]
_VERDICTS = {"normal": ("\u2713", "normal"), "look": ("!", "worth a look"), "wrong": ("\u2717", "wrong"), "unknown": ("", "not judged")}
_SIGN = 56


def called(content: Content, index: int) -> str:
    """A sample in words: its class and its number."""
    name = content.named(index)
    return f"{name} (sample {index})" if name else f"sample {index}"


def gauges_html(gauges: list[Gauge]) -> Html:
    """A card for each gauge, those first that are not normal."""
    order = {"wrong": 0, "look": 1, "normal": 2, "unknown": 3}
    cards = (_gauge(gauge) for gauge in sorted(gauges, key=lambda gauge: order[gauge.verdict]))
    return fill('<ul class="gauges">$cards</ul>', cards=joined(cards))


def _gauge(gauge: Gauge) -> Html:
    sign, said = _VERDICTS[gauge.verdict]
    before = "" if gauge.before is None else fill("<small>$value \u2192 </small>", value=number(gauge.before))
    value = "\u2013" if gauge.value is None else number(gauge.value)
    advice = fill("<p>$text.</p>", text=_sentence(gauge.advice)) if gauge.advice else ""
    return fill(
        '<li class="$kind"><h3>$name</h3><p class="value">$before$value</p><p class="verdict"><span aria-hidden="true">$sign</span> $said'
        '</p>$advice<p class="said">$means. Normal: $normal.</p></li>',
        kind=gauge.verdict, name=gauge.name, before=before, value=value, sign=sign, said=said, advice=advice, means=_sentence(gauge.means),
        normal=gauge.normal,
    )  # fmt: skip


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def views_html(content: Content, grid: Grid, samples: Samples) -> Html:
    """A row for each sample: as it is, then its views."""
    shown = grid.shown
    heads = [f"epoch {epoch}, view {view + 1}" for epoch in shown.epochs for view in range(shown.views)]
    rows = [_views_row(content, index, views, heads, samples) for index, views in zip(shown.indices, grid.pictures, strict=True)]
    titles = joined(fill('<th scope="col">$title</th>', title=title) for title in ("sample", "as it is", *heads))
    return fill(
        '<div class="scroll wide" role="region" aria-label="$caption" tabindex="0"><table class="grid"><caption><span>$caption</span>'
        "</caption><thead><tr>$titles</tr></thead><tbody>$rows</tbody></table></div>",
        caption="Samples and their views", titles=titles, rows=joined(rows),
    )  # fmt: skip


def _views_row(content: Content, index: int, views: list[Sample], heads: list[str], samples: Samples) -> Html:
    name = called(content, index)
    pictures = [(samples[index], f"{name}, as it is"), *((view, f"{name}, {head}") for view, head in zip(views, heads, strict=True))]
    cells = joined(fill("<td>$image</td>", image=image_html(sample, alt, _SIGN)) for sample, alt in pictures)
    return fill('<tr><th scope="row">$name</th>$cells</tr>', name=named(name), cells=cells)


def map_html(content: Content, found: EmbeddingMap, thumbnails: Samples) -> Html:
    """Points that show their sample where they are pointed at or chosen; arrow keys go from point to point."""
    colors = {label: place for place, label in enumerate(found.named)}
    several = "tsne" in found.kept
    kinds = [("pca", "PCA", f"two directions of the most variance, {100 * found.explained:.0f} % of it")]
    kinds += [("tsne", "t-SNE", "neighbourhoods; distances between groups mean nothing")] if several else []
    choice = joined(
        fill(
            '<label><input type="radio" name="kind" class="$kind"$on> $title <small>$said</small></label>',
            kind=kind, on=Html(" checked") if kind == kinds[-1][0] else "", title=title, said=said,
        )
        for kind, title, said in kinds
    )  # fmt: skip
    points = joined(_point(content, point, colors, thumbnails) for point in found.points)
    legend = joined(
        fill('<li><span class="dot k$place"></span>$name</li>', place=place, name=named(content.labels[label]))
        for label, place in colors.items()
    )
    rest = found.classes - len(found.named)
    others = fill('<li><span class="dot"></span>$rest other class$es</li>', rest=rest, es="es" * (rest > 1)) if rest > 0 else ""
    return fill(
        '<div class="whole-map"><fieldset class="choice" aria-label="Kind of map">$choice</fieldset>'
        '<div class="map"><p class="hint">Point at a dot, tap it, or go from one to the next with the arrow keys, to see its sample.</p>'
        '<div class="points" role="radiogroup" aria-label="$label">$points</div></div><ul class="legend">$legend$others</ul></div>',
        choice=choice, label=f"Map of {len(found.points)} samples", points=points, legend=legend, others=others,
    )  # fmt: skip


def _point(content: Content, point: MapPoint, colors: Mapping[int, int], thumbnails: Samples) -> Html:
    name, sample = called(content, point.index), thumbnails[point.index]
    kind = f"k{colors[point.label]}" if point.label in colors else ""
    x, y = point.tsne or point.pca
    text = "" if sample.picture is not None or sample.text == f"sample {point.index}" else sample.text
    return fill(
        '<label class="$kind" style="--px:$px;--py:$py;--tx:$x;--ty:$y"><input type="radio" name="point" aria-label="$name">'
        '<span class="dot"></span><span class="pop">$image$text $shown</span></label>',
        kind=kind, px=point.pca[0], py=point.pca[1], x=x, y=y, name=name, image=image_html(sample, name, 144), text=text,
        shown=named(name),
    )  # fmt: skip


def map_table(content: Content, found: EmbeddingMap) -> Html:
    """The points of a map as a table."""
    rows = [
        [called(content, p.index), f"{p.pca[0]:.3f}", f"{p.pca[1]:.3f}", *([f"{p.tsne[0]:.3f}", f"{p.tsne[1]:.3f}"] if p.tsne else [])]
        for p in found.points
    ]
    heads = ["sample", "PCA, right", "PCA, down", *(["t-SNE, right", "t-SNE, down"] if "tsne" in found.kept else [])]
    return folded(f"All {len(rows)} points as a table", table("Places on the maps, from 0 to 1", heads, rows))


def strips_html(content: Content, strips: list[Strip], samples: Samples) -> Html:
    """A query and its nearest, kin framed where classes are known."""
    return joined(_strip(content, strip, samples) for strip in strips)


def _strip(content: Content, strip: Strip, samples: Samples) -> Html:
    labelled = any(near.kin is not None for near in strip.nearest)
    said = f"{sum(bool(near.kin) for near in strip.nearest)} of the {len(strip.nearest)} nearest are of its class" if labelled else ""
    nearest = joined(_near(content, near, samples[near.index]) for near in strip.nearest)
    return fill(
        '<div class="way"><h4>$name<small>$said</small></h4><div class="sets"><div><p class="label">query</p>'
        '<ul class="samples">$query</ul></div><div><p class="label">nearest first, with cosine similarity</p>'
        '<ul class="samples">$nearest</ul></div></div></div>',
        name=named(called(content, strip.index)), said=said, nearest=nearest,
        query=sample_html(samples[strip.index], f"query, {called(content, strip.index)}", "", Html("")),
    )  # fmt: skip


def _near(content: Content, near: Near, sample: Sample) -> Html:
    name = called(content, near.index)
    if near.kin is None:
        return sample_html(sample, f"{name}, similarity {near.similarity:.2f}", "", fill("$value", value=f"{near.similarity:.2f}"))
    kind, sign = ("right", "\u2713") if near.kin else ("wrong", "\u2717")
    said = "" if near.kin else named(content.named(near.index))
    mark = fill(
        '<span class="mark"><b aria-hidden="true">$sign</b> $value <span class="who">$said</span></span>',
        sign=sign, value=f"{near.similarity:.2f}", said=said,
    )  # fmt: skip
    alt = f"{name}, similarity {near.similarity:.2f}, {'of its class' if near.kin else 'of another class'}"
    return sample_html(sample, alt, kind, mark)


def clusters_html(content: Content, clusters: list[Cluster], samples: Samples) -> Html:
    """A card for each cluster, with the samples nearest to its centroid."""
    return fill('<ul class="clusters">$cards</ul>', cards=joined(_cluster(content, cluster, samples) for cluster in clusters))


def _cluster(content: Content, cluster: Cluster, samples: Samples) -> Html:
    said = f"{cluster.size} sample{'s' * (cluster.size != 1)}"
    most = ""
    if cluster.label is not None and cluster.share is not None:
        most = fill(", $share % $name", share=f"{100 * cluster.share:.0f}", name=named(content.labels[cluster.label]))
    shown = joined(sample_html(samples[index], called(content, index), "", Html("")) for index in cluster.nearest)
    return fill(
        '<li><h3>Cluster $number <small>$said$most</small></h3><ul class="samples">$shown</ul></li>',
        number=cluster.number, said=said, most=most, shown=shown,
    )  # fmt: skip
