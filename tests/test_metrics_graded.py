"""Metrics of kin that are more or less relevant, and of pairs that must not meet, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinshot.core.errors import DataError
from kinshot.kin.measuring import answered, measured
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.found import ByLabel, ByRelation, Kinship
from kinshot.kin.neighbors.shared import BySharedLabels
from kinshot.kin.neighbors.without import Without, camera_rule
from kinshot.kin.relation import Mask, Relation

K = 4
GRADED = ["ndcg_at_4", "acg_at_4", "wap", "mean_ap", "recall_at_4"]


def figures(name: str, gains: list[float], best: list[float]) -> float:
    """One metric of one query, from what the ranked references are worth, and from the gains of all that it may meet."""
    hits, total = [gain > 0 for gain in gains], sum(gain > 0 for gain in best)
    if name.startswith("ndcg"):
        ideal = sum(gain / math.log2(n + 2) for n, gain in enumerate(sorted(best, reverse=True)[:K]))
        return sum(gain / math.log2(n + 2) for n, gain in enumerate(gains[:K])) / ideal
    if name.startswith("acg"):
        return sum(gains[:K]) / K
    if name == "wap":
        return sum(sum(gains[: n + 1]) / (n + 1) for n in range(len(gains)) if hits[n]) / total
    if name == "mean_ap":
        return sum(sum(hits[: n + 1]) / (n + 1) for n in range(len(gains)) if hits[n]) / total
    return float(any(hits[:K]))


def slow(z: np.ndarray, refs: np.ndarray | None, gains: np.ndarray, barred: np.ndarray, name: str) -> dict[int, float]:
    """By query with kin, from the matrices of gains (Q, N) and of pairs that must not meet."""
    found, others = {}, z if refs is None else refs
    for i, row in enumerate(z):
        met = [j for j in range(len(others)) if not barred[i, j] and (refs is not None or j != i)]
        order = sorted(met, key=lambda j: (float(((row - others[j]) ** 2).sum()), j))
        if any(gains[i, j] > 0 for j in met):
            found[i] = figures(name, [gains[i, j] for j in order], [gains[i, j] for j in met])
    return found


def check(z: np.ndarray, refs: np.ndarray | None, kin: Kinship, gains: np.ndarray, barred: np.ndarray, names: list[str]) -> None:
    references = None if refs is None else torch.from_numpy(refs)
    wanted = [wanted_metric(name) for name in names]
    found = answered(torch.from_numpy(z), kin, wanted, references=references, metric="euclidean")
    for name in names:
        expected = slow(z, refs, gains, barred, name)
        assert found.queries.tolist() == list(expected)
        assert found.values[name] == pytest.approx(list(expected.values()), abs=1e-12), name


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("relevance", ["shared", "jaccard"])
@pytest.mark.parametrize("apart", [False, True], ids=["among themselves", "gallery"])
def test_several_labels_are_their_loops(relevance: str, apart: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinshot.kin.neighbors.shared.HELD", 40)  # a few queries at a time
    labels = rng.random((17, 5)) < 0.3
    labels[3] = False  # one that has none
    own, others = (labels, None) if not apart else (labels[:6], labels[6:])
    z = rng.normal(size=(17, 3))
    first, refs = (z, None) if not apart else (z[:6], z[6:])
    rows = own if others is None else others
    shared = (own[:, None] & rows).sum(2).astype(float)
    gains = shared if relevance == "shared" else shared / np.maximum((own[:, None] | rows).sum(2), 1)
    check(first, refs, BySharedLabels(own, others, relevance), gains, np.zeros(gains.shape, dtype=bool), GRADED)  # type: ignore[arg-type]


def test_weights_of_a_relation_are_gains(rng: np.random.Generator) -> None:
    weights = np.where(rng.random((12, 12)) < 0.4, rng.integers(1, 4, (12, 12)), 0).astype(np.float32)
    kin = ByRelation(Relation(Mask(torch.from_numpy(weights)), None, (12, 12)), itself=True)
    check(rng.normal(size=(12, 2)), None, kin, weights.astype(float), np.zeros((12, 12), dtype=bool), GRADED)


@pytest.mark.parametrize("gain", ["linear", "exponential", "binary"])
def test_gains_of_ndcg(gain: str, rng: np.random.Generator) -> None:
    labels, z = rng.random((15, 6)) < 0.4, rng.normal(size=(15, 3))
    shared = (labels[:, None] & labels).sum(2).astype(float)
    gains = {"linear": shared, "exponential": 2**shared - 1, "binary": (shared > 0).astype(float)}[gain]
    one = wanted_metric("ndcg_at_4")
    one.settings["gain"] = gain
    found = answered(torch.from_numpy(z), BySharedLabels(labels), [one], metric="euclidean").values["ndcg_at_4"]
    assert found == pytest.approx(list(slow(z, None, gains, np.zeros((15, 15), dtype=bool), "ndcg_at_4").values()))


# -- pairs that must not meet

NAMES = ["recall_at_1", "recall_at_4", "precision_at_4", "r_precision", "map_at_r", "mean_ap", "mrr", "minp", "ndcg_at_4", "lrap"]


def test_the_camera_rule_is_the_loops_of_re_identification(rng: np.random.Generator) -> None:
    identity, camera, z = rng.integers(0, 5, 30), rng.integers(0, 3, 30), rng.normal(size=(30, 3))
    z += 2 * rng.normal(size=(5, 3))[identity]
    for first, refs, rows, others in ((z, None, slice(0, 30), slice(0, 30)), (z[:9], z[9:], slice(0, 9), slice(9, 30))):
        own, cameras = identity[rows], camera[rows]
        theirs = (identity[others], camera[others]) if refs is not None else (None, None)
        kin = camera_rule(ByLabel(own, theirs[0]), own, cameras, *theirs)
        same = own[:, None] == identity[others]
        barred = same & (cameras[:, None] == camera[others])
        gains = (same & ~barred).astype(float)
        references = None if refs is None else torch.from_numpy(refs)
        found = answered(torch.from_numpy(first), kin, [wanted_metric(n) for n in NAMES], references=references, metric="euclidean")
        assert found.queries.tolist() == list(slow(first, refs, gains, barred, "mean_ap"))
        for number, query in enumerate(found.queries):
            met = [j for j in range(gains.shape[1]) if not barred[query, j] and (refs is not None or j != query)]
            all_of = first if refs is None else refs
            order = sorted(met, key=lambda j: float(((first[query] - all_of[j]) ** 2).sum()))
            hits = [gains[query, j] > 0 for j in order]
            total = sum(hits)
            precisions = [sum(hits[: n + 1]) / (n + 1) for n in range(len(hits))]
            expected = {
                "recall_at_1": float(hits[0]),
                "recall_at_4": float(any(hits[:4])),
                "precision_at_4": sum(hits[:4]) / 4,
                "r_precision": sum(hits[:total]) / total,
                "map_at_r": sum(precisions[n] for n in range(total) if hits[n]) / total,
                "mean_ap": sum(precisions[n] for n in range(len(hits)) if hits[n]) / total,
                "mrr": 1 / (hits.index(True) + 1),
                "minp": total / (max(n for n, hit in enumerate(hits) if hit) + 1),
                "ndcg_at_4": figures("ndcg", [gains[query, j] for j in order], [gains[query, j] for j in met]),
                "lrap": sum(precisions[n] for n in range(len(hits)) if hits[n]) / total,
            }
            assert {name: values[number] for name, values in found.values.items()} == pytest.approx(expected)


def test_a_gallery_that_holds_the_queries_is_ranking_among_themselves(rng: np.random.Generator) -> None:
    """Graded too: a query's own gain is not among the best."""
    z, labels, classes = torch.from_numpy(rng.normal(size=(20, 3))), rng.random((20, 4)) < 0.4, rng.integers(0, 4, 20)
    itself = np.arange(20)
    for kin, same in ((BySharedLabels(labels), BySharedLabels(labels, labels)), (ByLabel(classes), ByLabel(classes, classes))):
        names = [n for n in METRICS.names() if METRICS.entry(n).facts["depth"] != "none" and (n != "knn_accuracy" or kin.classes)]
        wanted = [wanted_metric(name.replace("_at_k", "_at_3")) for name in names]
        [one.settings.update(k=3) for one in wanted if one.name == "knn_accuracy"]
        alone = measured(z, kin, wanted)
        assert measured(z, Without(same, itself, itself), wanted, references=z) == alone


def test_best_gains_leave_out_those_that_must_not_be_met(rng: np.random.Generator) -> None:
    labels, z = rng.random((16, 5)) < 0.5, rng.normal(size=(16, 3))
    keys = rng.integers(0, 4, 16)
    barred = keys[:, None] == keys
    shared = (labels[:, None] & labels).sum(2) * ~barred * 1.0
    check(z, None, Without(BySharedLabels(labels), keys, keys, itself=True), shared, barred, GRADED)


def test_unknown_cameras_bar_nobody_and_distractors_are_no_kin() -> None:
    kin = camera_rule(
        ByLabel(np.array([0, 0]), np.array([0, 0, 1, 7])),
        np.array([0, 0]),
        np.array([0, -1]),
        np.array([0, 0, 1, 7]),
        np.array([0, 1, 0, -1]),
    )
    every = np.tile(np.arange(4), (2, 1))
    assert kin.kept(slice(0, 2), every).tolist() == [[False, True, True, True], [True, True, True, True]]
    assert kin.total(slice(0, 2)).tolist() == [1, 2]
    assert kin.among(slice(0, 2), every).tolist() == [[False, True, False, False], [True, True, False, False]]
    alone = camera_rule(ByLabel(np.array([0, 0, 1])), np.array([0, 0, 1]), np.zeros(3, dtype=np.int64))
    with pytest.raises(DataError, match="none of the 3 queries has kin"):
        measured(torch.eye(3), alone, [wanted_metric("recall_at_1")])


def test_a_query_that_may_meet_fewer_than_k_misses_the_rest() -> None:
    kin = camera_rule(ByLabel(np.array([0, 0, 0, 1])), np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0]))
    found = answered(torch.eye(4), kin, [wanted_metric("precision_at_3"), wanted_metric("minp")])
    # the first two may meet the third and the fourth, the third all
    assert found.values["precision_at_3"] == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert found.queries.tolist() == [0, 1, 2]
