"""InterCLR: bank, k-means and the upkeep of centroids and small clusters, against float64 loops."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, KinshotError
from kinshot.objectives.common import unit
from kinshot.ssl.interclr.bank import Bank, fill_bank_, last_occurrence, update_features_, update_labels_
from kinshot.ssl.interclr.kmeans import cluster_means, kmeans, spread_rows
from kinshot.ssl.interclr.maintenance import cluster_health, repair_small_clusters_, update_centroids_
from kinshot.ssl.interclr.settings import StepSettings
from kinshot.ssl.interclr.step import advance_
from tests import reference_interclr as ref
from tests.banks import arrays, consistent, generator, make_bank, rows


@pytest.mark.parametrize("momentum", [1.0, 0.5, 0.0])
def test_feature_update_equals_loops_with_repeated_indices(momentum):
    bank = make_bank()
    indices, keys = torch.tensor([3, 9, 3, 59, 9, 3]), rows(6, 5, seed=7)
    expected = ref.update_features(bank.features.numpy(), indices.tolist(), keys.numpy(), momentum)
    update_features_(bank, indices, keys, momentum)
    np.testing.assert_allclose(bank.features.numpy(), expected, atol=1e-14)


def test_label_update_equals_loops_and_keeps_counts():
    bank = make_bank()
    bank.centroids.copy_(rows(4, 5, seed=3))
    indices = torch.tensor([3, 9, 3, 59, 9, 0, 17])
    expected, ratio = ref.update_labels(*arrays(bank), indices.tolist())
    assert update_labels_(bank, indices).item() == pytest.approx(ratio)
    assert ratio > 0
    assert bank.labels.tolist() == expected.tolist()
    assert consistent(bank)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_last_occurrence(indices):
    expected = [max(p for p, other in enumerate(indices) if other == i) for i in indices]
    assert last_occurrence(torch.tensor(indices)).tolist() == expected


def test_fill_bank_normalises_and_clusters_everything():
    bank = Bank.unfilled(40, 5, 6).double()
    assert not bank.filled
    fill_bank_(bank, 3 * rows(40, 5), generator())
    assert bank.filled
    torch.testing.assert_close(bank.features, unit(rows(40, 5)))
    assert int(bank.counts.min()) > 0
    assert consistent(bank)
    np.testing.assert_allclose(bank.centroids, ref.update_centroids(*arrays(bank)), atol=1e-14)
    again = Bank.unfilled(40, 5, 6).double()
    again.relabel_(torch.arange(40), bank.labels)
    fill_bank_(again, rows(40, 5), generator(9), keep_labels=True)
    assert torch.equal(again.labels, bank.labels)


def test_kmeans_equals_loops_from_the_same_first_centroids():
    x = rows(50, 3)
    first = torch.randperm(50, generator=generator(4))[:3]
    expected, means = ref.lloyd(x.numpy(), x[first].numpy(), 20)
    labels, centroids = kmeans(x, 3, generator=generator(4))
    assert labels.tolist() == expected.tolist()
    np.testing.assert_allclose(centroids, means, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(0, 20), st.integers(1, 3), st.integers(0, 99))
def test_kmeans_leaves_no_cluster_empty_even_among_copies(clusters, extra, distinct, seed):
    x = torch.arange(clusters + extra).remainder(distinct).double()[:, None]
    labels, _ = kmeans(x, clusters, generator=generator(seed))
    assert torch.bincount(labels, minlength=clusters).min() > 0
    assert torch.equal(labels, kmeans(x, clusters, generator=generator(seed))[0])


def test_kmeans_starts_from_a_given_assignment_and_refuses_too_many_clusters():
    x = torch.cat([rows(10, 2) + 10, rows(10, 2) - 10])
    start = (torch.arange(20) < 10).long()
    labels, centroids = kmeans(x, 2, generator=generator(), assignment=start)
    assert torch.equal(labels, start)
    torch.testing.assert_close(centroids, cluster_means(x, start, 2))
    with pytest.raises(ConfigError, match="clusters"):
        kmeans(x, 21, generator=generator())


def test_centroid_update_equals_loops_and_keeps_the_centroids_of_empty_clusters():
    bank = make_bank(sizes=[10, 0, 5, 8])
    bank.centroids.copy_(rows(4, 5, seed=5))
    expected = ref.update_centroids(*arrays(bank))
    update_centroids_(bank)
    np.testing.assert_allclose(bank.centroids, expected, atol=1e-14)
    torch.testing.assert_close(bank.centroids[1], rows(4, 5, seed=5)[1])


@pytest.mark.parametrize("sizes", [[30, 2, 20, 0, 12], [3, 40, 3, 3], [5, 5, 60], [0, 0, 50, 0]])
@pytest.mark.parametrize("seed", [0, 1])
def test_small_clusters_are_repaired_as_by_loops(sizes, seed):
    bank = make_bank(sizes=sizes, seed=seed)

    def first_two(n):
        return torch.randperm(n, generator=generator(0))[:2].numpy()

    labels, centroids = ref.repair(bank.features.numpy(), bank.labels.numpy(), bank.centroids.numpy(), 6, first_two)
    assert repair_small_clusters_(bank, 6) == sum(s < 6 for s in sizes)
    assert bank.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(bank.centroids, centroids, atol=1e-12)
    assert consistent(bank)
    assert int(cluster_health(bank)["cluster_empty"]) == 0


def test_a_split_starts_from_rows_that_are_drawn_by_their_distance():
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    found = [spread_rows(points, 2, generator(seed)).tolist() for seed in range(4000)]
    assert all(first != second for first, second in found)
    expected = np.zeros((5, 5))
    for first in range(5):
        square = ((points - points[first]) ** 2).sum(1).numpy()
        expected[first] = square / square.sum() / 5
    share = np.zeros((5, 5))
    for first, second in found:
        share[first, second] += 1 / len(found)
    np.testing.assert_allclose(share, expected, atol=0.03)  # more than four standard deviations of the largest
    assert sorted(spread_rows(points, 5, generator()).tolist()) == [0, 1, 2, 3, 4]  # all different, though three rows are the same


def restless() -> Bank:
    """One cluster of two large groups and three rows far out, and one that is too small."""
    x = rows(75, 4, seed=3) * 0.02
    x[:40, 0] += 1.0
    x[40:72, 0] += 1.0
    x[40:72, 1] += 0.7
    x[72:, 2] -= 1.0
    labels = torch.zeros(75, dtype=torch.int64)
    labels[72:] = 1
    return Bank(x, labels, 2)


def test_splits_do_not_go_on_for_ever():
    def repaired(draws: bool) -> list[int]:
        bank = restless()
        return [repair_small_clusters_(bank, 6, generator=generator(step) if draws else None) for step in range(40)]

    assert all(repaired(draws=False))  # as in the released code
    ended = repaired(draws=True)
    assert not any(ended[20:])


def test_labels_and_counts_change_together_alone():
    bank = make_bank(sizes=[10, 3, 5])
    for name in ("labels", "counts"):
        with pytest.raises(KinshotError, match="relabel_"):
            setattr(bank, name, torch.zeros_like(getattr(bank, name)))
    bank.relabel_(torch.tensor([0, 1, 2, 1]), torch.tensor([2, 0, 1, 1]))
    assert bank.labels[:3].tolist() == [2, 1, 1]
    assert consistent(bank)
    moved = copy.deepcopy(bank).to(torch.float32)
    moved.load_state_dict(bank.state_dict())
    assert torch.equal(moved.labels, bank.labels)


def test_repair_touches_nothing_while_every_cluster_is_large_enough():
    bank = make_bank(sizes=[10, 11, 12])
    before = copy.deepcopy(bank.state_dict())
    assert repair_small_clusters_(bank, 10) == 0
    assert all(torch.equal(v, before[k]) for k, v in bank.state_dict().items())


def test_repair_copes_when_every_cluster_is_small():
    bank = make_bank(sizes=[3, 4, 2])
    assert repair_small_clusters_(bank, 100) == 2
    assert consistent(bank)
    assert int(bank.counts.min()) > 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_counts_stay_true_through_many_steps(seed, minimum):
    bank = make_bank(n=48, k=6, seed=seed)
    chosen = StepSettings(negatives=4, pool=10, min_cluster=minimum, centroid_interval=2)
    for step in range(6):
        indices = torch.randint(0, 48, (10,), generator=generator(seed + step))
        advance_(bank, indices, rows(10, 5, seed=seed + 50 + step), step, chosen, generator(step))
        assert consistent(bank)
        assert int(bank.counts.min()) > 0
