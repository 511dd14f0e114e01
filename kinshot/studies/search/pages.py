"""The pages of `ssl search`, `ssl duplicates` and `ssl outliers`: pure functions of what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import PurePath
from typing import Any

from matplotlib.figure import Figure

from kinshot.index.opened import Duplicates, Hit, Index, Outlier
from kinshot.studies.report.frame import facts, framed
from kinshot.studies.report.markup import Html, fill, folded, illustrated, joined, named, paragraph, table
from kinshot.studies.report.picture import drawn
from kinshot.studies.report.theme import Theme, canvas, dress
from kinshot.studies.search.tiles import figures, plain, tile, tiles

SHOWN, OF_CLUSTER = 100, 24
"""Clusters on a page at most, and files of each."""


def search_page(index: Index, asked: Sequence[tuple[str, bytes, list[Hit]]], about: Mapping[str, str], footer: str) -> str:
    """Queries (name, thumbnail) and what each has found."""
    best = [hits[0].cosine for _, _, hits in asked if hits]
    numbers = [(f"{len(asked)}", "query" if len(asked) == 1 else "queries"), (f"{len(index.state.table):,}", "files that were searched")]
    numbers += [(f"{sum(best) / len(best):.3f}", "cosine to the nearest" + (", on average" if len(best) > 1 else ""))] if best else []
    blocks = joined(_query(index, *one) for one in asked)
    rows = [
        [named(plain(name)), place, named(plain(hit.path)), f"{hit.cosine:.4f}", len(hit.copies)]
        for name, _, hits in asked
        for place, hit in enumerate(hits, 1)
    ]
    listed = folded("As a table", table("What every query found", ["query", "rank", "image", "cosine", "copies"], rows))
    told = paragraph("Nearest first. The number is the cosine between the features of both images; 1 is the same content.")
    sections = {"found": ("What was found", joined([told, blocks, listed])), "about": ("How it was found", facts(about))}
    return framed("kinshot search", _title(index), Html(""), figures(numbers), sections, footer=footer)


def duplicates_page(index: Index, found: Duplicates, about: Mapping[str, str], footer: str) -> str:
    """Clusters of copies."""
    files = sum(len(one.paths) for one in found.clusters)
    numbers = [
        (f"{len(found.clusters):,}", f"clusters of {files:,} files, of {len(index.state.table):,} in all"),
        (f"{found.copies:,}", "files whose content another one has"),
        (f"{found.pairs:,}", f"pairs of contents with a cosine of {found.threshold:g} and above"),
    ]
    shown = found.clusters[:SHOWN]
    more = f" The first {SHOWN} of {len(found.clusters):,}; report.json has all." if len(found.clusters) > SHOWN else ""
    told = paragraph(
        "Files with the same content are equal, byte for byte. Others are linked by cosines from the threshold on, directly or through "
        f"others of their cluster. Nothing was removed.{more}"
    )
    body = joined(_cluster(index, number, one) for number, one in enumerate(shown, 1)) if shown else paragraph("No copies were found.")
    sections = {"clusters": ("Copies", joined([told, body])), "about": ("How it was found", facts(about))}
    if found.nearest:
        names = ("half of all images", "nine in ten", "99 in 100")
        rows = [[name, f"{value:.4f}"] for name, value in zip(names, found.nearest, strict=True)]
        listed = table("Cosine to the nearest other image, at most", ["", "cosine"], rows)
        sections["nearest"] = ("How near others are", joined([paragraph("A threshold that many images reach tells no copies."), listed]))
    return framed("kinshot duplicates", _title(index), Html(""), figures(numbers), sections, footer=footer)


def outliers_page(index: Index, found: Sequence[Outlier], top: int, k: int, about: Mapping[str, str], footer: str) -> str:
    """The strangest images, and all scores."""
    scores = [one.score for one in found]
    middle = sorted(scores)[len(scores) // 2]
    numbers = [(f"{scores[0]:.3f}", "the highest score"), (f"{middle:.3f}", "the middle one"), (f"{len(scores):,}", "different images")]
    most = max(scores[0], 1e-9)
    body = tiles(
        tile(index.thumbnail(one.row), one.path, f"{one.score:.3f}", bar=one.score / most, note=_copies(one.copies)) for one in found[:top]
    )
    alt = f"Histogram of {len(scores)} scores from {scores[-1]:.3f} to {scores[0]:.3f}, the middle one {middle:.3f}."
    picture = drawn("scores", "scores", "All scores", alt, partial(_histogram, scores, min(top, len(scores))))
    rows = [[place, named(plain(one.path)), f"{one.score:.4f}"] for place, one in enumerate(found[:SHOWN], 1)]
    listed = folded(f"The first {len(rows)} as a table", table("The strangest images", ["rank", "image", "score"], rows, texts=2))
    told = paragraph(f"A score is 1 minus the cosine to the k-th nearest other image, k = {k}: what is like nothing else comes first.")
    sections = {
        "strangest": ("The strangest images", joined([told, body, listed])),
        "scores": ("All scores", illustrated([picture], paragraph("Coloured: the images above."))),
        "about": ("How it was found", facts(about)),
    }
    return framed("kinshot outliers", _title(index), Html(""), figures(numbers), sections, footer=footer)


def _query(index: Index, name: str, picture: bytes, hits: Sequence[Hit]) -> Html:
    found = [tile(index.thumbnail(hit.row), hit.path, f"{hit.cosine:.3f}", bar=hit.cosine, note=_copies(hit.copies)) for hit in hits]
    return fill('<div class="way">$found</div>', found=tiles([tile(picture, PurePath(name).name, "query", bar=1, asked=True), *found]))


def _cluster(index: Index, number: int, one: Any) -> Html:
    kind = "one content" if one.exact else f"{len(set(one.rows))} contents, cosines from {one.lowest:.4f}"
    some = list(zip(one.paths, one.rows, one.sizes, strict=True))[:OF_CLUSTER]
    first = {row: path for path, row, _ in reversed(some)}
    items = [tile(index.thumbnail(row), path, "" if first[row] == path else "same content", note=_size(size)) for path, row, size in some]
    more = f", the first {OF_CLUSTER} shown" if len(one.paths) > OF_CLUSTER else ""
    return fill(
        '<div class="way"><h4><span class="badge">$number</span>$count files<small>$kind$more</small></h4>$items</div>',
        number=number, count=len(one.paths), kind=kind, more=more, items=tiles(items),
    )  # fmt: skip


def _histogram(scores: Sequence[float], top: int, theme: Theme) -> Figure:
    figure = canvas(theme, 6.4, 3.2)
    axes = figure.subplots()
    low, high = scores[-1], scores[0] if scores[0] > scores[-1] else scores[-1] + 1e-6
    axes.hist([scores[:top], scores[top:]], bins=40, range=(low, high), stacked=True, color=[theme.series[1], theme.series[0]])
    axes.set_xlabel("score")
    axes.set_ylabel("images")
    dress(axes, theme)
    return figure


def _title(index: Index) -> str:
    return plain(index.folder.name or str(index.folder))


def _copies(paths: Sequence[str]) -> str:
    return f"and {len(paths)} more with this content" if paths else ""


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
