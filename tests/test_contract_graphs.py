"""What every graph over a source keeps to, generated from the registry, and who is whose neighbour in each, told by a loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import RelationGraph, from_edges

COUNT = 12
ROWS = np.random.default_rng(0).normal(0, 1, (COUNT, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 1])
SITE = np.array([0, 0, 1, 1, -1, 0, 1, 1, 0, -1, 0, 1])
TAGS = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 1], [0, 0, 0], [0, -1, 1], [1, 1, 1], [-1, -1, -1], [0, 1, 0], [1, 0, 0]])
TAGS = np.concatenate([TAGS, [[0, 0, 1], [1, 1, 1]]])
TIME = np.array([0.5, 3, 1, 2, 9, 4, 0.5, 2.5, 1.5, 7, 8, 6])
RECORDING = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
EDGES = [(0, 1), (1, 2), (5, 9), (3, 11), (7, 4)]
Linked = Callable[[int, int], bool]


def made(**changes: Any) -> Source:
    given: dict[str, Any] = {
        "labels": LABELS,
        "attributes": {"site": SITE, "tags": TAGS},
        "clock": (TIME, RECORDING),
        "graph": from_edges(np.array(EDGES), n=COUNT),
    }
    return FeatureSource(ROWS, **{**given, **changes})


def _nearest(a: int, b: int) -> bool:
    distance = np.linalg.norm(ROWS[a].astype(float) - ROWS, axis=1)
    distance[a] = np.inf
    return b in np.argsort(distance)[:2]


def _distance(a: int, b: int) -> float:
    return sum(0.5 if -1 in (x, y) else float(x != y) for x, y in zip(TAGS[a], TAGS[b], strict=True))


def _next(a: int, b: int) -> bool:
    if RECORDING[a] != RECORDING[b]:
        return False
    between = (RECORDING[a] == RECORDING) & (min(TIME[a], TIME[b]) < TIME) & (max(TIME[a], TIME[b]) > TIME)
    return not between.any()


def _known(a: int) -> bool:
    return bool((TAGS[a] >= 0).any())


CASES: dict[str, tuple[dict[str, Any], Linked]] = {
    "edges": ({"file": "edges.csv"}, lambda a, b: (a, b) in EDGES or (b, a) in EDGES),
    "knn": ({"k": 2}, lambda a, b: _nearest(a, b) or _nearest(b, a)),
    "labels": ({}, lambda a, b: LABELS[a] == LABELS[b]),
    "multilabels": ({"by": "tags"}, lambda a, b: _known(a) and _known(b) and _distance(a, b) <= 1.5),
    "own": ({}, lambda a, b: (a, b) in EDGES or (b, a) in EDGES),
    "time": ({}, _next),
}
OURS = [name for name, entry in GRAPHS.entries.items() if entry.module.startswith("kinshot.")]


@pytest.fixture(params=OURS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def build(name: str, tmp_path: Path) -> Callable[..., RelationGraph]:
    settings = dict(CASES[name][0])
    if "file" in settings:
        (tmp_path / "edges.csv").write_text("source,target\n" + "\n".join(f"{a},{b}" for a, b in EDGES) + "\n")
        settings["file"] = str(tmp_path / "edges.csv")
    return lambda source=None, **more: GRAPHS.build(name, source or made(), settings={**settings, **more})


def table(graph: RelationGraph) -> np.ndarray:
    """Who is linked with whom, bool (n, n)."""
    a, b = (side.ravel() for side in np.meshgrid(range(graph.n), range(graph.n), indexing="ij"))
    return (graph.weights(a, b) > 0).reshape(graph.n, graph.n)


def test_neighbours_are_those_that_a_loop_finds(name: str, build: Callable[..., RelationGraph]) -> None:
    linked = CASES[name][1]
    expected = [[a != b and bool(linked(a, b)) for b in range(COUNT)] for a in range(COUNT)]
    assert table(build()).tolist() == expected
    assert np.any(expected)


def test_there_is_a_node_to_a_sample_and_links_hold_both_ways(build: Callable[..., RelationGraph]) -> None:
    graph = build()
    links = table(graph)
    assert graph.n == COUNT
    assert not graph.directed
    assert (links == links.T).all()
    assert graph.degrees().tolist() == links.sum(1).tolist()


def test_kin_are_drawn_from_the_generator_among_neighbours(build: Callable[..., RelationGraph]) -> None:
    graph = build()
    links, rows = table(graph), np.arange(COUNT)
    kin, again = (graph.sample_positives(rows, 5, np.random.default_rng(1)) for _ in range(2))
    strangers = graph.sample_negatives(rows, 5, np.random.default_rng(1))
    assert np.array_equal(kin, again)
    for row in range(COUNT):
        assert set(kin[row]) <= (set(np.flatnonzero(links[row])) or {-1})
        assert not links[row][strangers[row][strangers[row] >= 0]].any()


def test_a_subset_of_the_source_has_the_part_of_the_graph(name: str, build: Callable[..., RelationGraph]) -> None:
    if name in ("edges", "knn", "time"):
        pytest.skip(f"{name} links the samples of a part anew")
    rows = np.flatnonzero(np.isin(LABELS, [2, 0]))
    assert np.array_equal(table(build(made().subset([2, 0]))), table(build())[np.ix_(rows, rows)])


def test_it_says_what_it_is(name: str) -> None:
    entry = GRAPHS.entry(name)
    assert entry.summary.endswith(".")
    assert [parameter for parameter, about in entry.parameters.items() if not about.help] == []


def test_what_a_source_lacks_is_named() -> None:
    bare = FeatureSource(ROWS)
    for name, settings, message in (
        ("labels", {}, "has no labels: choose another graph"),
        ("labels", {"by": ("sites",)}, "has no label 'sites'"),
        ("own", {}, "brings no graph of its own"),
        ("time", {}, "has no label 'time'"),
        ("multilabels", {"by": "tags"}, "has no label 'tags' of which a sample has several"),
        ("knn", {"k": 12}, "expected 1 to 11"),
    ):
        with pytest.raises((ConfigError, DataError), match=message):
            GRAPHS.build(name, bare, settings=settings)
    for by, message in (("tags", "gives a sample several labels: choose graph=multilabels"), ("height", "is measured, and no label")):
        with pytest.raises(ConfigError, match=message):
            GRAPHS.build("labels", made(attributes={"tags": TAGS, "height": TIME}), settings={"by": (by,)})


def test_time_may_be_an_attribute_and_needs_no_clock() -> None:
    source = made(clock=None, attributes={"time": TIME, "group": RECORDING})
    assert np.array_equal(table(GRAPHS.build("time", source)), table(GRAPHS.build("time", made())))
    ranks = made(clock=None, attributes={"when": np.argsort(np.argsort(TIME, kind="stable")), "who": RECORDING})
    found = GRAPHS.build("time", ranks, settings={"time": "when", "group": "who"})
    assert np.array_equal(table(found), table(GRAPHS.build("time", made())))
