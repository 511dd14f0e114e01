"""Every registered metric against loops in float64, and the rules that all of them keep."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    average_precision_score,
    label_ranking_average_precision_score,
    normalized_mutual_info_score,
)

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin import constructors
from kinshot.kin.measuring import measured
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.found import ByLabel, ByRelation

RANKED = [name for name, entry in METRICS.entries.items() if entry.facts["depth"] != "none"]
OF_FEATURES = [name for name in METRICS.names() if name not in RANKED]
CHANCE = {"ami": (-0.1, 0.1), "ari": (-0.02, 0.02), "nmi": (0.1, 0.6), "pair_f1": (0.01, 0.1)}
"""What each metric over features says of noise: those that correct for chance next to nothing."""
TIED = {"mean_ap": 0.5, "mrr": 0.5, "minp": 0.5, "wap": 0.5, "map_at_r": 0.25, "r_precision": 0.5, "lrap": 0.5, "recall_at_1": 0}
"""Of one query among four that are equally near, whose second and fourth are kin."""


def ranking(z: np.ndarray, i: int) -> list[int]:
    """The others of sample i, the most similar first."""
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    return sorted((j for j in range(len(z)) if j != i), key=lambda j: (-float(unit[i] @ unit[j]), j))


def slow(name: str, z: np.ndarray, y: np.ndarray, i: int, k: int) -> float:
    """One metric of one query, as its paper says it."""
    order = ranking(z, i)
    hits = [bool(y[j] == y[i]) for j in order]
    total = sum(hits)
    if name == "precision_at_k":
        return sum(hits[:k]) / k
    if name == "recall_at_k":
        return float(any(hits[:k]))
    if name == "r_precision":
        return sum(hits[:total]) / total
    if name == "map_at_r":
        return sum(sum(hits[: n + 1]) / (n + 1) for n in range(total) if hits[n]) / total
    if name == "lrap":
        return float(np.mean([sum(hits[: n + 1]) / (n + 1) for n in range(len(hits)) if hits[n]]))
    if name == "mean_ap":
        return sum(sum(hits[: n + 1]) / (n + 1) for n in range(len(hits)) if hits[n]) / total
    if name == "wap":  # kin are all alike here: tests/test_metrics_graded.py has those that are not
        return slow("mean_ap", z, y, i, k)
    if name == "acg_at_k":
        return slow("precision_at_k", z, y, i, k)
    if name == "mrr":
        return 1 / (hits.index(True) + 1)
    if name == "minp":
        return total / max(n + 1 for n in range(len(hits)) if hits[n])
    if name == "ndcg_at_k":
        best = sum(1 / math.log2(n + 2) for n in range(min(k, total)))
        return sum(1 / math.log2(n + 2) for n in range(k) if hits[n]) / best
    if name == "knn_accuracy":
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        votes = np.zeros(y.max() + 1)
        for j in order[:k]:
            votes[y[j]] += np.exp(unit[i] @ unit[j] / 0.1)
        return float(votes.argmax() == y[i])
    raise NotImplementedError(f"write {name} down as loops here")


@pytest.fixture(scope="module")
def case() -> tuple[torch.Tensor, np.ndarray]:
    y = np.array([0] * 6 + [1] * 9 + [2] * 2 + [3] + [4] * 5 + [5])
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(24, 5)) + 1.2 * rng.normal(size=(6, 5))[y]).float(), y


@pytest.mark.parametrize(
    ("name", "k"), [(name, k) for name in RANKED for k in ((1, 4) if METRICS.entry(name).facts["depth"] == "k" else (1,))]
)
def test_a_metric_over_rankings_is_its_loops(name: str, k: int, case: tuple[torch.Tensor, np.ndarray]) -> None:
    z, y = case
    text = name.replace("_at_k", f"_at_{k}")
    one = wanted_metric(text)
    one.settings.update({"k": k} if "k" in one.settings else {})
    found = measured(z, ByLabel(y), [one])[text]
    asking = [i for i in range(len(y)) if (y == y[i]).sum() > 1]
    expected = [slow(name, z.double().numpy(), y, i, k) for i in asking]
    assert found.value == pytest.approx(np.mean(expected), abs=1e-9)
    assert 0.1 < found.value < 1
    assert (found.queries, found.left_out) == (22, 2)


@pytest.mark.parametrize("name", OF_FEATURES)
def test_a_metric_over_features_sees_classes_that_lie_apart(name: str) -> None:
    y = np.repeat([3, 0, 7], [5, 8, 6])
    z = torch.eye(8)[y] * 5 + 0.01 * torch.randn(19, 8, generator=torch.Generator().manual_seed(0))
    assert measured(z, ByLabel(y), [wanted_metric(name)])[name].value == pytest.approx(1)
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(1))
    labels = np.arange(300) % 30
    found = measured(noise, ByLabel(labels), [wanted_metric(name)])[name].value
    again = measured(noise, ByLabel(labels), [wanted_metric(name)])[name].value
    assert found == again
    low, high = CHANCE[name]
    assert low < found < high


def test_mutual_information_is_that_of_the_clusters(case: tuple[torch.Tensor, np.ndarray]) -> None:
    from kinshot.kin.clusters import as_many_clusters

    z, y = case
    rows = (z / z.norm(dim=1, keepdim=True)).double().numpy()
    clusters = as_many_clusters(rows, y, 0)
    assert len(set(clusters)) == 6
    found = measured(z, ByLabel(y), [wanted_metric("nmi"), wanted_metric("ami")])
    assert found["nmi"].value == pytest.approx(normalized_mutual_info_score(y, clusters), abs=1e-6)
    assert found["ami"].value == pytest.approx(adjusted_mutual_info_score(y, clusters), abs=1e-6)


def test_pairs_of_clusters_are_those_of_loops(case: tuple[torch.Tensor, np.ndarray]) -> None:
    from kinshot.kin.clusters import as_many_clusters

    z, y = case
    clusters = as_many_clusters((z / z.norm(dim=1, keepdim=True)).double().numpy(), y, 0)
    pairs = list(itertools.combinations(range(len(y)), 2))
    hit = sum(y[i] == y[j] and clusters[i] == clusters[j] for i, j in pairs)
    precision, recall = (hit / sum(of[i] == of[j] for i, j in pairs) for of in (clusters, y))
    found = measured(z, ByLabel(y), [wanted_metric("pair_f1"), wanted_metric("ari")])
    assert found["pair_f1"].value == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["ari"].value == pytest.approx(adjusted_rand_score(y, clusters))
    assert METRICS.get("pair_f1")(np.eye(4), np.arange(4)) == 1  # no pair of a class, none of a cluster


def test_mean_ap_is_average_precision_and_ties_stand_by_index(case: tuple[torch.Tensor, np.ndarray]) -> None:
    z, y = case
    unit = torch.nn.functional.normalize(z.double(), dim=1)
    near, others = (unit @ unit.T).numpy(), ~np.eye(len(y), dtype=bool)
    asking = [i for i in range(len(y)) if (y == y[i]).sum() > 1]
    expected = [average_precision_score((y == y[i])[others[i]], near[i][others[i]]) for i in asking]
    assert measured(z, ByLabel(y), [wanted_metric("mean_ap")])["mean_ap"].value == pytest.approx(np.mean(expected))
    same = torch.ones(4, 2)  # all equally near: in the order of the references
    found = measured(same[:1], ByLabel(np.array([1]), np.array([0, 1, 0, 1])), [wanted_metric(n) for n in TIED], references=same)
    assert {name: one.value for name, one in found.items()} == pytest.approx(TIED)


@pytest.mark.parametrize("name", METRICS.names())
def test_a_metric_says_how_deep_it_looks(name: str) -> None:
    entry = METRICS.entry(name)
    assert entry.facts["depth"] in ("k", "kin", "all", "none")
    assert ("k" in entry.parameters) == (entry.facts["depth"] == "k")
    assert len(entry.summary) <= 90
    assert all(parameter.help for parameter in entry.parameters.values())


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_one_class_is_perfect_and_a_sample_of_its_own_is_left_out(name: str, metric: str) -> None:
    z = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    wanted = [wanted_metric(name)]
    assert measured(z, ByLabel(np.zeros(30, dtype=np.int64)), wanted, metric=metric)[name].value == pytest.approx(1)  # type: ignore[arg-type]
    one = measured(z, ByLabel(np.array([1] + [0] * 29)), wanted)[name]
    assert (one.queries, one.left_out) == (29, 1)
    with pytest.raises(DataError, match="none of the 30 queries has kin among the 29 references"):
        measured(z, ByLabel(np.arange(30)), wanted)


@pytest.mark.parametrize("name", [name for name in RANKED if name != "knn_accuracy"])
def test_labels_and_the_relation_of_labels_agree(name: str, case: tuple[torch.Tensor, np.ndarray]) -> None:
    z, y = case
    relation = ByRelation(constructors.labels(torch.from_numpy(y)), itself=True)
    assert measured(z, relation, [wanted_metric(name)]) == measured(z, ByLabel(y), [wanted_metric(name)])
    # other samples as references
    gallery = constructors.labels(torch.from_numpy(y[:9]), torch.from_numpy(y[9:]))
    found = measured(z[:9], ByRelation(gallery), [wanted_metric(name)], references=z[9:])
    assert found == measured(z[:9], ByLabel(y[:9], y[9:]), [wanted_metric(name)], references=z[9:])


def test_equally_near_ones_share_the_last_place_in_lrap() -> None:
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.integers(0, 2, (25, 2)).astype(np.float32))
    y = rng.integers(0, 3, 25)
    others = ~np.eye(25, dtype=bool)
    far = torch.cdist(z, z).numpy()[others].reshape(25, 24)
    expected = label_ranking_average_precision_score((y[:, None] == y)[others].reshape(25, 24), -far)
    assert measured(z, ByLabel(y), [wanted_metric("lrap")], metric="euclidean")["lrap"].value == pytest.approx(expected)


def test_metrics_are_named_with_their_k() -> None:
    assert wanted_metric("recall_at_5").settings == {"k": 5}
    assert wanted_metric("recall_at_k").settings == {"k": 1}
    assert (wanted_metric("map_at_r").name, wanted_metric("map_at_r").settings) == ("map_at_r", {})
    assert wanted_metric("ndcg_at_5:gain=binary").settings == {"k": 5, "gain": "binary"}
    assert wanted_metric("nmi:seed=3").settings == {"seed": 3}
    for bad, message in (
        ("ndcg_at_5:gian=binary", "gain"),
        ("nmi:seed", "not setting=value"),
        ("recal_at_1", "did you mean.*recall_at_k"),
        ("recall_at_0", "k must be at least 1"),
        ("map_at_3", "map_at_r"),
    ):
        with pytest.raises(ConfigError, match=message):
            wanted_metric(bad)


def test_what_cannot_be_measured_is_refused(case: tuple[torch.Tensor, np.ndarray]) -> None:
    z, y = case
    with pytest.raises(ConfigError, match="recall_at_24 looks at 24 neighbours and there are 23: lower k"):
        measured(z, ByLabel(y), [wanted_metric("recall_at_24")])
    relation = ByRelation(constructors.labels(torch.from_numpy(y)), itself=True)
    with pytest.raises(ConfigError, match="nmi compares clusters with labels"):
        measured(z, relation, [wanted_metric("nmi")])
    with pytest.raises(ConfigError, match="knn_accuracy needs labels"):
        measured(z, relation, [wanted_metric("knn_accuracy")])


def test_metrics_and_graphs_are_free_of_torch_until_something_is_ranked() -> None:
    code = "import sys, json, kinshot.kin.graph; from kinshot.kin.metrics import METRICS; [METRICS.get(n) for n in METRICS.names()]; "
    code += "print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) is False
