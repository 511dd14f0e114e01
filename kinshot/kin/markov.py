"""Clusters of a graph of mutual nearest neighbors, by flow: nobody says how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.neighbors.ranking import rank

if TYPE_CHECKING:
    from scipy.sparse import csc_array

_ROUNDS = 60
_LEAST = 1e-4
"""Flow that is dropped: a column sums to 1, so that a thousandth of a link of an average cluster is far below what decides."""
_STILL = 1e-3
"""Largest change of a flow in a round after which nothing moves any more."""


def markov_clusters(z: Tensor, *, neighbors: int = 20, temperature: float = 0.1, inflation: float = 1.8) -> Tensor:
    """Cluster of each sample, int64 (N,), numbered by their first members; a sample without a mutual neighbor is one of its own.

    Samples are linked that count each other among their nearest by cosine, with weights exp((cosine - 1) / temperature). Flow spreads
    along links, strong flows are made stronger and weak ones weaker, until each sample's flow ends in one cluster.

    Paper: van Dongen, "Graph clustering by flow simulation", PhD thesis, University of Utrecht 2000 (Markov clustering)

    Args:
        z: embeddings, float (N, D).
        neighbors: k, nearest samples considered in each direction; no more than N - 1 count.
        temperature: of the links' weights, above 0; small ones let close pairs alone decide.
        inflation: power that flows are raised to, above 1; larger ones make more and smaller clusters.

    Raises:
        ConfigError: a setting out of range.
        DataError: embeddings that are not a finite matrix.

    >>> kinshot.kin.markov_clusters(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [-1.0, -1.0]]), neighbors=1).tolist()
    [0, 0, 1, 1, 2]
    """
    check_markov(neighbors, temperature, inflation)
    return flow_clusters(mutual_links(z, neighbors, temperature), inflation)


def flow_clusters(links: csc_array, inflation: float) -> Tensor:
    """The same of links (N, N), as `mutual_links` gives them: several inflations divide one graph more or less finely."""
    if links.nnz == 0:
        return torch.arange(links.shape[0])
    from scipy.sparse.csgraph import connected_components

    _, found = connected_components(_settled(links, inflation), directed=False)
    _, first, members = np.unique(found, return_index=True, return_inverse=True)
    return torch.from_numpy(np.argsort(np.argsort(first))[members].astype(np.int64))


def check_markov(neighbors: int, temperature: float, inflation: float) -> None:
    """Raises ConfigError for a setting of `markov_clusters` out of range."""
    if neighbors < 1 or not temperature > 0 or not inflation > 1:
        raise ConfigError(
            "markov clusters: expected neighbors from 1, temperature above 0 and inflation above 1, "
            f"got {neighbors}, {temperature} and {inflation}"
        )


def mutual_links(z: Tensor, neighbors: int, temperature: float) -> csc_array:
    """Links between samples that count each other among their `neighbors` nearest, by cosine: a symmetric float64 matrix (N, N)."""
    from scipy.sparse import csc_array

    count, neighbors = len(z), min(neighbors, len(z) - 1)
    if neighbors < 1:
        return csc_array((count, count))
    ranked = rank(z, k=neighbors)
    columns = np.repeat(np.arange(count), neighbors)
    weights = np.exp((ranked.value.double().numpy().ravel() - 1) / temperature)
    near = csc_array((weights, (ranked.index.numpy().ravel(), columns)), shape=(count, count))
    return csc_array(near.minimum(near.T))


def _settled(links: csc_array, inflation: float) -> csc_array:
    """Flows, column by column of sum 1, that spreading and inflating change no more."""
    from scipy.sparse import csc_array, diags_array

    strongest = links.max(axis=0).toarray().ravel()
    # each sample is linked to itself as strongly as to its nearest, so that flow does not leave a pair by turns
    flow = _unit(csc_array(links + diags_array(np.where(strongest > 0, strongest, 1.0))))
    for _ in range(_ROUNDS):
        before, flow = flow, csc_array(flow @ flow)
        flow.data **= inflation
        flow = _unit(flow)
        flow.data[flow.data < _LEAST] = 0
        flow.eliminate_zeros()
        flow = _unit(flow)
        if abs(flow - before).max() < _STILL:
            break
    return flow


def _unit(flow: csc_array) -> csc_array:
    """The same with columns of sum 1."""
    flow.data /= np.repeat(flow.sum(axis=0), np.diff(flow.indptr))
    return flow
