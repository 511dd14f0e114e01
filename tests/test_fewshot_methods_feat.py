"""Training of FEAT: both terms of its loss against loops, what learns and what is frozen."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.heads.feat import feat
from kinshot.fewshot.methods.feat import FEAT, adapted_loss, contrast_loss
from kinshot.fewshot.set_attention import SetAttention
from kinshot.fewshot.training_episodes import EpisodeShape
from kinshot.learn import METHODS
from tests.steps import loss_of, model_of

CLASSES, EACH, WIDTH, D = 6, 10, 8, 4
SHAPE = EpisodeShape(ways=3, shots=2, queries=2, tasks=2)
LABELS = torch.arange(CLASSES).repeat_interleave(EACH)


class Encoder(nn.Module):
    dim = D

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, D))

    def forward(self, x):
        return self.layers(x)


def images():
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(CLASSES, WIDTH, generator=generator)
    return centres[LABELS] + 0.5 * torch.randn(len(LABELS), WIDTH, generator=generator)


def build(*, batch=SHAPE.batch, labels=LABELS, seed=0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = Encoder()
    context = RunContext(len(LABELS), batch, steps_per_epoch=5, total_steps=100, seed=seed, labels=labels)
    sizes = {"ways": 3, "shots": 2, "queries": 2, "tasks": 2, "temperature": 2.0, "contrast_temperature": 3.0}
    return METHODS.build("feat", model_of(encoder), context, settings={**sizes, **more})


def step_of(method, step=0):
    indices = method.order(step // 5)[step % 5]
    return loss_of(method, [images()[indices]], indices, step)


def network():
    with keyed_initialisation(0, "test"):
        found = SetAttention(D).double()
        nn.init.normal_(found.layer_norm.bias)
        nn.init.normal_(found.fc.bias)
    return found


def attention_by_hand(rows, w):
    """One set, loops over its members, from the formulas."""
    out = np.zeros_like(rows)
    for i, row in enumerate(rows):
        scores = np.exp([(w["w_qs.weight"] @ row) @ (w["w_ks.weight"] @ other) / np.sqrt(D) for other in rows])
        mixed = sum(a * (w["w_vs.weight"] @ other) for a, other in zip(scores / scores.sum(), rows, strict=True))
        sum_ = row + w["fc.weight"] @ mixed + w["fc.bias"]
        out[i] = (sum_ - sum_.mean()) / np.sqrt(sum_.var() + 1e-5) * w["layer_norm.weight"] + w["layer_norm.bias"]
    return out


def cost_by_hand(z, centres, way, temperature):
    logits = np.array([-((z - centre) ** 2).sum() / temperature for centre in centres])
    return np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[way], np.argmax(logits) == way


def terms_by_hand(z, w, temperature, contrast_temperature):
    """The cross-entropy of queries, their accuracy, and the contrastive term."""
    z = z.reshape(SHAPE.tasks, SHAPE.ways, SHAPE.shots + SHAPE.queries, -1)
    queries, contrast = [], []
    for episode in z:
        adapted = attention_by_hand(np.stack([of_class[: SHAPE.shots].mean(0) for of_class in episode]), w)
        centres = [attention_by_hand(of_class, w).mean(0) for of_class in episode]
        for way, of_class in enumerate(episode):
            queries += [cost_by_hand(q, adapted, way, temperature) for q in of_class[SHAPE.shots :]]
            contrast += [cost_by_hand(image, centres, way, contrast_temperature)[0] for image in of_class]
    return *np.mean(queries, axis=0), np.mean(contrast)


def test_both_terms_equal_their_formulas():
    z, attention = np.random.default_rng(0).normal(size=(SHAPE.batch, D)), network()
    weights = {name: value.detach().numpy() for name, value in attention.named_parameters()}
    loss, accuracy, contrast = terms_by_hand(z, weights, 2.0, 3.0)
    got = adapted_loss(torch.from_numpy(z), SHAPE, attention, 2.0)
    assert got["loss"].item() == pytest.approx(loss, rel=1e-9)
    assert got["accuracy"].item() == pytest.approx(accuracy)
    assert contrast_loss(torch.from_numpy(z), SHAPE, attention, 3.0).item() == pytest.approx(contrast, rel=1e-9)


@pytest.mark.parametrize("balance", [0.0, 0.5, 10.0])
def test_the_loss_is_the_weighted_sum_of_its_terms(balance):
    method = build(balance=balance).double().eval()
    indices = method.order(0)[0]
    batch = images()[indices].double()
    with torch.no_grad():
        got = loss_of(method, [batch], indices, 0)
        z = method.encoder(batch).numpy()
    weights = {name: value.detach().numpy() for name, value in method.network.named_parameters()}
    loss, accuracy, contrast = terms_by_hand(z, weights, 2.0, 3.0)
    assert got["loss"].item() == pytest.approx(loss + balance * contrast, rel=1e-9)
    assert got["adapted"].item() == pytest.approx(loss, rel=1e-9)
    assert got["accuracy"].item() == pytest.approx(accuracy)
    assert ("contrast" in got) == (balance > 0)


def test_the_head_scores_as_the_method_was_trained():
    method = build(balance=0.0).eval()
    indices = method.order(0)[1]
    support, ways, query, target = SHAPE.sets(method.encoder(images()[indices]))
    scores = feat(support, ways, query, SHAPE.ways, temperature=2.0, network=method.network.state_dict())
    expected = nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten())
    torch.testing.assert_close(loss_of(method, [images()[indices]], indices, 0)["loss"], expected)


def test_the_order_of_images_within_support_and_query_does_not_matter():
    z, attention = torch.randn(SHAPE.batch, D, generator=torch.Generator().manual_seed(0)).double(), network()
    swapped = z.view(2, 3, 4, D)[:, :, [1, 0, 3, 2]].reshape(-1, D)
    renamed = z.view(2, 3, 4, D)[:, [2, 0, 1]].reshape(-1, D)
    for other in (swapped, renamed):
        torch.testing.assert_close(adapted_loss(other, SHAPE, attention, 2.0)["loss"], adapted_loss(z, SHAPE, attention, 2.0)["loss"])
        torch.testing.assert_close(contrast_loss(other, SHAPE, attention, 2.0), contrast_loss(z, SHAPE, attention, 2.0))


@pytest.mark.parametrize("balance", [0.0, 1.0])
def test_gradients_reach_encoder_and_network(balance):
    method = build(balance=balance)
    step_of(method)["loss"].backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()] == []


def train(method, steps, first=0):
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = step_of(method, step)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("freeze", "share"), [(False, 0.9), (True, 0.99)])
def test_training_lowers_the_loss(freeze, share):
    method = build(balance=1.0, freeze_encoder=freeze)
    method.train()
    before = np.mean([step_of(method, step)["loss"].item() for step in range(500, 510)])
    train(method, 40)
    assert np.mean([step_of(method, step)["loss"].item() for step in range(500, 510)]) < share * before


def test_a_frozen_encoder_stays_what_it_was():
    method = build(freeze_encoder=True)
    before = copy.deepcopy(method.state_dict())
    method.train()
    assert method.network.training
    train(method, 3)
    after = method.state_dict()
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert {name for name in moved if not name.startswith("model.network.")} == set()
    assert {name for name in after if name.startswith("model.network.")} == moved


def test_an_encoder_that_is_not_frozen_moves_with_its_running_statistics():
    method = build()
    before = copy.deepcopy(method.state_dict())
    method.train()
    train(method, 3)
    assert all(not torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_weights_come_from_the_seed_alone_and_state_continues():
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        method = build()
        first = train(method, 2)
        if noise == 2:
            state, method = copy.deepcopy(method.state_dict()), build(seed=0)
            method.load_state_dict(state)
        runs.append(first + train(method, 2, first=2))
    assert runs[0] == runs[1]
    assert not torch.equal(build(seed=1).network.fc.weight, build(seed=2).network.fc.weight)


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
        ({"contrast_temperature": -1.0}, "contrast_temperature"),
        ({"balance": -0.1}, "balance"),
        ({"batch": 8}, "batch_size=24"),
        ({"shots": 0}, "shots"),
        ({"labels": None}, "labels"),
    ],
)
def test_what_is_refused(more, message):
    with pytest.raises(ConfigError, match=message):
        build(**more)


def test_it_says_that_it_learns_from_labels():
    assert FEAT.supervised
    assert FEAT.view_count == 1
