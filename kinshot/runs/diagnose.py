"""What a graph predicts before any training: which labels it can teach, and whether it leaks between splits. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets.table_files import delimited_rows
from kinshot.kin.graph import RelationGraph, describe, read_graph

if TYPE_CHECKING:
    from kinshot.datasets.base import Source


def diagnose(graph: RelationGraph, source: Source) -> dict[str, Any]:
    """`describe` with every label that a source has; an attribute called `split` is taken as one."""
    labels = labels_of(source)
    splits = {name: labels.pop(name) for name in ("split",) if name in labels}
    return describe(graph, labels, splits)


def labels_of(source: Source) -> dict[str, np.ndarray]:
    """Every label of a source by name: its classes as `class` unless an attribute says the same, then its other categories."""
    labels = source.categories
    if source.labels is not None and not any(np.array_equal(source.labels, known) for known in labels.values()):
        labels = {"class": np.asarray(source.labels), **labels}
    return labels


def inspect_graph(path: Path, labels: Path | None = None, split: str = "", directed: bool = False) -> dict[str, Any]:
    """Diagnostics of a graph file, with the columns of a .csv or .tsv file as labels (one row to a node, in node order).

    Raises DataError naming file, line and column.
    """
    columns = read_columns(labels) if labels else {}
    count = len(next(iter(columns.values()))) if columns else None
    graph = read_graph(path, n=count, directed=directed)
    if count is not None and count != graph.n:
        raise DataError(f"{labels} has {count} rows, but {path} has {graph.n} nodes: one row to a node, in node order")
    if split and split not in columns:
        raise DataError(f"{labels or 'no label file'} has no column {split!r}: name one of {', '.join(columns) or 'none'}")
    coded = {name: encode(values) for name, values in columns.items()}
    splits = {split: coded.pop(split)} if split else {}
    return {"file": str(path), **describe(graph, coded, splits)}


def read_columns(path: Path) -> dict[str, list[str]]:
    """The columns of a .csv or .tsv file with a header, as text. Raises DataError naming the line."""
    found = delimited_rows(path)
    if len(found) < 2:
        raise DataError(f"{path} holds no rows: give a header and one row to a node")
    header = found[0][1]
    if len(set(header)) != len(header) or not all(header):
        raise DataError(f"{path}, line 1: column names must be different and not empty, got {header}")
    for number, row in found[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}, line {number}: expected {len(header)} columns as in the header, got {len(row)}")
    rows = [row for _, row in found]
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}


def encode(values: list[str]) -> np.ndarray:
    """Texts as int64 codes, -1 for an empty one."""
    found = np.asarray(values)
    known = found != ""
    codes = np.full(len(found), -1, dtype=np.int64)
    codes[known] = np.unique(found[known], return_inverse=True)[1]
    return codes


def numbers_of(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a description that a person compares between runs, by path, for example `labels/coarse/homophily`."""
    degrees = found["degrees"]
    numbers = {"isolated": degrees["isolated"], "mean_degree": degrees["mean"], "components": found["components"]["count"]}
    for name, row in found["labels"].items():
        numbers |= {f"labels/{name}/{key}": row[key] for key in ("local_consistency", "homophily") if row[key] is not None}
    return numbers | {f"splits/{name}/links_across": row["links"] for name, row in found["splits"].items()}


def report_lines(found: Mapping[str, Any]) -> list[str]:
    """A description in a few lines for a person."""
    degrees, parts = found["degrees"], found["components"]
    isolated = f"{degrees['isolated']} isolated" if degrees["isolated"] else "none isolated"
    share = 100 * parts["largest"] / found["nodes"]
    lines = [
        f"graph: {found['nodes']} nodes, {degrees['links']} links; degree {degrees['minimum']} to {degrees['maximum']}, "
        f"mean {degrees['mean']:.1f}; {isolated}; {parts['count']} components, the largest holds {share:.0f} %"
    ]
    for name, row in found["labels"].items():
        lines.append(
            f"  {name}: local consistency {_figure(row['local_consistency'])}, homophily {_figure(row['homophily'])} "
            f"(chance {row['chance']:.3f}), {row['classes']} values"
        )
    for name, row in found["splits"].items():
        lines.append(f"  {name}: {row['links']} links between splits, {row['nodes']} nodes concerned")
    return [*lines, *(f"  note: {finding}" for finding in found["findings"])]


def _figure(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
