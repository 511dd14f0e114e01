"""A graph with three labellings, of which the nodes' texts show one: which labels does learning from the graph help, which does it hurt?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets import SOURCES
from kinshot.datasets.orbits import orbit_counts
from kinshot.datasets.text import TextSource
from kinshot.datasets.topic_text import ALPHABET, check_text_settings, topic_model, write_sentences
from kinshot.kin.graph import from_edges

_CYCLE, _GRAPHLETS = 36, 9
_SPACING = _CYCLE // _GRAPHLETS
_EGO_HOPS = 3
_RESTARTS, _ROUNDS = 50, 100

# Connected graphs of 3 to 5 nodes, as links between digits.
_CONNECTED = (
    "01 12",  # paths
    "01 12 23",
    "01 12 23 34",
    "01 12 02",  # cycles
    "01 12 23 30",
    "01 12 23 34 40",
    "01 02 03",  # stars
    "01 02 03 04",
    "01 12 02 23",  # triangle with a tail of one, of two; with two tails from one corner, from two corners (bull)
    "01 12 02 23 34",
    "01 12 02 23 24",
    "01 12 02 13 24",
    "01 12 23 30 02",  # four nodes: two triangles that share an edge, all linked
    "01 02 03 12 13 23",
    "01 12 02 23 34 24",  # five nodes: two triangles that share a node, square with a tail, house, K(2,3), wheel, all linked
    "01 12 23 30 34",
    "01 12 23 30 24 34",
    "02 03 04 12 13 14",
    "01 12 23 30 04 14 24 34",
    "01 02 03 04 12 13 14 23 24 34",
)


@dataclass(frozen=True)
class Topology:
    """The graph and which piece each node belongs to.

    Attributes:
        edges: int64 (m, 2), undirected, each once, smaller node first.
        piece: int64 (n,), 0 for the cycle and g for the g-th graphlet.
    """

    edges: np.ndarray
    piece: np.ndarray


@SOURCES.register("task_topology", kind="tokens")
def task_topology(
    *,
    text: Literal["motif", "structural", "ego"] = "motif",
    roles: int = 3,
    regions: int = 6,
    topic_share: float = 0.4,
    length: int = 48,
    seed: int = 0,
) -> TextSource:
    """A cycle of 36 nodes with nine graphlets attached, a sentence at each node, and three labellings of the nodes.

    Every fourth node of the cycle is linked to one node of a graphlet, a connected graph of 3 to 5 nodes. The labellings:
    motif (the cycle is one class, each graphlet another: ten classes); structural (the role that a node plays: clusters of its
    graphlet degree vector); ego (where a node lies: clusters of the sets of nodes within three hops). Motif and ego are
    locally consistent: a node mostly has its neighbors' label. Structural is not. Each label of the labelling chosen by `text`
    has a topic, and a node's sentence is of its label's topic.

    The released code takes sentences from Wikipedia with fitted topics and random graphlets of networkx's atlas; ours are
    made-up words (`topic_text`) and a fixed list of graphs. Logarithms of the graphlet counts are clustered, not the counts, and
    graphlets have up to four nodes. The numbers of roles and regions used for the published table are unknown to us.

    Paper: McDermott, Yap, Szolovits, Zitnik 2023, Structure-inducing pre-training, arXiv:2103.10334

    Args:
        text: the labelling that the sentences reflect; it is also the source's labels.
        roles: number of classes of the labelling structural.
        regions: number of classes of the labelling ego.
        topic_share: share of a sentence's words that come from its topic; the rest are function words.
        length: the most characters of a sentence.
        seed: graph, words and sentences are drawn from it.
    """
    check_text_settings(topic_share, length)
    if not 2 <= roles <= 8 or not 2 <= regions <= 18:
        raise ConfigError(f"task_topology: roles must be in 2..8 and regions in 2..18, got {roles} and {regions}")
    topology = draw_topology(seed)
    attributes = labellings(topology, roles, regions, seed)
    names = {
        "motif": ["cycle", *(f"graphlet {g}" for g in range(1, _GRAPHLETS + 1))],
        "structural": [f"role {c}" for c in range(roles)],
        "ego": [f"region {c}" for c in range(regions)],
    }
    mixture = np.eye(len(names[text]))[attributes[text]]
    return TextSource(
        write_sentences(topic_model(len(names[text]), seed), mixture, seed, topic_share=topic_share, length=length),
        attributes[text],
        names[text],
        alphabet=ALPHABET,
        length=length,
        name=f"task_topology/{text}",
        attributes=attributes,
        attribute_names=names,
        graph=from_edges(topology.edges, n=len(topology.piece)),
    )


def draw_topology(seed: int) -> Topology:
    """The cycle, and at every fourth of its nodes a graphlet hanging by one of its own nodes, both drawn from the seed."""
    rng = keyed_numpy(seed, "topology")
    ring = np.arange(_CYCLE)
    edges, pieces, count = [np.stack([ring, (ring + 1) % _CYCLE], axis=1)], [np.zeros(_CYCLE, dtype=np.int64)], _CYCLE
    for number in range(_GRAPHLETS):
        links = np.array([[int(link[0]), int(link[1])] for link in _CONNECTED[rng.integers(len(_CONNECTED))].split()])
        size = int(links.max()) + 1
        edges += [links + count, np.array([[number * _SPACING, count + rng.integers(size)]])]
        pieces.append(np.full(size, number + 1))
        count += size
    return Topology(np.sort(np.concatenate(edges), axis=1), np.concatenate(pieces))


def labellings(topology: Topology, roles: int, regions: int, seed: int) -> dict[str, np.ndarray]:
    """The labellings motif, structural and ego: int64 (n,) each, classes numbered in the order of their first node."""
    nodes = len(topology.piece)
    counts = np.log1p(orbit_counts(topology.edges, nodes))
    near = within_hops(topology.edges, nodes, _EGO_HOPS).astype(np.float64)
    return {
        "motif": topology.piece,
        "structural": cluster(counts, roles, keyed_numpy(seed, "roles")),
        "ego": cluster(near, regions, keyed_numpy(seed, "regions")),
    }


def within_hops(edges: np.ndarray, nodes: int, hops: int) -> np.ndarray:
    """Which nodes lie within `hops` links of each node, itself included: bool (nodes, nodes). For small graphs."""
    near = np.eye(nodes, dtype=bool)
    one = near.copy()
    one[edges[:, 0], edges[:, 1]] = one[edges[:, 1], edges[:, 0]] = True
    for _ in range(hops):
        near = near @ one
    return near


def cluster(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """The best of 50 runs of k-means from k-means++ starts: int64 (n,), clusters numbered in the order of their first point.

    Args:
        points: float64 (n, d), n small; at least `clusters` different ones.
        clusters: how many.
        rng: source of the starts.
    """
    runs = [_run_kmeans(points, _spread_start(points, clusters, rng)) for _ in range(_RESTARTS)]
    labels = min(runs, key=lambda run: run[0])[1]
    first = np.sort(np.unique(labels, return_index=True)[1])
    rank = np.empty(clusters, dtype=np.int64)
    rank[labels[first]] = np.arange(len(first))
    return rank[labels]


def _spread_start(points: np.ndarray, clusters: int, rng: np.random.Generator) -> np.ndarray:
    chosen = [int(rng.integers(len(points)))]
    for _ in range(clusters - 1):
        gaps = _squared_distances(points, points[chosen]).min(axis=1)
        chosen.append(int(rng.choice(len(points), p=gaps / gaps.sum())))
    return points[chosen]


def _run_kmeans(points: np.ndarray, centers: np.ndarray) -> tuple[float, np.ndarray]:
    """(sum of squared distances, labels) at the end of Lloyd's iterations."""
    labels = _squared_distances(points, centers).argmin(axis=1)
    for _ in range(_ROUNDS):
        members = np.eye(len(centers))[labels]
        sizes = members.sum(axis=0)
        centers = np.where(sizes[:, None] > 0, members.T @ points / np.maximum(sizes, 1)[:, None], centers)
        moved = _squared_distances(points, centers).argmin(axis=1)
        if np.array_equal(moved, labels):
            break
        labels = moved
    return float(_squared_distances(points, centers).min(axis=1).sum()), labels


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(a[:, None, :] - b[None, :, :]).sum(axis=2)
