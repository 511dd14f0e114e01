"""Heads against slow references written from their formulas, in numpy float64 loops."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot.heads.imprint import imprint, imprint_head
from kinshot.fewshot.heads.logistic import logistic
from kinshot.fewshot.heads.nearest import nearest
from kinshot.fewshot.heads.prototype import prototype
from kinshot.fewshot.transforms import class_means, squared_distance, transform, unit

DISTANCES = ["cosine", "euclidean", "squared"]
TRANSFORMS = ["none", "l2n", "cl2n"]


def _episode(seed: int, ways: int = 4, dim: int = 5, episodes: int = 3, queries: int = 7):
    """Support (unbalanced, shuffled), labels, query and base mean, as float64 arrays."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 5, ways)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), counts)) for _ in range(episodes)])
    support = rng.normal(size=(episodes, labels.shape[1], dim)) + 0.5
    return support, labels, rng.normal(size=(episodes, queries, dim)) + 0.5, rng.normal(size=dim)


def _tensors(*arrays):
    return [torch.from_numpy(a) for a in arrays]


def _u(v):
    return v / np.sqrt((v * v).sum())


def _t(v, kind, mean):
    return {"none": lambda: v, "l2n": lambda: _u(v), "cl2n": lambda: _u(v - mean)}[kind]()


def _score(a, b, distance):
    if distance == "cosine":
        return float(_u(a) @ _u(b))
    squared = float(((a - b) ** 2).sum())
    return -squared if distance == "squared" else -np.sqrt(squared)


def _reference(support, labels, query, ways, score):
    """`score(transformed-by-caller support rows of one class, one query)` for every episode, query and class."""
    out = np.empty((*query.shape[:2], ways))
    for e in range(len(query)):
        for q in range(query.shape[1]):
            for c in range(ways):
                out[e, q, c] = score([support[e, i] for i in range(support.shape[1]) if labels[e, i] == c], query[e, q])
    return out


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_prototype(distance, kind):
    support, labels, query, mean = _episode(0)
    expected = _reference(
        support, labels, query, 4, lambda rows, q: _score(_t(q, kind, mean), np.mean([_t(r, kind, mean) for r in rows], axis=0), distance)
    )
    got = prototype(*_tensors(support, labels, query), 4, distance=distance, transform=kind, base_mean=torch.from_numpy(mean))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("neighbors", [1, 2, 9])
@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("kind", TRANSFORMS)
def test_nearest(neighbors, distance, kind):
    support, labels, query, mean = _episode(1)

    def score(rows, q):
        found = sorted((_score(_t(q, kind, mean), _t(r, kind, mean), distance) for r in rows), reverse=True)
        return np.mean(found[:neighbors])

    got = nearest(
        *_tensors(support, labels, query), 4, neighbors=neighbors, distance=distance, transform=kind, base_mean=torch.from_numpy(mean)
    )
    np.testing.assert_allclose(got.numpy(), _reference(support, labels, query, 4, score), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("proxies", ["average", "multi"])
@pytest.mark.parametrize("kind", ["l2n", "cl2n"])
def test_imprint_head(proxies, kind):
    support, labels, query, mean = _episode(2)

    def score(rows, q):
        phi, q = [_t(r, kind, mean) for r in rows], _t(q, kind, mean)
        if proxies == "average":
            return 7.0 * float(_u(np.mean(phi, axis=0)) @ q)
        return 7.0 * max(float(p @ q) for p in phi)

    got = imprint_head(*_tensors(support, labels, query), 4, proxies=proxies, scale=7.0, transform=kind, base_mean=torch.from_numpy(mean))
    np.testing.assert_allclose(got.numpy(), _reference(support, labels, query, 4, score), rtol=1e-10, atol=1e-12)


def test_imprint_equals_the_default_prototype_up_to_scale():
    support, labels, query, _ = _tensors(*_episode(3))
    torch.testing.assert_close(imprint_head(support, labels, query, 4, scale=3.0), 3 * prototype(support, labels, query, 4))


def test_imprint_appends_unit_rows_and_leaves_the_others():
    rng = np.random.default_rng(4)
    weight, features = rng.normal(size=(3, 5)), rng.normal(size=(6, 5))
    labels = np.array([40, 7, 40, 7, 7, 99])
    got = imprint(*_tensors(weight, features, labels)).numpy()
    expected = [_u(np.mean([_u(f) for f, y in zip(features, labels, strict=True) if y == c], axis=0)) for c in (7, 40, 99)]
    assert np.array_equal(got[:3], weight)
    np.testing.assert_allclose(got[3:], expected, rtol=1e-12)


def test_imprint_averages_augmented_views_after_normalisation():
    rng = np.random.default_rng(5)
    views = rng.normal(size=(2, 3, 5)) * rng.uniform(0.1, 9, (2, 3, 1))  # lengths differ, so the order of operations shows
    got = imprint(torch.empty(0, 5, dtype=torch.float64), *_tensors(views, np.array([0, 0]))).numpy()
    expected = _u(np.mean([np.mean([_u(v) for v in image], axis=0) for image in views], axis=0))
    np.testing.assert_allclose(got, [expected], rtol=1e-12)


def test_imprint_names_what_does_not_fit():
    with pytest.raises(DataError, match=r"\(4, 5\).*\(2, 6\)"):
        imprint(torch.ones(4, 5), torch.ones(2, 6), torch.zeros(2, dtype=torch.long))
    with pytest.raises(DataError, match="one label per example"):
        imprint(torch.ones(4, 5), torch.ones(2, 5), torch.zeros(3, dtype=torch.long))


def _softmax_regression(x, y, ways, strength):
    """Minimum of 1/2 ||W||^2 + C * sum of cross-entropies, intercept free of penalty."""
    hot = np.eye(ways)[y]

    def objective(theta):
        w, b = theta[: ways * x.shape[1]].reshape(ways, -1), theta[ways * x.shape[1] :]
        logits = x @ w.T + b
        log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        slope = strength * (np.exp(log_p) - hot)
        return 0.5 * (w * w).sum() - strength * (hot * log_p).sum(), np.concatenate([(slope.T @ x + w).ravel(), slope.sum(0)])

    found = minimize(objective, np.zeros(ways * (x.shape[1] + 1)), jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
    return found.x[: ways * x.shape[1]].reshape(ways, -1), found.x[ways * x.shape[1] :]


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_logistic_is_at_the_minimum_of_its_objective(strength):
    support, labels, query, _ = _episode(6)
    got = logistic(*_tensors(support, labels, query), 4, C=strength, transform="none").numpy()
    for e in range(len(support)):
        w, b = _softmax_regression(support[e], labels[e], 4, strength)
        logits = query[e] @ w.T + b
        np.testing.assert_allclose(got[e], logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), rtol=1e-3, atol=1e-2)


def test_logistic_of_two_ways_is_a_distribution():
    support, labels, query, _ = _episode(7, ways=2)
    got = logistic(*_tensors(support, labels, query), 2).exp().sum(-1)
    torch.testing.assert_close(got, torch.ones_like(got))


def test_logistic_that_does_not_converge_is_an_error_and_no_warning_leaks():
    support, labels, query, _ = _tensors(*_episode(8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logistic(support, labels, query, 4)
        with pytest.raises(DataError, match="max_iter=1 "):
            logistic(support, labels, query, 4, max_iter=1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), ways=st.integers(2, 6), dim=st.integers(1, 8), data=st.data())
@pytest.mark.parametrize("head", [prototype, nearest, imprint_head])
def test_order_and_names_do_not_matter(head, seed, ways, dim, data):
    support, labels, query, _ = _tensors(*_episode(seed, ways, dim))
    order = torch.tensor(data.draw(st.permutations(range(labels.shape[1]))))
    renamed = torch.tensor(data.draw(st.permutations(range(ways))))
    moved = torch.tensor(data.draw(st.permutations(range(query.shape[1]))))
    got = head(support[:, order], renamed[labels[:, order]], query[:, moved], ways)[..., renamed]
    torch.testing.assert_close(got, head(support, labels, query, ways)[:, moved], rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 100))
def test_default_heads_ignore_the_length_of_features(seed, factor):
    support, labels, query, _ = _tensors(*_episode(seed))
    for head in (prototype, nearest, imprint_head):
        torch.testing.assert_close(head(support * factor, labels, query / factor, 4), head(support, labels, query, 4))


def test_centring_changes_predictions():
    support, labels, query, _ = _tensors(*_episode(9, queries=40))
    mean = torch.full((5,), 0.5, dtype=torch.float64)
    plain = prototype(support, labels, query, 4, distance="euclidean", transform="l2n")
    centred = prototype(support, labels, query, 4, distance="euclidean", transform="cl2n", base_mean=mean)
    assert not torch.equal(plain.argmax(-1), centred.argmax(-1))


def test_plain_and_squared_distance_predict_the_same_class():
    support, labels, query, _ = _tensors(*_episode(10, queries=40))
    scores = [prototype(support, labels, query, 4, distance=d, transform="none") for d in ("euclidean", "squared")]
    assert torch.equal(scores[0].argmax(-1), scores[1].argmax(-1))
    assert not torch.allclose(*scores)


def test_squared_distance_survives_a_common_offset_in_single_precision():
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(1, 6, 8)), rng.normal(size=(1, 3, 8))
    expected = ((a[:, :, None] - b[:, None]) ** 2).sum(-1)
    got = squared_distance(torch.from_numpy(a + 100).float(), torch.from_numpy(b + 100).float())
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3)


def test_zero_features_give_no_nan():
    labels = torch.tensor([[0, 1]])
    zeros = torch.zeros(1, 2, 3)
    for head in (prototype, nearest, imprint_head):
        assert torch.isfinite(head(zeros, labels, zeros, 2)).all()
    assert torch.equal(unit(zeros), zeros)


def test_cl2n_without_base_mean_says_how_to_give_it():
    support, labels, query, _ = _tensors(*_episode(12))
    for head in (prototype, nearest, imprint_head, logistic):
        with pytest.raises(ConfigError, match="--base"):
            head(support, labels, query, 4, transform="cl2n")


def test_base_mean_of_another_width():
    with pytest.raises(DataError, match="same encoder"):
        transform(torch.ones(2, 3), "cl2n", torch.ones(4))


def test_unknown_transform():
    with pytest.raises(ConfigError, match="none, l2n or cl2n"):
        transform(torch.ones(2, 3), "l3n")


def test_a_way_without_support_is_named():
    with pytest.raises(DataError, match="way 1 of episode 1"):
        class_means(torch.ones(2, 2, 3), torch.tensor([[0, 1], [0, 0]]), 2)
    with pytest.raises(DataError, match="way 1 of episode 0"):
        nearest(torch.ones(1, 2, 3), torch.tensor([[0, 0]]), torch.ones(1, 1, 3), 2)


@pytest.mark.parametrize(
    ("head", "bad"), [(nearest, {"neighbors": 0}), (imprint_head, {"scale": 0.0}), (logistic, {"C": -1.0}), (logistic, {"max_iter": 0})]
)
def test_settings_out_of_range(head, bad):
    support, labels, query, _ = _tensors(*_episode(13))
    with pytest.raises(ConfigError, match=next(iter(bad))):
        head(support, labels, query, 4, **bad)
