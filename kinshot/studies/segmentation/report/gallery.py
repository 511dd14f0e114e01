"""The gallery of the page: each episode's support, and its queries with truth, prediction and score side by side."""

from __future__ import annotations

from kinshot.segmentation.pictures import PALETTE
from kinshot.studies.report.markup import Html, fill, joined, named
from kinshot.studies.report.samples import Sample
from kinshot.studies.segmentation.report.content import ShownEpisode, ShownQuery
from kinshot.studies.segmentation.report.panels import EpisodePictures, QueryPictures


def episode_html(episode: ShownEpisode, pictures: EpisodePictures) -> Html:
    """One episode: a title, its support, and a row for each query."""
    title = f"Episode {episode.number}, {episode.why}: IoU {episode.iou:.1f} %"
    support = joined(
        _panel(sample, f"support image {number} with the mask of {name}", fill("$swatch$name", swatch=_swatch(way), name=named(name)))
        for way, (name, samples, numbers) in enumerate(zip(episode.classes, pictures.support, episode.support, strict=True))
        for sample, number in zip(samples, numbers, strict=True)
    )
    hidden = episode.queries_in_all - len(episode.queries)
    more = fill('<p class="label">$hidden more queries are not shown.</p>', hidden=hidden) if hidden else Html("")
    rows = joined(_query(episode, query, found) for query, found in zip(episode.queries, pictures.queries, strict=True))
    return fill(
        '<div class="way"><h3>$title</h3><div class="sets"><div><p class="label">support</p><ul class="panels">$support</ul></div>'
        "$rows</div>$more</div>",
        title=title, support=support, rows=rows, more=more,
    )  # fmt: skip


def _query(episode: ShownEpisode, query: ShownQuery, pictures: QueryPictures) -> Html:
    each = [(name, "none" if iou is None else f"{iou:.1f} %") for name, iou in zip(episode.classes, query.iou, strict=True)]
    told = ", ".join(f"{name}: {iou}" for name, iou in each)
    said = joined(fill(" $name $iou", name=named(name), iou=iou) for name, iou in each)
    wanted, n = episode.classes[query.target], query.sample
    panels = joined(
        _panel(*one)
        for one in (
            (pictures.image, f"query image {n}", "query"),
            (pictures.truth, f"truth of query {n}: where {wanted} is", "truth"),
            (pictures.prediction, f"prediction for query {n}, IoU of {told}", "prediction"),
            (pictures.score, f"score map of {wanted} for query {n}", "score"),
        )
    )
    return fill('<div><p class="label">query $n, IoU:$said</p><ul class="panels">$panels</ul></div>', n=n, said=said, panels=panels)


def _panel(sample: Sample, alt: str, below: object) -> Html:
    width, height = sample.picture.size if sample.picture else (0, 0)
    return fill(
        '<li><img src="$uri" alt="$alt" width="$width" height="$height"><span>$below</span></li>',
        uri=sample.data_uri(), alt=alt, width=width, height=height, below=below,
    )  # fmt: skip


def _swatch(way: int) -> Html:
    red, green, blue = PALETTE[way + 1].tolist()
    return fill('<i class="swatch" style="background: rgb($r, $g, $b)"></i>', r=red, g=green, b=blue)
