"""Fine-tuning a whole network on a cosine classifier, against row fine-tuning, finite differences and the rules of its contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kinshot.core.errors import ConfigError, DataError, DivergedError
from kinshot.encoders.build import build_encoder
from kinshot.fewshot.imprinting import balanced_draws, fine_tune_rows
from kinshot.fewshot.network_fine_tuning import fine_tune_network
from kinshot.samples.pixels import PixelSpec


def problem(n=24, d=6, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(n, d, generator=g), nn.functional.normalize(torch.randn(classes, d, generator=g), dim=1)
    return x, weight, torch.arange(n) % classes


def test_without_an_encoder_to_train_it_is_row_fine_tuning():
    x, weight, labels = problem()
    settings = {"steps": 7, "lr": 0.1, "batch": 8, "seed": 3}
    found = fine_tune_network(nn.Identity(), weight, 5.0, x, labels, **settings)
    expected = fine_tune_rows(weight, 5.0, x, labels, **settings)
    torch.testing.assert_close(found.classifier.weight.detach(), expected.rows, atol=1e-5, rtol=1e-5)
    assert float(found.classifier.scale) == pytest.approx(expected.scale, rel=1e-5)
    assert found.losses == pytest.approx(expected.losses, rel=1e-5)


def loss_of(matrix, weight, scale, x, labels):
    """Mean cross-entropy in float64, written out."""
    z = x @ matrix.T
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    logits = scale * z @ rows.T
    logits = logits - logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(x)), labels]))


def test_one_step_follows_the_gradient_with_weight_decay_on_the_encoder_alone():
    x, _, labels = problem(d=3)
    encoder = nn.Linear(3, 4, bias=False)
    weight = nn.functional.normalize(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    before = encoder.weight.detach().double().numpy()
    found = fine_tune_network(encoder, weight, 4.0, x, labels, steps=1, lr=0.5, weight_decay=0.1, batch=16, seed=2)
    drawn = balanced_draws(labels, 16, 2, 0)
    given = (weight.double().numpy(), 4.0, x[drawn].double().numpy(), labels[drawn].numpy())
    gradient, h = np.zeros_like(before), 1e-5
    for place in np.ndindex(*before.shape):
        step = np.zeros_like(before)
        step[place] = h
        gradient[place] = (loss_of(before + step, *given) - loss_of(before - step, *given)) / (2 * h)
    moved = (before - found.encoder.weight.detach().double().numpy()) / 0.5
    np.testing.assert_allclose(moved, gradient + 0.1 * before, atol=2e-5)
    assert found.losses[0] == pytest.approx(loss_of(before, *given), rel=1e-5)
    by_scale = (loss_of(before, given[0], 4.0 + h, *given[2:]) - loss_of(before, given[0], 4.0 - h, *given[2:])) / (2 * h)
    assert float(found.classifier.scale) == pytest.approx(4.0 - 0.5 * by_scale, abs=1e-5)
    assert torch.linalg.vector_norm(found.classifier.weight, dim=1).tolist() == pytest.approx([1.0] * 4, abs=1e-6)


def images_and_encoder():
    spec = PixelSpec.square(1, 16, (0.5,), (0.5,))
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(20) % 2
    images = torch.randn(20, 1, 16, 16, generator=g) + labels.view(-1, 1, 1, 1)
    encoder = build_encoder("conv4", {"width": 4}, spec)
    weight = torch.randn(2, encoder.dim, generator=g)
    return encoder, weight, images, labels


@pytest.mark.parametrize("mode", ["batch", "frozen"])
def test_all_parameters_move_and_nothing_that_was_given_does(mode):
    encoder, weight, images, labels = images_and_encoder()
    before, rows = {k: v.clone() for k, v in encoder.state_dict().items()}, weight.clone()
    found = fine_tune_network(encoder, weight, 10.0, images, labels, steps=12, lr=0.05, batch=16, batch_norm=mode)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert torch.equal(weight, rows)
    assert np.mean(found.losses[-3:]) < np.mean(found.losses[:3])
    assert all(not torch.equal(before[k], v) for k, v in found.encoder.named_parameters())
    statistics = [k for k in before if "running" in k]
    assert all(torch.equal(before[k], found.encoder.state_dict()[k]) == (mode == "frozen") for k in statistics)
    assert not found.encoder.training
    assert not found.classifier.weight.requires_grad


def test_no_steps_give_copies():
    encoder, weight, images, labels = images_and_encoder()
    found = fine_tune_network(encoder, weight, 3.0, images, labels, steps=0)
    assert found.losses == []
    assert torch.equal(found.classifier.weight, weight)
    assert float(found.classifier.scale) == 3
    torch.testing.assert_close(found.encoder(images), encoder.eval()(images))
    with torch.no_grad():
        next(found.encoder.parameters()).zero_()
    assert next(encoder.parameters()).abs().sum() > 0


def test_draws_are_keyed_also_those_of_the_encoder_and_the_global_state_stays():
    x, weight, labels = problem()
    encoder = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5))
    state = torch.random.get_rng_state()
    with torch.no_grad():
        first = fine_tune_network(encoder, weight, 5.0, x, labels, steps=4, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(5)
    second = fine_tune_network(encoder, weight, 5.0, x, labels, steps=4, seed=1)
    other = fine_tune_network(encoder, weight, 5.0, x, labels, steps=4, seed=2)
    assert first.losses == second.losses
    assert torch.equal(first.classifier.weight, second.classifier.weight)
    assert first.losses != other.losses
    torch.random.set_rng_state(state)


def test_images_may_come_from_a_function_and_the_scale_may_stand():
    x, weight, labels = problem()
    asked = []

    def inputs(positions, step):
        asked.append((positions, step))
        return x[positions]

    found = fine_tune_network(nn.Identity(), weight, 5.0, inputs, labels, steps=3, batch=8, train_scale=False, seed=4)
    same = fine_tune_network(nn.Identity(), weight, 5.0, x, labels, steps=3, batch=8, train_scale=False, seed=4)
    assert torch.equal(found.classifier.weight, same.classifier.weight)
    assert float(found.classifier.scale) == 5
    assert [step for _, step in asked] == [0, 1, 2]
    assert all(torch.equal(positions, balanced_draws(labels, 8, 4, step)) for positions, step in asked)


@pytest.mark.parametrize(
    ("changed", "error", "words"),
    [
        ({"scale": 0.0}, ConfigError, "scale must be positive"),
        ({"steps": -1}, ConfigError, "steps"),
        ({"batch": 1}, ConfigError, "batch at least 2"),
        ({"momentum": 1.0}, ConfigError, "momentum"),
        ({"batch_norm": "none"}, ConfigError, "batch or frozen"),
        ({"labels": torch.arange(24)}, DataError, r"0\.\.3"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, DataError, "3 labels for 24 images"),
        ({"labels": torch.zeros(24)}, DataError, "int64"),
        ({"weight": torch.zeros(4)}, DataError, r"\(C, D\)"),
        ({"images": torch.full((24, 6), torch.nan)}, DivergedError, "lower lr"),
        ({"lr": 1e4}, DataError, "drove the scale"),
    ],
)
def test_mistakes_are_told(changed, error, words):
    x, weight, labels = problem()
    given = {"weight": weight, "scale": 5.0, "images": x, "labels": labels, "steps": 2, "batch": 8, **changed}
    with pytest.raises(error, match=words):
        fine_tune_network(nn.Identity(), **given)
