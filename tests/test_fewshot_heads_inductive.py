"""Inductive heads against slow references written from their formulas, and against scikit-learn where definitions agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.crammer_singer import _project, duality_gap, solve_crammer_singer
from kinshot.fewshot.heads.baseline_pp import baseline_pp
from kinshot.fewshot.heads.feat import feat
from kinshot.fewshot.heads.logistic import logistic
from kinshot.fewshot.heads.matching import matching
from kinshot.fewshot.heads.ridge import ridge
from kinshot.fewshot.heads.svm import svm
from kinshot.fewshot.logistic_regression import fit_logistic
from kinshot.fewshot.set_attention import SetAttention, set_attention

EPISODES, WAYS, DIM = 3, 4, 5


def _episode(seed, ways=WAYS, dim=DIM, queries=7, most=5):
    """Support (unbalanced, shuffled), labels, query and base mean, as float64 arrays."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most, ways)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), counts)) for _ in range(EPISODES)])
    support = rng.normal(size=(EPISODES, labels.shape[1], dim)) + 0.5
    return support, labels, rng.normal(size=(EPISODES, queries, dim)) + 0.5, rng.normal(size=dim)


def _tensors(*arrays):
    return [torch.from_numpy(a) for a in arrays]


def _u(v):
    return v / np.linalg.norm(v, axis=-1, keepdims=True)


def _t(v, kind, mean):
    return {"none": lambda: v, "l2n": lambda: _u(v), "cl2n": lambda: _u(v - mean)}[kind]()


def _softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("kind", ["none", "l2n", "cl2n"])
@pytest.mark.parametrize("variant", ["paper", "log", "easyfsl", "closerlook"])
def test_matching(variant, kind):
    support, labels, query, mean = _episode(0)
    got = matching(
        *_tensors(support, labels, query), WAYS, variant=variant, temperature=0.7, transform=kind, base_mean=torch.from_numpy(mean)
    )
    for e in range(EPISODES):
        for i, asked in enumerate(query[e]):
            q, pairs = _t(asked, kind, mean), []
            for s in support[e]:
                plain = q @ _u(_t(s, kind, mean))
                cosine = plain / np.linalg.norm(q)
                pairs.append({"easyfsl": plain, "closerlook": 100 * max(cosine, 0)}.get(variant, cosine))
            attention = _softmax(np.array(pairs) / 0.7)
            p = np.array([sum(a for a, y in zip(attention, labels[e], strict=True) if y == c) for c in range(WAYS)])
            expected = {"paper": p, "log": np.log(p + 1e-12)}.get(variant, np.log(p + 1e-6))
            np.testing.assert_allclose(got[e, i].numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dim", [3, 30])  # fewer and more features than support rows
@pytest.mark.parametrize("penalty", [0.01, 5.0])
def test_ridge_equals_its_formula_and_scikit_learn(dim, penalty):
    support, labels, query, _ = _episode(1, dim=dim)
    got = ridge(*_tensors(support, labels, query), WAYS, penalty=penalty, scale=3.0, bias=-0.5).numpy()
    for e in range(EPISODES):
        x, y = support[e], np.eye(WAYS)[labels[e]]
        w = x.T @ np.linalg.inv(x @ x.T + penalty * np.eye(len(x))) @ y
        np.testing.assert_allclose(got[e], 3 * query[e] @ w - 0.5, rtol=1e-8, atol=1e-8)
        model = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(x, y)
        np.testing.assert_allclose(got[e], 3 * model.predict(query[e]) - 0.5, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("ways", [2, WAYS])
@pytest.mark.parametrize("dim", [3, 30])
@pytest.mark.parametrize(("strength", "offset"), [(0.1, 0.0), (1.0, 0.0), (10.0, 0.0), (1.0, 20.0)])
def test_logistic_equals_scikit_learn_at_its_optimum(ways, dim, strength, offset):
    support, labels, query, _ = _episode(2, ways=ways, dim=dim)
    got = logistic(*_tensors(support + offset, labels, query + offset), ways, C=strength, transform="none").numpy()
    for e in range(EPISODES):
        model = LogisticRegression(C=strength, tol=1e-12, max_iter=10000, solver="newton-cg").fit(support[e] + offset, labels[e])
        np.testing.assert_allclose(got[e], model.predict_log_proba(query[e] + offset), atol=1e-4)


def test_logistic_solvers_predict_alike_and_each_episode_is_fitted_alone():
    support, labels, query, _ = _tensors(*_episode(3))
    support[1], query[1] = 5 * support[1], 5 * query[1]  # an episode that takes longer than the others
    both = [logistic(support, labels, query, WAYS, solver=solver, transform="none", C=10.0) for solver in ("batched", "sklearn")]
    assert torch.equal(both[0].argmax(-1), both[1].argmax(-1))
    for e in range(EPISODES):
        alone = logistic(support[[e]], labels[[e]], query[[e]], WAYS, transform="none", C=10.0)
        torch.testing.assert_close(alone[0], both[0][e], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("cost", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_logistic_converges_at_any_scale(cost, size):
    support, labels, query, _ = _tensors(*_episode(4))
    assert torch.isfinite(logistic(size * support, labels, size * query, WAYS, C=cost, transform="none")).all()


def test_logistic_of_features_that_few_rows_have_is_found_soon():
    """The bound on the Hessian is made of some rows; features that are in none of those took ten times as many steps."""
    rng = np.random.default_rng(0)
    rows, wide, rare = 20000, 40, np.zeros((20000, 8))
    for column in rare.T:
        column[rng.permutation(rows)[:6]] = 0.5 + rng.random(6)
    x = np.concatenate([rng.standard_normal((rows, wide)), (rare - rare.mean(0)) / rare.std(0)], 1)
    hot = np.eye(3)[x[:, :3].argmax(1)]
    strength = 1 / (1e-5 * rows)
    weights, intercepts = fit_logistic(torch.tensor(x)[None], torch.tensor(hot)[None], strength, max_iter=300, tolerance=1e-6)
    logits = x @ weights[0].numpy() + intercepts[0].numpy()
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    wrong = softmax / softmax.sum(1, keepdims=True) - hot
    assert np.abs(strength * x.T @ wrong + weights[0].numpy()).max() <= 1e-6 * np.abs(strength * x.T @ (1 / 3 - hot)).max() * 1.01


def test_logistic_that_does_not_converge_says_so():
    support, labels, query, _ = _tensors(*_episode(5))
    with pytest.raises(DataError, match="max_iter=2 "):
        logistic(support, labels, query, WAYS, max_iter=2)


@pytest.mark.parametrize("dim", [3, 30])
@pytest.mark.parametrize("cost", [0.1, 1.0])
def test_svm_equals_scikit_learn(cost, dim):
    support, labels, query, _ = _episode(6, dim=dim)
    got = svm(*_tensors(support, labels, query), WAYS, C=cost, scale=2.0, diagonal=0.0).numpy()
    for e in range(EPISODES):
        model = LinearSVC(C=cost, multi_class="crammer_singer", fit_intercept=False, tol=1e-9, max_iter=200000, random_state=0)
        np.testing.assert_allclose(got[e], 2 * model.fit(support[e], labels[e]).decision_function(query[e]), atol=1e-5)


@pytest.mark.parametrize("diagonal", [0.0, 1.0])
def test_svm_equals_a_general_solver_of_its_dual(diagonal):
    support, labels, query, _ = _episode(7, ways=3, most=3)
    got = svm(*_tensors(support, labels, query), 3, C=0.5, diagonal=diagonal).numpy()
    for e in range(EPISODES):
        x, hot = support[e], np.eye(3)[labels[e]]
        kernel = x @ x.T + diagonal * np.eye(len(x))
        found = minimize(
            lambda a, k=kernel, h=hot: 0.5 * (a.reshape(h.shape) * (k @ a.reshape(h.shape))).sum() - (a.reshape(h.shape) * h).sum(),
            np.zeros(hot.size),
            jac=lambda a, k=kernel, h=hot: (k @ a.reshape(h.shape) - h).ravel(),
            bounds=[(None, top) for top in (0.5 * hot).ravel()],
            constraints={"type": "eq", "fun": lambda a, h=hot: a.reshape(h.shape).sum(1)},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 1000},
        )
        assert found.success
        np.testing.assert_allclose(got[e], query[e] @ x.T @ found.x.reshape(hot.shape), atol=1e-4)


def test_svm_keeps_its_tolerance_and_refuses_to_miss_it():
    support, labels, query, _ = _tensors(*_episode(8))
    kernel, hot = support @ support.mT, torch.nn.functional.one_hot(labels).double()
    dual = solve_crammer_singer(kernel, hot, 0.1, tolerance=1e-3, max_iter=10000)
    assert float(duality_gap(kernel, hot, dual, 0.1).max()) <= 0.5e-6
    assert float(dual.sum(-1).abs().max()) < 1e-12
    assert bool((dual <= 0.1 * hot + 1e-15).all())
    exact = solve_crammer_singer(kernel, hot, 0.1, tolerance=1e-7, max_iter=100000)
    assert float((support.mT @ (dual - exact)).norm(dim=(1, 2)).max()) <= 1e-3
    with pytest.raises(DataError, match="max_iter=1 "):
        svm(support, labels, query, WAYS, max_iter=1)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), ways=st.integers(2, 6), cost=st.floats(1e-3, 1e3))
def test_svm_projection_is_the_nearest_feasible_point(seed, ways, cost):
    rng = np.random.default_rng(seed)
    z, own = rng.normal(size=ways) * rng.uniform(0.01, 3), rng.integers(ways)
    upper = cost * np.eye(ways)[own]
    got = _project(*_tensors(z[None, None], upper[None, None]), cost).numpy()[0, 0]
    low, high = z.min() - cost - 10, z.max() + cost + 10  # a = min(upper, z + shift): bisect for the shift
    low, high = -high - cost, -low + cost
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(upper, z + middle).sum() < 0 else (low, middle)
    np.testing.assert_allclose(got, np.minimum(upper, z + high), atol=1e-9 * (1 + cost))


def _baseline(x, y, rows, scale, steps, lr, momentum, decay):
    """Gradient by central differences, one number at a time."""

    def loss(w):
        log_p = np.log(_softmax(scale * _u(x) @ _u(w).T))
        return -np.mean([log_p[i, c] for i, c in enumerate(y)])

    velocity = np.zeros_like(rows)
    for _ in range(steps):
        slope = np.zeros_like(rows)
        for at in np.ndindex(rows.shape):
            nudge = np.zeros_like(rows)
            nudge[at] = 1e-5
            slope[at] = (loss(rows + nudge) - loss(rows - nudge)) / 2e-5
        velocity = momentum * velocity + slope + decay * rows
        rows = rows - lr * velocity
    return rows


def test_baseline_pp_equals_a_loop_with_numerical_gradients():
    support, labels, query, _ = _episode(9)
    how = {"variant": "mean", "steps": 6, "lr": 0.1, "scale": 4.0, "momentum": 0.8, "weight_decay": 0.01}
    got = baseline_pp(*_tensors(support, labels, query), WAYS, **how).numpy()
    for e in range(EPISODES):
        start = np.stack([_u(_u(support[e][labels[e] == c]).mean(0)) for c in range(WAYS)])
        rows = _baseline(support[e], labels[e], start, 4.0, 6, 0.1, 0.8, 0.01)
        np.testing.assert_allclose(got[e], 4 * _u(query[e]) @ _u(rows).T, atol=1e-6)


def test_baseline_pp_without_steps_is_its_initialisation():
    support, labels, query, _ = _tensors(*_episode(10))
    rows = torch.randn(WAYS, DIM, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = baseline_pp(support, labels, query, WAYS, steps=0, scale=1.0, initial=rows).numpy()
    np.testing.assert_allclose(got, _u(query.numpy()) @ _u(rows.numpy()).T, rtol=1e-12)
    drawn = [baseline_pp(support, labels, query, WAYS, steps=0, variant="random", seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.allclose(drawn[0], drawn[2])
    with pytest.raises(DataError, match=r"initial rows must be \(4, 5\)"):
        baseline_pp(support, labels, query, WAYS, initial=rows[:3])


def test_baseline_pp_training_lowers_the_loss_from_every_start():
    support, labels, _, _ = _tensors(*_episode(11))
    for variant in ("easyfsl", "mean", "random"):
        losses = [
            -baseline_pp(support, labels, support, WAYS, variant=variant, steps=n).log_softmax(-1).gather(2, labels.unsqueeze(-1)).mean()
            for n in (0, 10, 100)
        ]
        assert losses[0] > losses[1] > losses[2]


def _attention_by_hand(p, w):
    out = np.empty_like(p)
    for i in range(len(p)):
        scores = np.array([(w["w_qs.weight"] @ p[i]) @ (w["w_ks.weight"] @ p[j]) / np.sqrt(len(w["w_qs.weight"])) for j in range(len(p))])
        mixed = sum(a * (w["w_vs.weight"] @ p[j]) for j, a in enumerate(_softmax(scores)))
        out[i] = p[i] + w["fc.weight"] @ mixed + w["fc.bias"]
        out[i] = (out[i] - out[i].mean()) / np.sqrt(out[i].var() + 1e-5) * w["layer_norm.weight"] + w["layer_norm.bias"]
    return out


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_feat(distance):
    support, labels, query, _ = _episode(12)
    with keyed_initialisation(0, "test"):
        module = SetAttention(DIM).double()
        torch.nn.init.normal_(module.layer_norm.bias)
    weights = {name: value.detach() for name, value in module.named_parameters()}
    got = feat(*_tensors(support, labels, query), WAYS, temperature=8.0, distance=distance, network=weights)
    torch.testing.assert_close(got, feat(*_tensors(support, labels, query), WAYS, temperature=8.0, distance=distance, network=module))
    numbers = {name: value.numpy() for name, value in weights.items()}
    for e in range(EPISODES):
        p = _attention_by_hand(np.stack([support[e][labels[e] == c].mean(0) for c in range(WAYS)]), numbers)
        squares = ((query[e][:, None] - p[None]) ** 2).sum(-1)
        expected = -(squares if distance == "squared" else np.sqrt(squares)) / 8
        np.testing.assert_allclose(got[e].detach().numpy(), expected, rtol=1e-8)


def test_feat_trains_through_its_module():
    support, labels, query, _ = _tensors(*_episode(13))
    with keyed_initialisation(0, "test"):
        module = SetAttention(DIM).double()
    feat(support, labels, query, WAYS, network=module).log_softmax(-1)[..., 0].sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())


def test_feat_refuses_what_is_not_its_network():
    support, labels, query, _ = _tensors(*_episode(14))
    with pytest.raises(ConfigError, match="fewshot train"):
        feat(support, labels, query, WAYS)
    weights = dict(SetAttention(DIM).named_parameters())
    with pytest.raises(DataError, match=r"lacks fc\.weight"):
        set_attention(support, {name: value for name, value in weights.items() if name != "fc.weight"})
    with pytest.raises(DataError, match="unknown gate"):
        set_attention(support, {**weights, "gate": torch.ones(1)})
    with pytest.raises(DataError, match="5 wide"):
        feat(support, labels, query, WAYS, network=dict(SetAttention(6).named_parameters()))
    with pytest.raises(DataError, match="keep the shape"):
        feat(support, labels, query, WAYS, network=torch.nn.Flatten())


@pytest.mark.parametrize(
    ("head", "bad"),
    [
        (matching, {"temperature": 0.0}),
        (ridge, {"penalty": 0.0}),
        (ridge, {"scale": -1.0}),
        (svm, {"C": 0.0}),
        (svm, {"tolerance": 0.0}),
        (svm, {"diagonal": -1.0}),
        (baseline_pp, {"steps": -1}),
        (baseline_pp, {"momentum": 1.0}),
        (baseline_pp, {"scale": 0.0}),
        (feat, {"temperature": 0.0, "network": {}}),
    ],
)
def test_settings_out_of_range(head, bad):
    support, labels, query, _ = _tensors(*_episode(15))
    with pytest.raises(ConfigError, match=next(iter(bad))):
        head(support, labels, query, WAYS, **bad)
