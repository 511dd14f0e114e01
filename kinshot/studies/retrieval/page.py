"""The page of `fewshot retrieve --report`: recall against k, all figures, and queries with what they found, right and wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kinshot.studies.report.axes import curve, percent_limits, shot_axis
from kinshot.studies.report.content import KIND
from kinshot.studies.report.folder import NUMBERS, PAGE, publish
from kinshot.studies.report.frame import facts, framed, warning
from kinshot.studies.report.gallery import sample_html
from kinshot.studies.report.markup import Html, fill, folded, illustrated, joined, named, paragraph, table
from kinshot.studies.report.picture import Picture, drawn
from kinshot.studies.report.samples import Sample, load_samples
from kinshot.studies.report.theme import MARKERS, Theme, canvas, dress, legend, short
from kinshot.studies.report.words import named_runs, printable
from kinshot.studies.results import WARNING
from kinshot.studies.retrieval.shown import Found, Shown
from kinshot.studies.retrieval.study import Bench

SCHEMA_VERSION = 1
CURVE = "recall"
_RECALL = re.compile(r"recall_at_(\d+), %")


@dataclass(frozen=True)
class Point:
    """Recall in percent at k, which stands where figures of episodes have their shots."""

    shots: int
    mean: float
    low: float
    high: float


def write_page(result: Mapping[str, Any], shown: Sequence[Shown], bench: Bench, out: Path, overwrite: bool) -> list[Path]:
    """Write `report.html`, `report.json` and the figure to a folder; returns their paths, the page first.

    Raises ConfigError for a folder that holds something else, DataError for a disk that cannot take the files.
    """
    sides = bench.of(bench.runs[0])
    of_queries = load_samples(sides.queries.source, [one.index for one in shown])
    of_gallery = load_samples(sides.gallery.source, [found.index for one in shown for found in one.nearest])
    figures = [recall_figure(result)] if points(result) else []
    title = printable(f"{named_runs([run.path for run in bench.runs])} on {result['data']['name']}")
    names = [PAGE, NUMBERS, *(f"{picture.name}.png" for picture in figures)]
    document = {"kind": KIND, "schema_version": SCHEMA_VERSION, **result, "shown": [one.as_dict() for one in shown], "files": names}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    html = page(title, result, figures, queries_html(shown, of_queries, of_gallery))
    files = {PAGE: html.encode("utf-8"), NUMBERS: (text + "\n").encode("utf-8")}
    publish({**files, **{f"{picture.name}.png": picture.light for picture in figures}}, out, overwrite)
    return [out / name for name in names]


def page(title: str, result: Mapping[str, Any], figures: Sequence[Picture], queries: Html) -> str:
    """The whole page as one HTML file that needs nothing else."""
    warned = "; ".join(text for key, text in result["protocol"].items() if key.startswith(WARNING))
    rows = [row for row in result["rows"] if "part_of" not in row]
    first = [row for row in rows if row["label"] == rows[0]["label"]][:4]
    tiles = joined(
        fill("<li><b>$mean<small> ± $half</small></b><span>$metric</span></li>", mean=_number(row, "mean"), half=_number(row, "ci95"),
             metric=row["metric"])
        for row in first
    )  # fmt: skip
    note = fill('<p class="note">$label, ± half of the 95 % interval.</p>', label=named(printable(rows[0]["label"])))
    sections = {
        "recall": ("Recall against k", illustrated(figures, paragraph(_told(result)))),
        "figures": ("All figures", joined([_figures(rows), _paired(result["paired"])])),
        "queries": ("Queries and what they found", queries),
        "about": ("How it was measured", facts(_about(result))),
    }
    if not figures:
        del sections["recall"]
    return framed(
        "kinshot retrieval report", title, warning(printable(warned)), joined([fill('<ul class="tiles">$t</ul>', t=tiles), note]), sections
    )


def points(result: Mapping[str, Any]) -> dict[str, list[Point]]:
    """Recall of every row that is no part of another, at two k or more."""
    found: dict[str, list[Point]] = {}
    for row in result["rows"]:
        if (at := _RECALL.fullmatch(row["metric"])) and "part_of" not in row:
            found.setdefault(row["label"], []).append(Point(int(at[1]), row["mean"], row["low"], row["high"]))
    return {label: sorted(of, key=lambda point: point.shots) for label, of in found.items() if len(of) > 1}


def recall_figure(result: Mapping[str, Any]) -> Picture:
    """Recall against k of every row, references gray."""
    lines = points(result)
    ends = "; ".join(f"{label} {of[0].mean:.1f} % at {of[0].shots}, {of[-1].mean:.1f} % at {of[-1].shots}" for label, of in lines.items())

    def make(theme: Theme) -> Figure:
        figure = canvas(theme, 6.4, 4.2)
        axes = figure.subplots()
        handles: list[object] = []
        for number, (label, of) in enumerate(lines.items()):
            color = theme.faint if label in result["references"] else theme.series[number % len(theme.series)]
            handles.append(curve(axes, of, color, MARKERS[number % len(MARKERS)]))
        every = [point for of in lines.values() for point in of]
        shot_axis(axes, sorted({point.shots for point in every}))
        axes.set_xlabel("k nearest")
        axes.set_ylabel("queries with kin among them, %")
        percent_limits(axes, [point.low for point in every], [point.high for point in every])
        dress(axes, theme)
        legend(axes, handles, [short(label, 40) for label in lines], theme, loc="best")
        return figure

    return drawn(CURVE, "recall", "Recall against k", printable(f"Recall against k: {ends}."), make)


def queries_html(shown: Sequence[Shown], queries: Mapping[int, Sample], gallery: Mapping[int, Sample]) -> Html:
    """A row for each query: itself, and the nearest samples of the gallery, marked as right or wrong."""
    told = "Queries of the first run, evenly spaced from the one that finds most of its kin (MAP@R) to the one that finds least."
    return joined([paragraph(told), *(_query(one, queries[one.index], gallery) for one in shown)])


def _query(one: Shown, sample: Sample, gallery: Mapping[int, Sample]) -> Html:
    right = sum(found.kin for found in one.nearest)
    nearest = joined(_found(found, gallery[found.index]) for found in one.nearest)
    return fill(
        '<div class="way"><h4>$name<small>$right of the $count nearest right, of $kin in the gallery; MAP@R $percent %</small></h4>'
        '<div class="sets"><div><p class="label">query</p><ul class="samples">$query</ul></div>'
        '<div><p class="label">nearest first</p><ul class="samples">$nearest</ul></div></div></div>',
        name=named(one.name), right=right, count=len(one.nearest), kin=one.kin, percent=f"{one.percent:.1f}", nearest=nearest,
        query=sample_html(sample, f"query sample {one.index}, {one.name}", "", Html("")),
    )  # fmt: skip


def _found(found: Found, sample: Sample) -> Html:
    kind, symbol = ("right", "\u2713") if found.kin else ("wrong", "\u2717")
    said = fill("right") if found.kin else named(found.name)
    mark = fill('<span class="mark"><b aria-hidden="true">$symbol</b> $said</span>', symbol=symbol, said=said)
    return sample_html(sample, f"sample {found.index} of the gallery, {found.name}, {kind}", kind, mark)


def _figures(rows: Sequence[Mapping[str, Any]]) -> Html:
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    cells = {(row["label"], row["metric"]): f"{_number(row, 'mean')} ± {_number(row, 'ci95')}" for row in rows}
    body = [
        [named(printable(label)), *(cells.get((label, metric), "") for metric in metrics)]
        for label in dict.fromkeys(r["label"] for r in rows)
    ]
    return table("Means over queries, ± half of the 95 % interval", ["", *metrics], body)


def _paired(paired: Sequence[Mapping[str, Any]]) -> Html:
    if not paired:
        return Html("")
    rows = [
        [named(printable(f"{one['label']} minus {one['against']}")), one["metric"], f"{_number(one, 'mean', '+')} ± {_number(one, 'ci95')}",
         f"{one['p_holm']:.2g}"]
        for one in paired
    ]  # fmt: skip
    found = table("Differences on the same queries", ["", "metric", "difference", "p (Holm)"], rows, texts=2)
    return folded(f"All {len(rows)} differences", found)


def _about(result: Mapping[str, Any]) -> dict[str, str | list[str]]:
    told = {
        key.capitalize(): printable(str(value))
        for key, value in {**result["data"], **result["protocol"]}.items()
        if value not in ("", None)
    }
    return {
        "Checkpoints": [printable(path) for path in result["checkpoints"]],
        "Trained by": [printable(line) for line in result["pretrained_by"]],
        **told,
        "Versions": ", ".join(f"{key} {value}" for key, value in result["versions"].items()),
        "Command": printable(result["command"]),
    }


def _told(result: Mapping[str, Any]) -> str:
    asking = result["data"]["queries"] - result["data"]["queries without kin, left out"]
    told = f"Share of the {asking} queries with kin of which any is among the k nearest; bands are 95 % intervals."
    return f"{told} Gray lines are references that any training must beat." if result["references"] else told


def _number(row: Mapping[str, Any], key: str, sign: str = "") -> str:
    return format(row[key], f"{sign}.{2 if '%' in row['metric'] else 4}f")
