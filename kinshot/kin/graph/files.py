"""Graphs from files. Nothing in a file is executed; an error names the file and the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import DataError, suggest
from kinshot.core.small_files import check_regular, is_numeral, read_arrays
from kinshot.kin.graph.build_edges import from_edges, from_scipy
from kinshot.kin.graph.edge_columns import check_no_index, columns_of
from kinshot.kin.graph.edges import EdgeError
from kinshot.kin.graph.graph import RelationGraph
from kinshot.kin.graph.matrix_market import read_matrix_market

KEYS = ("edges", "weights", "n", "negatives", "directed", "groups")


def read_graph(path: str | Path, n: int | None = None, directed: bool | None = None) -> RelationGraph:
    """The graph in a file, by its ending.

    `.csv`, `.tsv` and `.txt`: an edge a line (two ids, and a weight if there is a third column), separated by comma, tab or
    blanks; a first line without numbers names the columns, and then names decide (`edge_columns`) and not the order; empty lines
    and those that start with # are skipped. `.npy`: edges
    (m, 2) or (2, m). `.npz`: `edges` and, where wanted, `weights`, `n`, `negatives`, `directed`, `groups`.
    `.mtx`: a Matrix Market adjacency matrix. Ids count from 0 (Matrix Market: from 1).

    Args:
        path: the file.
        n: number of nodes, for files that do not say it; one more than the largest id when not given.
        directed: whether edges lead one way; when not given what the file says, else no.

    Raises:
        DataError: a file that is missing, of another kind or damaged, or whose edges are wrong; names the line or the edge.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path, int | None, bool | None], RelationGraph]] = {
        ".csv": _text,
        ".tsv": _text,
        ".txt": _text,
        ".npy": _npy,
        ".npz": _npz,
        ".mtx": _mtx,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: graphs are read from {', '.join(readers)}, not from {path.suffix or 'files without ending'!r}")
    check_regular(path, remedy=f"give a file that ends in {', '.join(readers)}")
    try:
        return readers[path.suffix.lower()](path, n, directed)
    except DataError as error:
        raise DataError(error.args[0] if str(error).startswith(str(path)) else f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _text(path: Path, n: int | None, directed: bool | None) -> RelationGraph:
    delimiter = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
    number, first = next(_lines(path, delimiter, 0), (0, []))
    header = number if first and not any(map(is_numeral, first)) else 0  # lines to skip
    rows = _lines(path, delimiter, header)
    _, row = next(rows, (0, []))
    if not row and not _mistaken(first, delimiter):
        return from_edges([], n=n, directed=bool(directed))
    row = row or first
    roles = columns_of(first if header else None, len(row), _mistaken(row, delimiter))
    try:
        table = np.loadtxt(
            path, delimiter=delimiter, comments="#", ndmin=2, skiprows=header, encoding="utf-8-sig", dtype=np.float64, quotechar='"'
        )
    except ValueError as error:
        raise DataError(_first_bad_line(path, delimiter, header) or f"{path}: {error}") from error
    if not header:
        check_no_index(table)
    weights = None if roles.weight is None or (table[:, roles.weight] == 1).all() else table[:, roles.weight]
    try:
        return from_edges(table[:, [roles.source, roles.target]], weights, n, bool(directed))
    except EdgeError as error:
        line = next(number for place, (number, _) in enumerate(_lines(path, delimiter, header)) if place == error.edge)
        raise DataError(f"{path} line {line}: {error.problem}") from error


def _lines(path: Path, delimiter: str | None, skip: int) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of each line that holds something."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            text = line.split("#", 1)[0].strip("\r\n ")
            if number > skip and text:
                yield number, [field.strip().strip('"') for field in text.split(delimiter)]


def _mistaken(row: list[str], delimiter: str | None) -> str:
    """What a line that was not split is separated by instead."""
    others = {";": "semicolons", ",": "commas", "\t": "tabs"}
    found = [name for mark, name in others.items() if mark != delimiter and mark in row[0]] if len(row) == 1 else []
    return found[0] if found else ""


def _first_bad_line(path: Path, delimiter: str | None, header: int) -> str:
    width = 0
    for number, fields in _lines(path, delimiter, header):
        width = width or len(fields)
        for field in fields:
            if not is_numeral(field):
                return f"{path} line {number}: {field!r} is not a number; ids are 0, 1, 2, ..."
        if len(fields) != width:
            return f"{path} line {number} has {len(fields)} columns, lines before it have {width}"
    return ""


def _npy(path: Path, n: int | None, directed: bool | None) -> RelationGraph:
    found = _arrays(path)
    if "" not in found:
        raise DataError(f"{path} is an archive: name it .npz")
    return from_edges(found[""], n=n, directed=bool(directed))


def _npz(path: Path, n: int | None, directed: bool | None) -> RelationGraph:
    found = _arrays(path)
    if "" in found:
        raise DataError(f"{path} is not a readable .npz file of numbers, but a single array: name it .npy")
    for key in found:
        if key not in KEYS:
            raise DataError(f"{path} holds {key!r}, which means nothing here: {suggest(key, KEYS)}")
    if "edges" not in found:
        raise DataError(f"{path} lacks the array 'edges'")
    count = n if n is not None or "n" not in found else _one(path, found, "n", "iu", "whole number")
    one_way = bool(_one(path, found, "directed", "biu", "truth value")) if directed is None and "directed" in found else bool(directed)
    return from_edges(found["edges"], found.get("weights"), count, one_way, negatives=found.get("negatives"), groups=found.get("groups"))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return read_arrays(path, remedy=f"it is not a readable {path.suffix} file of numbers, save it with numpy")


def _one(path: Path, found: dict[str, Any], key: str, kinds: str, what: str) -> int:
    if found[key].size != 1 or found[key].dtype.kind not in kinds:
        raise DataError(f"{path}: {key!r} must be one {what}, got {found[key].dtype} of shape {found[key].shape}")
    return int(found[key].item())


def _mtx(path: Path, n: int | None, directed: bool | None) -> RelationGraph:
    graph = from_scipy(read_matrix_market(path), bool(directed))
    if n is not None and n != graph.n:
        raise DataError(f"{path} has {graph.n} nodes, asked for were {n}")
    return graph
