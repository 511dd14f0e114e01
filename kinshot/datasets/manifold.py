"""Sentences placed on a surface and linked when they lie near each other: what is said changes smoothly along the graph."""

from __future__ import annotations

from typing import Literal

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets import SOURCES
from kinshot.datasets.surfaces import corner_shares, named_surface, radius_edges
from kinshot.datasets.text import TextSource
from kinshot.datasets.topic_text import ALPHABET, check_text_settings, topic_model, write_sentences
from kinshot.kin.graph import from_edges

# As published: number of nodes and radius.
_PUBLISHED = {"plane": (100, 0.15), "sphere": (300, 0.2), "torus": (300, 0.2), "moebius": (300, 0.15)}
_MOST_NODES = 2000


@SOURCES.register("manifold", kind="tokens")
def manifold(
    *,
    surface: Literal["plane", "sphere", "torus", "moebius"] = "plane",
    nodes: int = 0,
    radius: float = 0.0,
    topic_share: float = 0.4,
    length: int = 48,
    seed: int = 0,
) -> TextSource:
    """Sentences at random points of a plane, sphere, torus or Moebius strip, linked within a radius along the surface.

    The surface is cut into triangles with sides of length 1; each corner has a topic (4, 6, 9 or 7 of them). A point's mixture of
    topics is its barycentric coordinates in its triangle, its label the largest share, its sentence drawn from the mixture.

    The published study takes sentences from Wikipedia whose fitted mixture of three topics gives the point. Ours draws points
    uniformly and writes the sentence (`topic_text`). Only the plane's two triangles are known to be the published surface; ours give
    mean degrees of 5 to 7 at the published numbers of nodes and radii, and about the plane's published homophily.

    Paper: McDermott, Yap, Szolovits, Zitnik 2023, Structure-inducing pre-training, arXiv:2103.10334

    Args:
        surface: plane (two triangles), sphere (octahedron), torus (flat, 18 triangles) or moebius (seven triangles).
        nodes: number of points; 0 for the published number, 100 on the plane and 300 elsewhere.
        radius: largest distance of linked points; 0 for the published one, .15 on plane and moebius, .2 on sphere and torus.
        topic_share: share of a sentence's words that come from topics; the rest are function words.
        length: the most characters of a sentence.
        seed: points, words and sentences are drawn from it.

    >>> len(kinshot.sources.manifold())
    100
    """
    check_text_settings(topic_share, length)
    count, reach = nodes or _PUBLISHED[surface][0], radius or _PUBLISHED[surface][1]
    if not 2 <= count <= _MOST_NODES or not 0 < reach <= 10:
        raise ConfigError(f"manifold: nodes must be 0 or in 2..{_MOST_NODES} and radius in 0..10, got {nodes} and {radius}")
    where = named_surface(surface)
    points = where.sample(count, keyed_numpy(seed, "points"))
    shares = corner_shares(where, points)
    labels = shares.argmax(axis=1)
    names = [f"topic {topic}" for topic in range(len(where.corners))]
    return TextSource(
        write_sentences(topic_model(len(names), seed), shares, seed, topic_share=topic_share, length=length),
        labels,
        names,
        alphabet=ALPHABET,
        length=length,
        name=f"manifold/{surface}",
        attributes={"topic": labels},
        attribute_names={"topic": names},
        graph=from_edges(radius_edges(where, points, reach), n=count),
    )
