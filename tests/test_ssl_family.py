"""Methods of two views against slow float64 references, and against lightly's losses of the same name."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.learn import METHODS
from kinshot.samples.batch import Batch
from kinshot.ssl.predictor import rising_momentum
from kinshot.ssl.sinkhorn import sinkhorn
from tests.steps import model_of
from tests.test_contract_methods import B, N, encoder_for, noise

CONTEXT = RunContext(N, B, N // B, 5 * (N // B), 0)


def method_of(name, **settings):
    torch.default_generator.manual_seed(0)
    return METHODS.build(name, model_of(encoder_for("image", "simclr")), CONTEXT, settings=settings).eval()


def batch_of():
    return Batch(torch.arange(B), (noise(1, B, 3, 8, 8), noise(2, B, 3, 8, 8)))


def parts(method):
    """The loss of a batch, and projections of both views as numpy float64; in evaluation mode rows do not meet."""
    batch = batch_of()
    found = method.loss(method.outputs(batch), batch, 0)
    with torch.no_grad():
        z = [method.model.outputs(x, ("projector",))["projector"] for x in batch.views]
    return {name: float(value.detach()) for name, value in found.items()}, [one.double().numpy() for one in z], batch


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def run(network, z):
    with torch.no_grad():
        return network(torch.from_numpy(z).float()).double().numpy()


def cosines(a, b):
    return (unit(a) * unit(b)).sum(1)


def test_simsiam():
    method = method_of("simsiam")
    found, (a, b), _ = parts(method)
    expected = -(cosines(run(method.predictor, a), b).mean() + cosines(run(method.predictor, b), a).mean()) / 2
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def keys_of(method, batch):
    with torch.no_grad():
        return [method.key(x, 0).double().numpy() for x in batch.views]


def moved(method):
    """Slow copies that are somewhere else than the networks."""
    with torch.no_grad():
        for number, parameter in enumerate(method.key.parameters()):
            parameter.add_(0.1 * noise(number, *parameter.shape))
    return method


def test_byol():
    method = moved(method_of("byol"))
    found, (a, b), batch = parts(method)
    first, second = keys_of(method, batch)
    expected = (2 - 2 * cosines(run(method.predictor, a), second)).mean() + (2 - 2 * cosines(run(method.predictor, b), first)).mean()
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def entropy(logits):
    """Mean cross-entropy of rows whose class is their number, by hand."""
    return float(np.mean([math.log(sum(math.exp(x) for x in row)) - row[i] for i, row in enumerate(logits)]))


def test_moco_v3():
    method = moved(method_of("moco_v3", temperature=0.3))
    found, (a, b), batch = parts(method)
    first, second = keys_of(method, batch)
    sides = ((run(method.predictor, a), second), (run(method.predictor, b), first))
    assert found["loss"] == pytest.approx(sum(0.6 * entropy(unit(q) @ unit(k).T / 0.3) for q, k in sides), rel=1e-5)


def test_nnclr():
    method = method_of("nnclr", queue=16, temperature=0.2)
    found, (a, b), _ = parts(method)
    keys = method.queue.keys.double().numpy()
    near = [keys[(unit(z) @ keys.T).argmax(1)] for z in (a, b)]
    sides = ((near[0], run(method.predictor, b)), (near[1], run(method.predictor, a)))
    assert found["loss"] == pytest.approx(np.mean([entropy(n @ unit(p).T / 0.2) for n, p in sides]), rel=1e-5)
    method.after_step(0)
    assert np.allclose(method.queue.keys[:B].numpy(), unit(a), atol=1e-6)


def test_simclr_of_three_views():
    method = method_of("simclr", temperature=0.2, views=3)
    batch = Batch(torch.arange(B), tuple(noise(view, B, 3, 8, 8) for view in range(3)))
    outputs = method.outputs(batch)
    z = unit(outputs["projector"].detach().double().numpy())
    assert len(z) == 3 * B
    losses = []
    for i in range(3 * B):
        others = [j for j in range(3 * B) if j != i]
        below = np.log(np.exp(z[others] @ z[i] / 0.2).sum())
        losses.append(np.mean([below - z[i] @ z[j] / 0.2 for j in others if j % B == i % B]))
    assert float(method.loss(outputs, batch, 0)["loss"].detach()) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("shots", [1, 3])
def test_psco(shots):
    method = method_of("psco", queue=16, shots=shots, temperature=0.2, episode_temperature=0.7)
    found, (a, _), batch = parts(method)
    queue = method.queue.keys.double().numpy()
    with torch.no_grad():
        keys = unit(method.key(batch.views[1], 0).double().numpy())
    predicted = unit(run(method.predictor, a))
    assert found["contrast"] == pytest.approx(np.mean([
        math.log(math.exp(p @ k / 0.2) + np.exp(queue @ p / 0.2).sum()) - p @ k / 0.2 for p, k in zip(predicted, keys, strict=True)
    ]), rel=1e-5)  # fmt: skip
    shares = np.exp(keys @ queue.T / 0.05)
    for _ in range(3):
        shares /= shares.sum(0)
        shares /= shares.sum(1, keepdims=True)
    support = queue[np.argsort(-shares, axis=1)[:, :shots]]
    apart = [np.log(np.exp(support.reshape(-1, support.shape[2]) @ p / 0.7).sum()) for p in predicted]
    expected = np.mean([below - (own @ p).mean() / 0.7 for below, own, p in zip(apart, support, predicted, strict=True)])
    assert found["episode"] == pytest.approx(expected, rel=1e-5)
    assert found["loss"] == pytest.approx(found["contrast"] + found["episode"])
    method.after_step(0)
    assert np.allclose(method.queue.keys[:B].numpy(), keys, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_dcl(sigma):
    found, (a, b), _ = parts(method_of("dcl", temperature=0.2, sigma=sigma))
    a, b = unit(a), unit(b)
    raw = np.exp((a * b).sum(1) / sigma) if sigma else np.ones(B) / B
    weights = 2 - B * raw / raw.sum() if sigma else np.ones(B)
    losses = []
    for one, other in ((a, b), (b, a)):
        for i in range(B):
            apart = [math.exp(one[i] @ rows[j] / 0.2) for rows in (one, other) for j in range(B) if j != i]
            losses.append(-weights[i] * (one[i] @ other[i]) / 0.2 + math.log(sum(apart)))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_tico():
    method = moved(method_of("tico", rho=3.0, beta=0.8))
    moment = noise(5, *method.moment.shape)
    method.moment.copy_(moment @ moment.T / 10)
    before = method.moment.double().numpy().copy()
    found, (a, _), batch = parts(method)
    after = 0.8 * before + 0.2 * unit(a).T @ unit(a) / B
    expected = 1 - cosines(a, keys_of(method, batch)[1]).mean() + 3 * np.mean([z @ after @ z for z in unit(a)])
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
    assert np.allclose(method.moment.numpy(), before)
    method.after_step(0)
    assert np.allclose(method.moment.numpy(), after, rtol=1e-5, atol=1e-7)


def test_npid():
    method = method_of("npid", negatives=30, temperature=0.2)
    method.bank.copy_(torch.nn.functional.normalize(noise(7, N, 12), dim=1))
    batch = Batch(torch.tensor([3, 40, 3, 47, 0, 9, 10, 11]), (noise(1, B, 3, 8, 8),))
    with torch.no_grad():
        z = unit(method.model.outputs(batch.views[0], ("projector",))["projector"].double().numpy())
    bank = method.bank.double().numpy().copy()
    found = method.loss(method.outputs(batch), batch, 4)["loss"]
    drawn = torch.randperm(N, generator=keyed_generator(0, "npid/negatives", 4))[:30].tolist()
    assert {3, 40, 47, 0, 9, 10, 11} & set(drawn)  # of which each is left out where it is the sample's own
    losses = []
    for row, index in zip(z, batch.indices.tolist(), strict=True):
        own, others = row @ bank[index] / 0.2, [row @ bank[other] / 0.2 for other in drawn if other != index]
        losses.append(math.log(math.exp(own) + sum(map(math.exp, others))) - own)
    assert float(found.detach()) == pytest.approx(np.mean(losses), rel=1e-5)
    method.after_step(4)
    for index, row in {3: z[2], 47: z[3]}.items():  # of a sample that occurs twice the last row counts
        mixed = 0.5 * bank[index] + 0.5 * row
        assert np.allclose(method.bank[index].numpy(), mixed / np.linalg.norm(mixed), atol=1e-6)
    assert np.allclose(method.bank[20].numpy(), bank[20])


def shares(scores, rounds):
    """Sinkhorn and Knopp as in the paper's code: sums over the whole matrix, columns and rows in turn."""
    q = np.exp(scores).T
    q /= q.sum()
    for _ in range(rounds):
        q /= q.sum(1, keepdims=True) * len(q)
        q /= q.sum(0, keepdims=True) * q.shape[1]
    return (q * q.shape[1]).T


@pytest.mark.parametrize("step", [0, 100])
def test_swav(step):
    method = method_of("swav", views=3, prototypes=5, queue=16, queue_from=2)
    batch = Batch(torch.arange(B), tuple(noise(seed, B, 3, 8, 8) for seed in (1, 2, 3)))
    with torch.no_grad():
        z = [unit(method.model.outputs(x, ("projector",))["projector"].double().numpy()) for x in batch.views]
    prototypes = unit(method.prototypes.weight.detach().double().numpy())
    losses = []
    for said in range(2):
        past = method.queues[said].keys.double().numpy() if step else np.empty((0, 12))
        places = shares(np.concatenate([past, z[said]]) @ prototypes.T / 0.05, 3)[-B:]
        for other in {0, 1, 2} - {said}:
            logits = z[other] @ prototypes.T / 0.1
            losses.append(np.mean([math.log(np.exp(row).sum()) - share @ row for row, share in zip(logits, places, strict=True)]))
    loss = method.loss(method.outputs(batch), batch, step)["loss"]
    assert float(loss.detach()) == pytest.approx(np.mean(losses), rel=1e-4)
    loss.backward()
    assert (method.prototypes.weight.grad is None) == (step == 0)  # frozen in the first epoch
    method.after_step(step)
    assert np.allclose(method.queues[1].keys[:B].numpy(), z[1], atol=1e-6)


@pytest.mark.parametrize("step", [0, 100])
def test_dino(step):
    method = moved(method_of("dino", views=3, prototypes=5, frozen_epochs=2, center_momentum=0.8))
    method.center.copy_(noise(4, 5) / 10)
    batch = Batch(torch.arange(B), tuple(noise(seed, B, 3, 8, 8) for seed in (1, 2, 3)))
    with torch.no_grad():
        z = [unit(method.model.outputs(x, ("projector",))["projector"].double().numpy()) for x in batch.views]
        method.key_prototypes.weight.add_(noise(6, 5, 12) / 10)
    rows, key_rows = (unit(one.weight.detach().double().numpy()) for one in (method.prototypes, method.key_prototypes))
    center = method.center.double().numpy().copy()
    said = [unit(one) @ key_rows.T for one in keys_of(method, batch)[:2]]
    losses = []
    for teacher in range(2):
        shares = np.exp((said[teacher] - center) / 0.04)
        shares /= shares.sum(1, keepdims=True)
        for other in {0, 1, 2} - {teacher}:
            logits = z[other] @ rows.T / 0.1
            losses.append(np.mean([math.log(np.exp(row).sum()) - share @ row for row, share in zip(logits, shares, strict=True)]))
    loss = method.loss(method.outputs(batch), batch, step)["loss"]
    assert float(loss.detach()) == pytest.approx(np.mean(losses), rel=1e-4)
    loss.backward()
    assert (method.prototypes.weight.grad is None) == (step == 0)  # frozen in the first epochs
    assert method.key_prototypes.weight.grad is None
    method.after_step(step)
    assert np.allclose(method.center.numpy(), 0.8 * center + 0.2 * np.concatenate(said).mean(0), atol=1e-6)


def test_sinkhorn_is_that_of_lightly():
    from lightly.loss.swav_loss import sinkhorn as theirs

    scores = noise(3, 20, 6)
    assert torch.allclose(sinkhorn(scores / 0.05, 3), theirs(scores, iterations=3, epsilon=0.05), atol=1e-5)
    assert torch.isfinite(sinkhorn(scores * 1e4, 3)).all()


def test_losses_are_those_of_lightly():
    from lightly.loss import BarlowTwinsLoss, DCLLoss, DCLWLoss, NegativeCosineSimilarity, TiCoLoss, VICRegLoss

    theirs = {
        "dcl": (DCLLoss(0.2), {"temperature": 0.2}),
        "DCLW": (DCLWLoss(0.2, sigma=0.5), {"temperature": 0.2, "sigma": 0.5}),
        "barlow_twins": (BarlowTwinsLoss(lambda_param=0.01), {"redundancy": 0.01}),
        "vicreg": (VICRegLoss(lambda_param=20.0, mu_param=25.0, nu_param=2.0), {"invariance": 20.0, "variance": 12.5, "covariance": 2.0}),
    }
    for name, (loss, settings) in theirs.items():
        found, z, _ = parts(method_of(name.lower().removesuffix("w"), **settings))
        assert found["loss"] == pytest.approx(float(loss(*(torch.from_numpy(one) for one in z))), rel=1e-3), name
    method = method_of("simsiam")
    found, (a, b), _ = parts(method)
    sides = [(run(method.predictor, a), b), (run(method.predictor, b), a)]
    cosine = NegativeCosineSimilarity()
    assert found["loss"] == pytest.approx(np.mean([float(cosine(torch.from_numpy(p), torch.from_numpy(z))) for p, z in sides]), rel=1e-5)
    method = method_of("tico")
    found, (a, _), batch = parts(method)
    assert found["loss"] == pytest.approx(float(TiCoLoss()(torch.from_numpy(a), torch.from_numpy(keys_of(method, batch)[1]))), rel=1e-5)


def test_swav_and_dino_are_those_of_lightly() -> None:
    from lightly.loss import DINOLoss, SwaVLoss

    def shown(method):
        batch = Batch(torch.arange(B), tuple(noise(seed, B, 3, 8, 8) for seed in (1, 2, 3)))
        with torch.no_grad():
            loss = method.loss(method.outputs(batch), batch, 0)["loss"]
            z = [method.model.outputs(x, ("projector",))["projector"] for x in batch.views]
        return float(loss), z, batch

    loss, z, _ = shown(method := method_of("swav", views=3, prototypes=5, queue=None))
    scores = [method.prototypes(one).detach() for one in z]
    assert loss == pytest.approx(float(SwaVLoss()(scores[:2], scores[2:])), rel=1e-4)
    loss, z, batch = shown(method := moved(method_of("dino", views=3, prototypes=5)))
    with torch.no_grad():
        said = [method.key_prototypes(method.key(x, 0)) for x in batch.views[:2]]
        theirs = DINOLoss(output_dim=5)(said, [method.prototypes(one) for one in z])
    assert loss == pytest.approx(float(theirs), rel=1e-4)


def test_contrasts_are_those_of_lightly() -> None:
    from lightly.loss import NegativeCosineSimilarity, NTXentLoss

    found, (a, b), _ = parts(method_of("simclr", temperature=0.3))
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert found["loss"] == pytest.approx(float(NTXentLoss(0.3)(a, b)), rel=1e-5)
    method = moved(method_of("byol"))
    found, (a, b), batch = parts(method)
    cosine, keys = NegativeCosineSimilarity(), keys_of(method, batch)
    sides = [
        float(cosine(torch.from_numpy(run(method.predictor, z)), torch.from_numpy(k))) for z, k in zip((a, b), keys[::-1], strict=True)
    ]
    assert found["loss"] == pytest.approx(4 + 2 * sum(sides), rel=1e-5)


def test_momentum_rises_to_one():
    found = [rising_momentum(0.9, step, 100) for step in range(101)]
    assert found[0] == pytest.approx(0.9)
    assert found[50] == pytest.approx(0.95)
    assert found[100] == 1
    assert found == sorted(found)


@pytest.mark.parametrize("name", ["moco_v3", "nnclr", "dcl", "vicreg", "barlow_twins"])
def test_a_batch_of_one_is_refused(name):
    with pytest.raises(ConfigError, match="at least 2"):
        METHODS.build(name, model_of(encoder_for("image", "simclr")), RunContext(N, 1, N, N, 0), settings={})


@pytest.mark.parametrize(
    ("name", "settings"), [("byol", {"hidden": -1}), ("byol", {"key_momentum": 2.0}), ("tico", {"beta": 1.0}), ("dcl", {"sigma": -1.0})]
)
def test_settings_out_of_range(name, settings):
    with pytest.raises(ConfigError):
        method_of(name, **settings)
