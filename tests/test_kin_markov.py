"""Markov clusters against a slow dense reference, and on graphs whose clusters are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kinshot
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_generator
from kinshot.kin.markov import markov_clusters, mutual_links


def blobs(count=6, members=7, dim=16, spread=0.2, seed=0):
    generator = keyed_generator(seed, "blobs")
    centers = torch.randn(count, dim, generator=generator)
    y = torch.arange(count).repeat_interleave(members)
    return centers[y] + spread * torch.randn(count * members, dim, generator=generator), y


def dense_links(z, k, temperature):
    z = z.double().numpy()
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine = z @ z.T
    np.fill_diagonal(cosine, -np.inf)
    near = np.zeros_like(cosine, dtype=bool)
    for row, values in enumerate(cosine):
        near[row, np.argsort(-values, kind="stable")[:k]] = True
    return np.where(near & near.T, np.exp((cosine - 1) / temperature), 0.0)


def dense_clusters(links, inflation):
    """The same by plain matrices, one round after the other, without dropping anything that counts."""
    own = links.max(0)
    flow = links + np.diag(np.where(own > 0, own, 1.0))
    flow = flow / flow.sum(0)
    for _ in range(60):
        flow = (flow @ flow) ** inflation
        flow = flow / flow.sum(0)
        flow[flow < 1e-4] = 0
        flow = flow / flow.sum(0)
    reach = (flow + flow.T > 0).astype(float) + np.eye(len(flow))
    for _ in range(8):
        reach = (reach @ reach > 0).astype(float)
    return reach > 0


def test_links_are_those_of_a_dense_reference():
    z, _ = blobs()
    assert np.allclose(mutual_links(z, 5, 0.1).toarray(), dense_links(z, 5, 0.1), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("k", "inflation"), [(3, 1.4), (5, 1.8), (12, 2.5)])
def test_clusters_are_those_of_a_dense_reference(k, inflation):
    z, _ = blobs(spread=0.5)
    found = markov_clusters(z, neighbors=k, inflation=inflation)
    assert np.array_equal((found[:, None] == found).numpy(), dense_clusters(dense_links(z, k, 0.1), inflation))


def test_clear_groups_are_found_without_saying_how_many():
    z, y = blobs(spread=0.1)
    assert torch.equal(markov_clusters(z, neighbors=6), y)


def test_who_has_no_mutual_neighbor_is_alone():
    z = torch.tensor([[1.0, 0.0], [0.99, 0.01], [0.0, 1.0]])
    assert markov_clusters(z, neighbors=1).tolist() == [0, 0, 1]


def test_larger_inflation_gives_no_fewer_clusters():
    z, _ = blobs(spread=0.8)
    counts = [int(markov_clusters(z, neighbors=8, temperature=0.3, inflation=i).max()) for i in (1.2, 2.0, 4.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_the_order_of_samples_does_not_matter():
    z, _ = blobs(spread=0.5)
    rows = torch.randperm(len(z), generator=keyed_generator(1, "rows"))
    one, other = markov_clusters(z)[rows], markov_clusters(z[rows])
    assert torch.equal(one[:, None] == one, other[:, None] == other)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_samples(count):
    assert len(markov_clusters(torch.ones(count, 3))) == count


@pytest.mark.parametrize("wrong", [{"neighbors": 0}, {"temperature": 0.0}, {"inflation": 1.0}, {"inflation": float("nan")}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        kinshot.kin.markov_clusters(torch.ones(4, 2), **wrong)


def test_embeddings_that_are_not_finite_are_refused():
    with pytest.raises(DataError):
        markov_clusters(torch.tensor([[1.0, 0.0], [float("nan"), 0.0], [0.0, 1.0]]))
