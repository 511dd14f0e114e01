"""Full context embeddings against LSTM cells by hand, torch's own LSTM, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.full_context import FullContext, full_context
from kinshot.fewshot.heads.matching import matching
from tests import test_contract_heads as contract

E, S, Q, D, WAYS = 3, 6, 4, 5, 3


def data(seed=0, dim=D):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(E, S, dim)), rng.normal(size=(E, Q, dim))


def module(dim=D, seed=0, **more):
    with keyed_initialisation(seed, "test"):
        return FullContext(dim, **more).double()


def weights_of(network):
    return {name: value.detach() for name, value in network.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def cell_by_hand(x, h, c, w, name):
    gates = w[f"{name}.weight_ih"] @ x + w[f"{name}.bias_ih"] + w[f"{name}.weight_hh"] @ h + w[f"{name}.bias_hh"]
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def states_by_hand(rows, w, name):
    h, c, states = np.zeros(rows.shape[1]), np.zeros(rows.shape[1]), []
    for row in rows:
        h, c = cell_by_hand(row, h, c, w, name)
        states.append(h)
    return states


def context_by_hand(support, query, w, steps, order):
    """One episode, loops over rows, from the formulas of the paper's appendix."""
    rows = list(range(len(support)))
    if order == "canonical":
        rows.sort(key=lambda i: sum(np.cos(j + 1) * value for j, value in enumerate(support[i])))
    forwards = states_by_hand(support[rows], w, "forwards")
    backwards = states_by_hand(support[rows[::-1]], w, "backwards")[::-1]
    g = np.zeros_like(support)
    for place, row in enumerate(rows):
        g[row] = forwards[place] + backwards[place] + support[row]
    f = np.zeros_like(query)
    for n, q in enumerate(query):
        h, c = q, np.zeros_like(q)
        for _ in range(steps):
            similar = np.exp([h @ row for row in g])
            read = sum(a * row for a, row in zip(similar / similar.sum(), g, strict=True))
            h, c = cell_by_hand(np.concatenate([q, read]), h, c, w, "readout")
            h = h + q
        f[n] = h
    return g, f


@pytest.mark.parametrize("order", ["canonical", "given"])
@pytest.mark.parametrize("steps", [1, 3, 0])
def test_equals_its_formulas(order, steps):
    support, query = data()
    w = weights_of(module())
    got = full_context(torch.from_numpy(support), torch.from_numpy(query), w, steps=steps, order=order)
    numbers = {name: value.numpy() for name, value in w.items()}
    for e in range(E):
        expected = context_by_hand(support[e], query[e], numbers, steps or S, order)
        for found, wanted in zip(got, expected, strict=True):
            np.testing.assert_allclose(found[e].numpy(), wanted, rtol=1e-10, atol=1e-10)


def test_equals_torch_lstm_and_cell_that_are_given_its_weights():
    support, query = map(torch.from_numpy, data(1))
    w = weights_of(module(steps=4))
    lstm, cell = nn.LSTM(D, D, batch_first=True, bidirectional=True).double(), nn.LSTMCell(2 * D, D).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    lstm.load_state_dict({f"{n}_l0{end}": w[f"{name}.{n}"] for name, end in (("forwards", ""), ("backwards", "_reverse")) for n in names})
    cell.load_state_dict({n: w[f"readout.{n}"] for n in names})
    with torch.no_grad():
        g = support + lstm(support)[0].unflatten(-1, (2, D)).sum(-2)
        h, c = query, torch.zeros_like(query)
        for _ in range(4):
            read = (h @ g.mT).softmax(-1) @ g
            state = cell(torch.cat([query, read], -1).flatten(0, 1), (h.flatten(0, 1), c.flatten(0, 1)))
            h, c = (part.view_as(query) for part in state)
            h = h + query
    for found, wanted in zip(full_context(support, query, w, order="given"), (g, h), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(S)), st.integers(0, 99), st.integers(1, 9))
def test_the_order_of_the_support_moves_its_rows_and_nothing_else(order, seed, dim):
    support, query = map(torch.from_numpy, data(seed, dim))
    network = module(dim)
    g, f = network(support, query)
    moved_g, moved_f = network(support[:, order], query)
    torch.testing.assert_close(moved_g, g[:, order])
    torch.testing.assert_close(moved_f, f)


def test_the_paper_reads_the_support_in_the_order_that_is_given():
    support, query = map(torch.from_numpy, data())
    network = module(order="given")
    order = [1, 0, *range(2, S)]
    assert not torch.allclose(network(support[:, order], query)[1], network(support, query)[1], atol=1e-4)


def test_rows_of_one_length_have_an_order_too():
    support, query = map(torch.from_numpy, data(2))
    support = nn.functional.normalize(support[:, :2], dim=-1)
    network = module()
    torch.testing.assert_close(network(support.flip(1), query)[0], network(support, query)[0].flip(1))


def test_episodes_and_queries_are_independent():
    support, query = map(torch.from_numpy, data(3))
    network = module()
    g, f = network(support, query)
    for e in range(E):
        alone = network(support[[e]], query[[e]][:, [2]])
        torch.testing.assert_close(alone[0][0], g[e])
        torch.testing.assert_close(alone[1][0, 0], f[e, 2])


def test_the_number_of_steps_travels_with_the_weights():
    support, query = map(torch.from_numpy, data(4))
    network = module(steps=2)
    w = weights_of(network)
    two, three = (full_context(support, query, w, steps=n)[1] for n in (2, 3))
    assert torch.equal(full_context(support, query, w)[1], two)
    assert torch.equal(network(support, query)[1], two)
    assert not torch.allclose(two, three, atol=1e-4)
    other = module(steps=7)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(support, query)[1], two)
    all_rows = full_context(support, query, {**w, "steps": torch.tensor(0)})[1]
    assert torch.equal(all_rows, full_context(support, query, w, steps=S)[1])


def test_gradients_are_those_of_finite_differences():
    support, query = (torch.from_numpy(x[:1, :3, :2]).requires_grad_() for x in data(5))
    network = module(2, steps=2)
    names = [name for name, _ in network.named_parameters()]
    parameters = [p.detach().clone().requires_grad_() for p in network.parameters()]
    torch.autograd.gradcheck(
        lambda s, q, *w: full_context(s, q, dict(zip(names, w, strict=True)), steps=2), (support, query, *parameters), fast_mode=True
    )


def test_gradients_reach_every_weight():
    network = module()
    g, f = network(*map(torch.from_numpy, data(6)))
    (g.sum() + f.square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


def test_single_precision_stays_close_and_keeps_its_dtype():
    support, query = map(torch.from_numpy, data(7))
    w = weights_of(module())
    wide, narrow = full_context(support, query, w), full_context(support.float(), query.float(), w)
    for a, b in zip(wide, narrow, strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(b.double(), a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["paper", "log", "easyfsl", "closerlook"])
def test_the_head_attends_in_context(variant):
    support, query = map(torch.from_numpy, data(8))
    labels = torch.tensor([2, 0, 1, 1, 0, 2]).expand(E, -1)
    w = weights_of(module())
    got = matching(support, labels, query, WAYS, variant=variant, temperature=0.5, transform="l2n", network=w)
    in_context = full_context(*(nn.functional.normalize(x, dim=-1) for x in (support, query)), w)
    assert torch.equal(got, matching(in_context[0], labels, in_context[1], WAYS, variant=variant, temperature=0.5))
    assert not torch.allclose(got, matching(support, labels, query, WAYS, variant=variant, temperature=0.5, transform="l2n"))


VARIANTS = [{}, {"variant": "log"}, {"variant": "easyfsl"}, {"variant": "closerlook"}, {"transform": "l2n"}, {"transform": "cl2n"}]
CHECKS = [
    contract.test_single_and_double_precision_predict_alike,
    contract.test_easy_episodes_are_solved,
    contract.test_two_ways,
    contract.test_support_order_does_not_matter,
    contract.test_renaming_the_ways_renames_the_columns,
    contract.test_query_order_moves_the_rows,
    contract.test_inductive_queries_are_independent,
    contract.test_episodes_are_independent,
    contract.test_pure,
]


@pytest.mark.parametrize("check", [pytest.param(check, id=check.__name__.removeprefix("test_")) for check in CHECKS])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_head_keeps_the_contract_in_context(check, variant, monkeypatch):
    w = {name: value if name == "steps" else 0.3 * value for name, value in weights_of(module(contract.DIM)).items()}
    monkeypatch.setattr(contract, "_provided", lambda: {"base_mean": torch.linspace(-0.2, 0.3, contract.DIM), "network": w})
    check("matching", variant)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backwards.bias_hh": None}, r"lacks backwards\.bias_hh"),
        ({"steps": None}, "lacks steps"),
        ({"gate": torch.ones(1)}, "unknown gate"),
        ({"readout.weight_ih": torch.ones(4 * D, D)}, r"5 wide: readout\.weight_ih has shape \(20, 5\), expected \(20, 10\)"),
    ],
)
def test_weights_of_something_else_are_refused(change, message):
    w = {name: value for name, value in {**weights_of(module()), **change}.items() if value is not None}
    support, query = map(torch.from_numpy, data())
    with pytest.raises(DataError, match=message):
        full_context(support, query, w)
    with pytest.raises(DataError, match=message):
        matching(support, torch.tensor([0, 1, 2] * 2).expand(E, -1), query, WAYS, network=w)


def test_steps_need_not_come_with_the_weights():
    support, query = map(torch.from_numpy, data())
    w = {name: value for name, value in weights_of(module()).items() if name != "steps"}
    assert torch.equal(full_context(support, query, w, steps=5)[1], module()(support, query)[1].detach())


@pytest.mark.parametrize(("bad", "message"), [({"steps": -1}, "steps"), ({"order": "sorted"}, "order"), ({"dim": 0}, "dim")])
def test_settings_out_of_range(bad, message):
    with pytest.raises(ConfigError, match=message):
        FullContext(**{"dim": D, **bad})
    if "dim" not in bad:
        support, query = map(torch.from_numpy, data())
        with pytest.raises(ConfigError, match=message):
            full_context(support, query, weights_of(module()), **bad)
