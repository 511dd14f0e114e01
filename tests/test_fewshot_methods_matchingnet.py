"""Training of matching networks: the loss against loops over queries, what learns, and that the head sees what was trained."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.fewshot.heads.matching import matching
from kinshot.fewshot.methods.matchingnet import MatchingNet, matching_loss
from kinshot.fewshot.training_episodes import EpisodeShape
from kinshot.learn import METHODS
from tests.steps import loss_of, model_of
from tests.test_fewshot_full_context import context_by_hand, module

CLASSES, EACH, WIDTH, D = 6, 10, 8, 4
SHAPE = EpisodeShape(ways=3, shots=2, queries=2, tasks=2)


class Encoder(nn.Module):
    dim = D

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 12), nn.ReLU(), nn.Linear(12, D))

    def forward(self, x):
        return self.layers(x)


LABELS = torch.arange(CLASSES).repeat_interleave(EACH)


def images():
    generator = torch.Generator().manual_seed(3)
    centres = 2 * torch.randn(CLASSES, WIDTH, generator=generator)
    return centres[LABELS] + 0.5 * torch.randn(len(LABELS), WIDTH, generator=generator)


def build(*, batch=SHAPE.batch, labels=LABELS, seed=0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = Encoder()
    context = RunContext(len(LABELS), batch, steps_per_epoch=5, total_steps=100, seed=seed, labels=labels)
    sizes = {"ways": 3, "shots": 2, "queries": 2, "tasks": 2}
    return METHODS.build("matchingnet", model_of(encoder), context, settings={**sizes, **more})


def step_of(method, step=0):
    indices = method.order(step // 5)[step % 5]
    return loss_of(method, [images()[indices]], indices, step)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def unit(x):
    return x / np.linalg.norm(x)


def loss_by_hand(z, network, variant, temperature):
    """Mean over queries of -log P, and the share that is right; loops over episodes, queries and support images."""
    z = z.reshape(SHAPE.tasks, SHAPE.ways, SHAPE.shots + SHAPE.queries, -1)
    costs, right = [], []
    for episode in z:
        support = np.concatenate([images[: SHAPE.shots] for images in episode])
        query = np.concatenate([images[SHAPE.shots :] for images in episode])
        if network is not None:
            numbers = {name: value.numpy() for name, value in network.state_dict().items()}
            support, query = context_by_hand(support, query, numbers, int(numbers["steps"]) or len(support), network.order)
        for n, q in enumerate(query):
            cosines = np.array([unit(q) @ unit(s) for s in support])
            pairs = {"easyfsl": [q @ unit(s) for s in support], "closerlook": 100 * np.maximum(cosines, 0)}.get(variant, cosines)
            attention = softmax(np.array(pairs) / temperature)
            p = [sum(attention[i] for i in range(len(support)) if i // SHAPE.shots == way) for way in range(SHAPE.ways)]
            target = n // SHAPE.queries
            costs.append(-np.log(p[target] + (1e-12 if variant in ("paper", "log") else 1e-6)))
            right.append(np.argmax(p) == target)
    return np.mean(costs), np.mean(right)


@pytest.mark.parametrize("network", [None, module(D, steps=2), module(D, steps=0, order="given")], ids=["plain", "canonical", "given"])
@pytest.mark.parametrize("variant", ["paper", "log", "easyfsl", "closerlook"])
def test_loss_equals_its_formula(variant, network):
    z = np.random.default_rng(0).normal(size=(SHAPE.batch, D))
    got = matching_loss(torch.from_numpy(z), SHAPE, network, variant=variant, temperature=0.6)
    loss, accuracy = loss_by_hand(z, network, variant, 0.6)
    assert got["loss"].item() == pytest.approx(loss, rel=1e-9)
    assert got["accuracy"].item() == pytest.approx(accuracy)


@pytest.mark.parametrize("more", [{}, {"full_context": False}, {"variant": "closerlook", "steps": 0, "order": "given", "temperature": 2.0}])
def test_the_head_scores_as_the_method_was_trained(more):
    method = build(**more)
    indices = method.order(0)[0]
    z = method.encoder(images()[indices]).detach()
    support, ways, query, target = SHAPE.sets(z)
    if more.get("order") == "given":  # the head reads them in canonical order
        method.network.order = "canonical"
    weights = None if method.network is None else method.network.state_dict()
    settings = {"variant": "log", **{k: v for k, v in more.items() if k in ("variant", "temperature")}}
    scores = matching(support, ways, query, SHAPE.ways, network=weights, **settings)
    expected = nn.functional.nll_loss(scores.flatten(0, 1), target.flatten())
    torch.testing.assert_close(loss_of(method, [images()[indices]], indices, 0)["loss"], expected)


def test_what_full_context_adds_to_the_state():
    assert build(full_context=False).network is None
    assert [name for name in build(full_context=False).state_dict() if name.startswith("model.network")] == []
    state = build(steps=7).state_dict()
    assert state["model.network.steps"].item() == 7
    assert len([name for name in state if name.startswith("model.network.")]) == 13


@pytest.mark.parametrize("full_context", [True, False])
def test_gradients_reach_encoder_and_network(full_context):
    method = build(full_context=full_context)
    step_of(method)["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("more", [{}, {"order": "given"}, {"full_context": False}, {"variant": "easyfsl"}])
def test_training_lowers_the_loss(more):
    method = build(**{"temperature": 0.2, **more})
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    before = np.mean([step_of(method, step)["loss"].item() for step in range(500, 510)])
    for step in range(40):
        optimizer.zero_grad()
        step_of(method, step)["loss"].backward()
        optimizer.step()
    terms = [step_of(method, step) for step in range(500, 510)]
    assert np.mean([t["loss"].item() for t in terms]) < 0.8 * before
    assert np.mean([t["accuracy"].item() for t in terms]) > 0.7


def test_state_continues_bit_for_bit_and_weights_come_from_the_seed():
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        method = build()
        optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
        losses = []
        for step in range(4):
            if step == 2 and noise == 2:
                state, method = copy.deepcopy(method.state_dict()), build()
                method.load_state_dict(state)
                optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
            loss = step_of(method, step)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        runs.append(losses)
    assert runs[0] == runs[1]
    assert not torch.equal(build(seed=1).network.readout.weight_ih, build(seed=2).network.readout.weight_ih)


def test_loss_is_float32_under_autocast():
    method = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = step_of(method)["loss"]
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(step_of(method)["loss"].item(), rel=0.05)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"steps": -1}, "steps"),
        ({"batch": 8}, "batch_size=24"),
        ({"ways": 1}, "ways"),
        ({"labels": None}, "labels"),
        ({"variant": "dot"}, "variant"),
    ],
)
def test_what_is_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        build(**more)


def test_it_says_that_it_learns_from_labels():
    assert MatchingNet.supervised
    assert MatchingNet.view_count == 1
