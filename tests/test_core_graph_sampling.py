"""Draws of kin and strangers: never a wrong one, exact at the edges, of the right distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph import BlockLayer, RelationGraph, from_edges, from_labels, from_time, union
from tests.reference_graph import Case, cases, edge_layer, within

DRAWS = 20_000


def check(drawn: np.ndarray, allowed: np.ndarray) -> None:
    """Every draw is allowed, -1 stands exactly where nothing is, and with this many draws everything allowed occurs."""
    for i, row in enumerate(drawn):
        assert set(row.tolist()) == (set(np.flatnonzero(allowed[i]).tolist()) or {-1})


@given(cases(most=6))
def test_positives_are_the_neighbours(case: Case) -> None:
    everyone = np.arange(case.n)
    check(case.graph.sample_positives(everyone, 4000, np.random.default_rng(0)), case.linked)


@given(cases(most=6), st.integers(1, 3))
def test_positives_within_hops_are_the_ball(case: Case, hops: int) -> None:
    drawn = case.graph.sample_positives(np.arange(case.n), 300, np.random.default_rng(0), "hops", hops=hops)
    check(drawn, within(case.linked, hops))


@given(cases(most=8))
def test_negatives_are_all_others(case: Case) -> None:
    drawn = case.graph.sample_negatives(np.arange(case.n), 300, np.random.default_rng(0))
    check(drawn, ~case.linked & ~np.eye(case.n, dtype=bool))


@given(cases(most=8, groups=True))
def test_negatives_of_the_group_stay_in_it(case: Case) -> None:
    group = case.graph.groups
    assert group is not None
    allowed = ~case.linked & ~np.eye(case.n, dtype=bool) & (group[:, None] == group[None, :]) & (group >= 0)[:, None]
    check(case.graph.sample_negatives(np.arange(case.n), 300, np.random.default_rng(0), "same_group"), allowed)
    check(case.graph.sample_negatives(np.arange(case.n), 300, np.random.default_rng(0)), ~case.linked & ~np.eye(case.n, dtype=bool))


@given(cases(most=8, groups=True), st.integers(1, 3))
def test_distant_negatives_are_outside_the_ball(case: Case, hops: int) -> None:
    drawn = case.graph.sample_negatives(np.arange(case.n), 300, np.random.default_rng(0), "hops", hops=hops)
    check(drawn, ~within(case.linked, hops) & ~np.eye(case.n, dtype=bool))


@given(cases(most=8), st.integers(1, 5))
def test_walks_end_where_they_can(case: Case, length: int) -> None:
    drawn = case.graph.sample_positives(np.arange(case.n), 60, np.random.default_rng(0), "walk", walk_length=length)
    near = within(case.linked, length)
    for i, row in enumerate(drawn):
        assert set(row.tolist()) <= set(np.flatnonzero(near[i]).tolist()) | ({-1} if not case.linked[i].any() else set())


def test_ids_may_repeat_and_seeds_repeat_draws() -> None:
    graph = union({"e": from_edges([[0, 1], [1, 2], [2, 3]], n=6), "l": from_labels([0, 0, 0, 1, 1, 1])})
    ids = np.array([5, 1, 1, 0, 5])
    for how in ("edge", "hops", "walk"):
        a, b = (graph.sample_positives(ids, 7, np.random.default_rng(3), how) for _ in range(2))
        assert a.shape == (5, 7)
        assert a.dtype == np.int64
        assert np.array_equal(a, b)
        assert (graph.weights(np.repeat(ids, 7), a.ravel()) > 0).all() or how != "edge"
    assert graph.sample_negatives(ids, 0, np.random.default_rng(0)).shape == (5, 0)
    assert graph.sample_positives(np.zeros(0, dtype=np.int64), 2, np.random.default_rng(0)).shape == (0, 2)


def frequencies(drawn: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(drawn.ravel(), minlength=n) / drawn.size


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Within five standard errors, every one."""
    return bool((np.abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / DRAWS) + 1e-12).all())


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 3.0, 4.0, 1.0]])
def test_neighbours_are_drawn_by_weight(weights: list[float] | None) -> None:
    graph = from_edges([[0, 1], [0, 2], [0, 3], [0, 4], [2, 3]], weights, n=6)
    expected = np.array([0, *(weights or [1.0] * 5)[:4], 0])
    drawn = graph.sample_positives(np.array([5, 0]), DRAWS, np.random.default_rng(0))
    assert (drawn[0] == -1).all()
    assert close(frequencies(drawn[1], 6), expected / expected.sum())


def test_very_unequal_weights_are_drawn_in_their_row() -> None:
    graph = from_edges([[0, 1], [2, 3], [2, 4], [5, 6]], [1e30, 1e-30, 3e-30, 1e30])
    drawn = graph.sample_positives(np.array([0, 2, 5]), 1000, np.random.default_rng(0))
    assert (drawn[0] == 1).all()
    assert np.isin(drawn[1], (3, 4)).all()
    assert (drawn[2] == 6).all()


def test_layers_are_drawn_by_their_summed_weight() -> None:
    blocks = BlockLayer(np.array([0, 0, 0, 1, 1, 2, -1]), edge_layer([(0, 1)], 3))
    edges = from_edges([[0, 1], [0, 6], [0, 5]], [1.0, 2.0, 0.5], n=7).layers["edges"]
    graph = RelationGraph(7, {"b": blocks, "e": edges}, layer_weights={"b": 2.0, "e": 3.0})
    expected = np.array([0, 2 + 3, 2, 2, 2, 1.5, 6])
    assert graph.weights(np.zeros(7, dtype=int), np.arange(7)).tolist() == expected.tolist()
    drawn = graph.sample_positives(np.array([0]), DRAWS, np.random.default_rng(0))
    assert close(frequencies(drawn, 7), expected / expected.sum())


@pytest.mark.parametrize("how", ["any", "hops"])
@pytest.mark.parametrize("extra", [False, True])
def test_strangers_are_uniform(how: str, extra: bool) -> None:
    graph = from_edges([[2, 0], [2, 3], [2, 7], [5, 6]], n=9)
    if extra:
        graph = union({"e": graph, "l": from_labels([-1, -1, 0, -1, -1, 0, -1, -1, -1])})
    free = [1, 4, 8] if extra and how == "hops" else [1, 4, 6, 8] if extra else [1, 4, 5, 6, 8]
    expected = np.isin(np.arange(9), free) / len(free)
    assert close(frequencies(graph.sample_negatives(np.array([2]), DRAWS, np.random.default_rng(0), how), 9), expected)


def test_strangers_of_the_group_are_uniform() -> None:
    graph = from_edges([[0, 1], [0, 5]], n=8, groups=[1, 1, 1, 1, 0, 0, 1, -1])
    drawn = graph.sample_negatives(np.array([0]), DRAWS, np.random.default_rng(0), "same_group")
    assert close(frequencies(drawn, 8), np.isin(np.arange(8), [2, 3, 6]) / 3)


@pytest.mark.parametrize("alone", [0, 3, 7])
def test_the_only_stranger_is_always_found(alone: int) -> None:
    n, anchor = 8, 5
    edges = [(anchor, j) for j in range(n) if j not in (anchor, alone)]
    for graph in (from_edges(edges, n=n), from_edges(edges, n=n, groups=np.zeros(n, dtype=int))):
        assert (graph.sample_negatives(np.array([anchor]), 50, np.random.default_rng(0)) == alone).all()
    full = from_edges([*edges, (anchor, alone)], n=n)
    assert (full.sample_negatives(np.array([anchor]), 5, np.random.default_rng(0)) == -1).all()
    labels = np.zeros(n, dtype=int)
    labels[alone] = 1
    assert (from_labels(labels).sample_negatives(np.array([anchor]), 50, np.random.default_rng(0)) == alone).all()


def test_explicit_negatives_are_drawn_and_never_linked() -> None:
    graph = from_edges([[0, 1], [0, 2]], n=6, negatives=[[0, 2], [0, 3], [5, 0]])
    drawn = graph.sample_negatives(np.array([0, 3, 4]), 200, np.random.default_rng(0), "explicit")
    assert set(drawn[0].tolist()) == {3, 5}
    assert (drawn[1] == 0).all()
    assert (drawn[2] == -1).all()
    cut = graph.subgraph([5, 0, 4])
    assert (cut.sample_negatives(np.array([1]), 10, np.random.default_rng(0), "explicit") == 0).all()


def test_time_graphs_draw_strangers_from_their_sequence() -> None:
    graph = from_time(np.arange(8) % 4, [0, 0, 0, 0, 1, 1, 1, 1], steps=1)
    drawn = graph.sample_negatives(np.arange(8), 100, np.random.default_rng(0), "same_group")
    assert (drawn // 4 == np.arange(8)[:, None] // 4).all()
    assert (graph.sample_positives(np.arange(8), 100, np.random.default_rng(0), "walk") // 4 == np.arange(8)[:, None] // 4).all()


def test_large_blocks_and_many_layers_stay_quick_and_right() -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    graph = union(
        {
            "site": from_labels(np.arange(n) % 4),
            "day": from_labels(rng.integers(0, 5000, n)),
            "edges": from_edges(rng.integers(0, n, (n, 2)), n=n),
        }
    )
    ids = rng.integers(0, n, 256)
    drawn = graph.sample_negatives(ids, 8, rng)
    assert (graph.weights(np.repeat(ids, 8), drawn.ravel()) == 0).all()
    assert (drawn != ids[:, None]).all()
    assert (drawn % 4 != ids[:, None] % 4).all()
    assert (graph.weights(np.repeat(ids, 8), graph.sample_positives(ids, 8, rng).ravel()) > 0).all()


def test_wrong_requests_are_refused() -> None:
    graph, rng = from_edges([[0, 1]]), np.random.default_rng(0)
    for message, call in {
        "did you mean 'edge'": lambda: graph.sample_positives([0], 1, rng, "edges"),
        "did you mean 'any'": lambda: graph.sample_negatives([0], 1, rng, "anny"),
        "graph with groups": lambda: graph.sample_negatives([0], 1, rng, "same_group"),
        "graph with explicit negatives": lambda: graph.sample_negatives([0], 1, rng, "explicit"),
        "hops must be at least 1": lambda: graph.sample_negatives([0], 1, rng, "hops", hops=0),
        "walk_length must be": lambda: graph.sample_positives([0], 1, rng, "walk", walk_length=0),
        "mask_hops must be": lambda: graph.induced([0], mask_hops=-1),
    }.items():
        with pytest.raises(ConfigError, match=message):
            call()
    with pytest.raises(DataError, match="id 9"):
        graph.sample_negatives([9], 1, rng)
