"""Transductive heads against slow references, one episode at a time in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.fewshot.heads.alpha_tim import alpha_tim
from kinshot.fewshot.heads.bd_cspn import bd_cspn
from kinshot.fewshot.heads.laplacian_shot import laplacian_shot
from kinshot.fewshot.heads.pt_map import pt_map
from kinshot.fewshot.heads.soft_kmeans import soft_kmeans
from kinshot.fewshot.heads.tim import tim
from kinshot.fewshot.heads.transductive_finetune import transductive_finetune
from tests import reference_transductive as reference

WAYS = 3
TRANSFORMS = ["none", "l2n", "cl2n"]


def _compare(head, expected_of, seed, *, kind="l2n", positive=False, within=1e-9, **settings):
    """The batched head against `expected_of` on each episode's transformed features."""
    support, labels, query, mean = reference.random_episodes(seed, ways=WAYS, positive=positive)
    got = head(*reference.tensors(support, labels, query), WAYS, transform=kind, base_mean=torch.from_numpy(mean), **settings).numpy()
    s, q = reference.moved(support, kind, mean), reference.moved(query, kind, mean)
    expected = np.stack([expected_of(s[e], labels[e], q[e]) for e in range(len(s))])
    np.testing.assert_allclose(got, expected, rtol=within, atol=within)
    assert np.array_equal(got.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("variant", ["within", "across"])
@pytest.mark.parametrize("shift_query", [False, True])
@pytest.mark.parametrize(("distance", "epsilon", "kind"), [("cosine", 10.0, "l2n"), ("euclidean", 1.0, "cl2n"), ("squared", 3.0, "none")])
def test_bd_cspn(variant, shift_query, distance, epsilon, kind):
    settings = {"variant": variant, "epsilon": epsilon, "shift_query": shift_query, "distance": distance}
    _compare(bd_cspn, lambda s, y, q: reference.bd_cspn(s, y, q, WAYS, **settings), 0, kind=kind, **settings)


def test_the_two_rectifications_differ():
    support, labels, query = reference.tensors(*reference.random_episodes(0, ways=WAYS)[:3])
    scores = [bd_cspn(support, labels, query, WAYS, variant=v, distance="euclidean") for v in ("within", "across")]
    assert (scores[0] - scores[1]).abs().max() > 0.05


@pytest.mark.parametrize("rectify", ["across", "within", "none"])
@pytest.mark.parametrize(
    ("lam", "neighbors", "steps", "tolerance"), [(0.7, 2, 20, 1e-6), (0.1, 1, 10, 1e-4), (2.0, 4, 7, 0.0), (0.5, 30, 3, 1e-6)]
)
def test_laplacian_shot(rectify, lam, neighbors, steps, tolerance):
    settings = {"lam": lam, "neighbors": neighbors, "steps": steps, "tolerance": tolerance, "rectify": rectify, "epsilon": 10.0}
    _compare(laplacian_shot, lambda s, y, q: reference.laplacian_shot(s, y, q, WAYS, **settings), 1, kind="cl2n", **settings)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_laplacian_shot_transforms(kind):
    settings = {"lam": 0.7, "neighbors": 2, "steps": 20, "tolerance": 1e-6, "rectify": "within", "epsilon": 1.0}
    _compare(laplacian_shot, lambda s, y, q: reference.laplacian_shot(s, y, q, WAYS, **settings), 2, kind=kind, **settings)


@pytest.mark.parametrize("variant", ["squared", "cosine"])
@pytest.mark.parametrize(
    ("kind", "temperature", "weights", "lr"),
    [("l2n", 15.0, (0.1, 1.0, 0.1), 1e-3), ("none", 1.0, (1.0, 0.3, 0.5), 1e-2), ("cl2n", 6.0, (0.0, 1.0, 0.0), 1e-3)],
)
def test_tim(variant, kind, temperature, weights, lr):
    descent = {"variant": variant, "temperature": temperature, "steps": 25, "lr": lr}
    names = dict(zip(("cross_entropy", "marginal", "conditional"), weights, strict=True))
    _compare(
        tim,
        lambda s, y, q: reference.descend(s, y, q, WAYS, weights=weights, entropy=reference.shannon, **descent),
        3,
        kind=kind,
        within=1e-8,
        **descent,
        **names,
    )


@pytest.mark.parametrize("variant", ["squared", "cosine"])
@pytest.mark.parametrize("alpha", [0.5, 2.0, 7.0])
def test_alpha_tim(variant, alpha):
    descent = {"variant": variant, "temperature": 6.0, "steps": 25, "lr": 1e-3}
    _compare(
        alpha_tim,
        lambda s, y, q: reference.descend(s, y, q, WAYS, weights=(1, 1, 1), entropy=reference.tsallis(alpha), **descent),
        4,
        alpha=alpha,
        within=1e-8,
        **descent,
    )


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("kind", ["l2n", "none"])
def test_transductive_finetune(affine, kind, distance):
    descent = {"temperature": 5.0, "steps": 25, "lr": 1e-2}
    _compare(
        transductive_finetune,
        lambda s, y, q: reference.descend(
            s, y, q, WAYS, weights=(1, 0, 0.7), entropy=reference.shannon, variant=distance, affine=affine, **descent
        ),
        5,
        kind=kind,
        within=1e-8,
        entropy=0.7,
        affine=affine,
        distance=distance,
        **descent,
    )


@pytest.mark.parametrize("balanced_prior", [False, True])
@pytest.mark.parametrize("centre", ["sets", "none"])
@pytest.mark.parametrize(("positive", "lam", "rate", "power", "kind"), [(True, 10.0, 0.2, 0.5, "none"), (False, 3.0, 0.4, 0.7, "l2n")])
def test_pt_map(balanced_prior, centre, positive, lam, rate, power, kind):
    settings = {"balanced_prior": balanced_prior, "centre": centre, "lam": lam, "rate": rate, "power": power, "steps": 6}
    _compare(
        pt_map,
        lambda s, y, q: reference.pt_map(s, y, q, WAYS, **settings),
        6,
        kind=kind,
        positive=positive,
        within=1e-8,
        tolerance=1e-12,
        **settings,
    )


@pytest.mark.parametrize("distance", ["cosine", "squared"])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_soft_kmeans(distance, shift, kind):
    settings = {"steps": 4, "temperature": 3.0, "distance": distance, "shift": shift}
    _compare(soft_kmeans, lambda s, y, q: reference.soft_kmeans(s, y, q, WAYS, **settings), 7, kind=kind, **settings)


@pytest.mark.parametrize(
    ("head", "settings", "message"),
    [
        (bd_cspn, {"epsilon": -1.0}, "epsilon"),
        (laplacian_shot, {"neighbors": 0}, "neighbors"),
        (laplacian_shot, {"lam": -0.1}, "lam"),
        (tim, {"temperature": 0.0}, "temperature"),
        (tim, {"steps": -1}, "steps"),
        (alpha_tim, {"alpha": 0.0}, "alpha"),
        (pt_map, {"rate": 1.5}, "rate"),
        (pt_map, {"tolerance": 0.0}, "tolerance"),
        (soft_kmeans, {"temperature": -1.0}, "temperature"),
        (transductive_finetune, {"lr": 0.0}, "lr"),
        (tim, {"transform": "cl2n"}, "base"),
    ],
)
def test_bad_settings_are_named(head, settings, message):
    support, labels, query = reference.tensors(*reference.random_episodes(0, ways=WAYS)[:3])
    with pytest.raises(ConfigError, match=message):
        head(support, labels, query, WAYS, **settings)
