"""Nearest neighbours: exact against loops in float64, the same for every chunk and engine, ties by index; which of them are kin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin import constructors
from kinshot.kin.graph import from_labels
from kinshot.kin.neighbors import proposals
from kinshot.kin.neighbors.found import ByGraph, ByLabel, ByRelation
from kinshot.kin.neighbors.proposals import largest
from kinshot.kin.neighbors.ranking import rank, ranked_blocks
from kinshot.kin.parts import Block, Listed, Mask
from kinshot.kin.relation import Relation


def slow(queries: np.ndarray, references: np.ndarray | None, k: int, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Loops over pairs in float64."""
    others = queries if references is None else references
    index, value = [], []
    for i, x in enumerate(queries.astype(np.float64)):
        row = []
        for j, y in enumerate(others.astype(np.float64)):
            length = np.linalg.norm(x) * np.linalg.norm(y)
            of = np.linalg.norm(x - y) if metric == "euclidean" else -(x @ y) / length if length else 0.0
            if references is not None or i != j:
                row.append((round(of, 12), j))
        row.sort()
        index.append([j for _, j in row[:k]])
        value.append([of if metric == "euclidean" else -of for of, _ in row[:k]])
    return np.array(index), np.array(value)


def integers(seed: int, rows: int, width: int) -> torch.Tensor:
    """Small integers: many rows are equal, many distances too, and all are exact in float32."""
    return torch.randint(-1, 2, (rows, width), generator=torch.Generator().manual_seed(seed)).float()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few spare candidates and small blocks, so that a few hundred rows go through all of them."""
    for proposer in (proposals._Products, proposals._Tree, proposals._Faiss):
        monkeypatch.setattr(proposer, "spare", 1)
    monkeypatch.setattr("kinshot.kin.neighbors.ranking.PAIRS", 700)
    monkeypatch.setattr("kinshot.kin.neighbors.proposals.BLOCK", 256)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("k", [1, 5, 59])
def test_ranking_is_the_loops(metric: Any, itself: bool, k: int) -> None:
    queries, references = (torch.randn(n, 6, generator=torch.Generator().manual_seed(n)) for n in (60, 80))
    found = rank(queries, None if itself else references, k=k, metric=metric)
    index, value = slow(queries.numpy(), None if itself else references.numpy(), k, metric)
    assert np.array_equal(found.index.numpy(), index)
    assert found.value.numpy() == pytest.approx(value, abs=1e-6)
    assert bool((found.closeness.diff(dim=1) <= 0).all())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 8), width=st.integers(1, 4), itself=st.booleans())
def test_equal_distances_are_ranked_by_index(seed: int, k: int, width: int, itself: bool) -> None:
    queries, references = integers(seed, 20, width), integers(seed + 1, 24, width)
    for engine in ("products", "tree"):
        found = rank(queries, None if itself else references, k=k, metric="euclidean", engine=engine)  # type: ignore[arg-type]
        index, value = slow(queries.numpy(), None if itself else references.numpy(), k, "euclidean")
        assert np.array_equal(found.index.numpy(), index)
        assert found.value.numpy() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e12])
def test_neither_chunks_nor_blocks_nor_engines_change_anything(metric: Any, dtype: torch.dtype, scale: float) -> None:
    rows = torch.randn(90, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = torch.cat([rows, rows[:40], rows[:20] * (1 + 1e-7)]) * scale + (5 * scale if metric == "euclidean" else 0)
    first = rank(rows, k=7, metric=metric, engine="products")
    for chunk in (13, 150):
        again = rank(rows, k=7, metric=metric, engine="products", chunk=chunk)
        assert torch.equal(again.index, first.index)
        assert torch.equal(again.value, first.value)
    for engine in ("tree", "faiss"):
        if (engine == "faiss" and proposals.faiss_is_installed()) or (engine == "tree" and metric == "euclidean"):
            again = rank(rows, k=7, metric=metric, engine=engine)  # type: ignore[arg-type]
            assert torch.equal(again.index, first.index)
            assert torch.equal(again.value, first.value)
    assert first.value.dtype == dtype


def test_distances_far_from_the_origin_are_exact() -> None:
    """|x|^2 + |y|^2 - 2 x.y in float32 would be rounded to multiples of 8 here."""
    places = torch.tensor([[0.0], [1.0], [3.0], [3.5]]) + torch.tensor([[10_000.0, 10_000.0]])
    found = rank(places, k=3, metric="euclidean")
    assert found.index.tolist() == [[1, 2, 3], [0, 2, 3], [3, 1, 0], [2, 1, 0]]
    assert found.value[0].tolist() == pytest.approx([2**0.5, 3 * 2**0.5, 3.5 * 2**0.5])


def test_rows_of_zeros_are_like_nobody() -> None:
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [1.0, 1.0]])
    found = rank(rows, k=4)
    assert found.index.tolist() == [[1, 2, 3, 4], [4, 0, 2, 3], [0, 1, 3, 4], [0, 2, 4, 1], [1, 0, 2, 3]]
    assert found.value[0].tolist() == [0, 0, 0, 0]
    assert rank(torch.zeros(50, 3), k=3).index[7].tolist() == [0, 1, 2]


def test_half_precision_is_ranked_in_float32_also_under_autocast() -> None:
    rows = torch.randn(40, 16, generator=torch.Generator().manual_seed(3))
    expected = rank(rows.half().float(), k=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rank(rows.half(), k=5).index, expected.index)
        assert torch.equal(rank(rows.half().float(), k=5).value, expected.value)


def test_blocks_are_the_whole_ranking() -> None:
    rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    parts = list(ranked_blocks(rows, k=49, chunk=8))
    assert [part for part, _ in parts] == [slice(start, min(start + 8, 50)) for start in range(0, 50, 8)]
    assert torch.equal(torch.cat([found.index for _, found in parts]), rank(rows, k=49).index)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"k": 0}, ConfigError, "k must be from 1 to 3, the number of others, got 0"),
        ({"k": 4}, ConfigError, "k must be from 1 to 3"),
        ({"k": 5, "references": torch.ones(4, 2)}, ConfigError, "k must be from 1 to 4"),
        ({"chunk": 0}, ConfigError, "chunk must be at least 1, got 0"),
        ({"metric": "manhattan"}, ConfigError, "metric must be 'cosine' or 'euclidean'"),
        ({"engine": "abacus"}, ConfigError, "engine must be auto, products, tree or faiss, got 'abacus'"),
        ({"engine": "tree"}, ConfigError, "tree knows Euclidean distances alone"),
        ({"queries": torch.ones(4)}, DataError, r"queries must be a float matrix \(rows, width\)"),
        ({"queries": torch.ones(4, 2, dtype=torch.int64)}, DataError, "int64"),
        ({"references": torch.ones(4, 3)}, DataError, "queries are 2 wide and references 3"),
        ({"queries": torch.tensor([[1.0, 2.0], [torch.nan, 0.0]])}, DataError, "row 1 of the queries is not finite"),
    ],
)
def test_what_cannot_be_ranked_is_refused(given: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        rank(**({"queries": torch.ones(4, 2), "k": 1} | given))


def test_faiss_is_asked_for_by_name_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "faiss_is_installed", lambda: False)
    with pytest.raises(ConfigError, match="needs the package faiss-cpu: install it"):
        rank(torch.ones(4, 2), k=1, engine="faiss")


@pytest.mark.parametrize("width", [63, 64, 200, 1031])
@pytest.mark.parametrize("ties", [False, True])
def test_the_largest_of_groups_are_the_largest_of_all(width: int, ties: bool) -> None:
    scores = torch.randn(9, width, generator=torch.Generator().manual_seed(width))
    scores = scores.round() if ties else scores
    best, at = largest(scores, 3)
    assert torch.equal(best, scores.topk(3, dim=1).values)
    assert torch.equal(scores.gather(1, at), best)
    assert all(len(set(row)) == 3 for row in at.tolist())


# ------------------------------------------------------------------------------------------------------------ who of them is kin


def test_kin_of_labels() -> None:
    labels, others = np.array([0, 1, 1, 2]), np.array([1, 1, 0, 3, 1])
    index = np.array([[0, 3], [2, 4]])
    kin = ByLabel(labels, others)
    assert kin.among(slice(1, 3), index).tolist() == [[True, False], [False, True]]
    assert kin.total(slice(0, 4)).tolist() == [1, 3, 3, 0]
    assert ByLabel(labels).total(slice(0, 4)).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("form", ["mask", "listed", "block", "none"])
def test_kin_of_every_form_of_a_relation(form: str) -> None:
    dense = torch.tensor([[0.0, 2.0, 0.0, 1.0], [1.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    part = {
        "mask": Mask(dense),
        "listed": Listed(torch.tensor([[1, 3, -1], [3, 0, 2], [1, 1, -1]])),
        "block": Block(3, 4, torch.tensor([[0], [1], [-1]])),
        "none": None,
    }[form]
    expected = {"block": torch.tensor([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1]]), "none": torch.zeros(3, 4)}.get(form, dense) > 0
    kin = ByRelation(Relation(part, None, (3, 4)))
    index = torch.tensor([[3, 0, 1, 2], [0, 1, 2, 3], [1, 3, 0, 2]])
    for rows in (slice(0, 3), slice(1, 3)):
        assert kin.among(rows, index[rows].numpy()).tolist() == expected.gather(1, index)[rows].tolist()
        assert kin.total(rows).tolist() == expected.sum(1)[rows].tolist()


def test_labels_relations_and_graphs_agree() -> None:
    labels = np.array([0, 1, 0, 2, 1, 0, 3])
    index = rank(torch.randn(7, 3, generator=torch.Generator().manual_seed(0)), k=6).index.numpy()
    relation = constructors.labels(torch.from_numpy(labels))
    kinds = [ByLabel(labels), ByRelation(relation, itself=True), ByGraph(from_labels(labels), np.arange(7))]
    for rows in (slice(0, 7), slice(2, 5)):
        for kind in kinds[1:]:
            assert np.array_equal(kind.among(rows, index[rows]), kinds[0].among(rows, index[rows]))
            assert np.array_equal(kind.total(rows), kinds[0].total(rows))
