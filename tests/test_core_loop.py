"""The learning rate, weight-decay groups, averaged weights, the guards of the loop and the kNN probe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DivergedError, Interrupted
from kinshot.learn.knn import knn_accuracy, knn_answers, rows_by_class
from kinshot.learn.learner import Learner
from kinshot.learn.loop import Plan, Run, train
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.optim import WeightAverage, build_optimizer, decay_groups, lr_factor, set_lr
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch, Shown


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0, 1))
def test_learning_rate_rises_then_falls_to_its_floor(total: int, warmup: float, final: float) -> None:
    rates = [lr_factor(s, total, schedule="cosine", warmup=warmup, final=final) for s in range(total)]
    peak = min(total - 1, max(0, math.ceil(warmup * total) - 1))
    assert (np.diff(rates[: peak + 1]) >= -1e-12).all()
    assert (np.diff(rates[peak:]) <= 1e-12).all()
    assert all(0 < r <= 1 for r in rates) or final == 0
    assert lr_factor(total // 2, total, schedule="constant", warmup=0, final=final) == 1


@pytest.mark.parametrize(("warmup", "total", "steps"), [(0.07, 100, 7), (0.03, 780, 24), (0.02, 2055, 42), (0.05, 375, 19)])
def test_the_warm_up_is_rounded_up_and_not_by_an_error_of_floats(warmup: float, total: int, steps: int) -> None:
    rates = [lr_factor(step, total, schedule="constant", warmup=warmup, final=0.0) for step in range(total)]
    assert sum(rate < 1 for rate in rates) == steps - 1
    assert rates[steps - 1] == 1


def test_the_cosine_is_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    theirs = []
    for _ in range(20):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    ours = [lr_factor(step, 20, schedule="cosine", warmup=0.0, final=0.1) for step in range(21)]
    np.testing.assert_allclose(ours[:20], theirs, rtol=1e-9)
    assert ours[19] > 0.1
    assert ours[20] == pytest.approx(0.1)  # what would be left after the last step


def test_only_matrices_decay() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(2, 2))
    decayed, free = decay_groups(module, 0.1)
    assert decayed["weight_decay"] == 0.1
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert free["weight_decay"] == 0
    assert len(decayed["params"]) + len(free["params"]) == len(list(module.parameters()))


def test_a_module_without_weights_has_no_groups_and_no_optimizer() -> None:
    assert decay_groups(torch.nn.Identity(), 0.1) == []
    with pytest.raises(ConfigError, match="nothing is left to train"):
        build_optimizer("sgd", torch.nn.Identity(), lr=0.1, weight_decay=0.0, momentum=0.9)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_optimizers_lower_a_quadratic(name: str) -> None:
    layer = torch.nn.Linear(3, 1, bias=False)
    optimizer = build_optimizer(name, layer, lr=0.05, weight_decay=0.0, momentum=0.9)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (layer(torch.eye(3)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_weight_average_follows_its_recursion() -> None:
    layer = torch.nn.BatchNorm1d(2)
    average = WeightAverage(layer.state_dict(), 0.9)
    expected = layer.weight.detach().double().numpy().copy()
    for step in range(5):
        with torch.no_grad():
            layer.weight.add_(float(step))
            assert layer.num_batches_tracked is not None
            layer.num_batches_tracked.add_(1)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * layer.weight.detach().double().numpy()
        average.update(layer.state_dict(), step)
    np.testing.assert_allclose(average.state["weight"].numpy(), expected, rtol=1e-6)
    assert int(average.state["num_batches_tracked"]) == 5


class Slower(torch.nn.Linear):
    lr_scale = 0.1


def test_parts_take_their_share_of_the_learning_rate() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), Slower(2, 2))
    groups = decay_groups(network, 0.3)
    assert [(group.get("lr_scale"), group["weight_decay"], len(group["params"])) for group in groups] == [
        (None, 0.3, 1), (None, 0.0, 1), (0.1, 0.3, 1), (0.1, 0.0, 1),
    ]  # fmt: skip
    assert all("lr_scale" not in group for group in decay_groups(network[0], 0.3))
    optimizer = build_optimizer("sgd", network, lr=1.0, weight_decay=0.0, momentum=0.0)
    set_lr(optimizer, 0.5)
    before = [p.detach().clone() for p in network.parameters()]
    sum(p.sum() for p in network.parameters()).backward()
    optimizer.step()
    moved = [float((old - new.detach()).mean()) for old, new in zip(before, network.parameters(), strict=True)]
    assert moved == pytest.approx([0.5, 0.5, 0.05, 0.05], rel=1e-5)


class Quadratic(Method):
    """A method of one number whose loss can be told to break."""

    def __init__(self, broken: int = -1, gradient: bool = False) -> None:
        super().__init__(Model(torch.nn.Linear(1, 1, bias=False)))
        self.broken, self.gradient = broken, gradient

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        return Outputs({}, Shown(batch.indices, (0,), (batch.indices,)))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        value = self.encoder(torch.ones(1, 1)).square().sum()
        if step == self.broken:
            value = (value - value.detach()).sqrt() if self.gradient else value * float("nan")
        return {"loss": value, "half": value.detach() / 2}


class Notes:
    """Hooks that only remember."""

    def __init__(self) -> None:
        self.saved: list[int] = []
        self.epochs: list[int] = []
        self.reasons: list[str] = []

    def after_step(self, run: Run, result: object, epoch: int) -> None: ...

    def after_epoch(self, run: Run, epoch: int) -> None:
        self.epochs.append(run.step)

    def save(self, run: Run) -> None:
        self.saved.append(run.step)

    def diverged(self, run: Run, indices: torch.Tensor, reason: str) -> None:
        self.reasons.append(reason)


def go(method: Method, *, stop_at: int | None = None, clip: float | None = None) -> tuple[Run, Notes]:
    """Two epochs of three steps, a checkpoint every two."""
    run = Run(Learner(method), torch.optim.SGD(method.parameters(), lr=0.1))
    plan = Plan(2, 3, lambda step: 0.1, clip, torch.device("cpu"), None, 0, 1, 2)
    notes, stop = Notes(), SimpleNamespace(requested=None)

    def batches(epoch: int, first: int):
        for step in range(first, 3):
            if stop_at == epoch * 3 + step:
                stop.requested = 15
            yield torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])

    def batch_of(images: torch.Tensor, indices: torch.Tensor, **keys: int) -> Batch:
        return Batch(indices, [images.float()])

    try:
        train(run, plan, batches, batch_of, lambda: torch.zeros(1), notes, stop)
    except (DivergedError, Interrupted) as error:
        notes.reasons.append(type(error).__name__)
    return run, notes


def test_checkpoints_fall_on_their_steps_and_at_the_end() -> None:
    run, notes = go(Quadratic())
    assert run.step == 6
    assert notes.saved == [2, 4, 6]
    assert notes.epochs == [3, 6]


@pytest.mark.parametrize("gradient", [False, True])
def test_a_broken_loss_or_gradient_changes_no_weight(gradient: bool) -> None:
    sound, method = Quadratic(), Quadratic(broken=4, gradient=gradient)
    with torch.no_grad():
        for one in (sound, method):
            one.encoder.weight.fill_(1.0)
    run, notes = go(method)
    assert run.step == 4
    assert notes.saved == [2, 4]
    assert "DivergedError" in notes.reasons
    assert ("gradient" in notes.reasons[0]) == gradient
    go(sound)
    # two sound steps fewer than the whole run, each of which multiplies the weight by 0.8
    assert float(method.encoder.weight.detach()) * 0.8**2 == pytest.approx(float(sound.encoder.weight.detach()), rel=1e-5)


def test_a_signal_is_acted_on_at_the_next_step_boundary() -> None:
    run, notes = go(Quadratic(), stop_at=2)
    assert run.step == 3
    assert notes.saved == [2, 3]
    assert notes.reasons == ["Interrupted"]


def test_clipping_bounds_the_update() -> None:
    free, clipped = Quadratic(), Quadratic()
    with torch.no_grad():
        for method in (free, clipped):
            method.encoder.weight.fill_(100.0)
    go(free)
    go(clipped, clip=1.0)
    assert float(clipped.encoder.weight.detach()) == pytest.approx(100.0 - 6 * 0.1, abs=1e-3)
    assert float(free.encoder.weight.detach()) < 50


def test_knn_equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    bank, query = rng.normal(size=(40, 5)), rng.normal(size=(15, 5))
    labels, wanted = rng.integers(0, 3, 40), rng.integers(0, 3, 15)
    right = 0
    for row, label in zip(query, wanted, strict=True):
        similarity = bank @ row / np.linalg.norm(bank, axis=1) / np.linalg.norm(row)
        votes = np.zeros(3)
        for j in np.argsort(-similarity)[:7]:
            votes[labels[j]] += np.exp(similarity[j] / 0.1)
        right += votes.argmax() == label
    found = knn_accuracy(torch.tensor(bank), torch.tensor(labels), torch.tensor(query), torch.tensor(wanted), k=7)
    assert found == pytest.approx(right / 15)


@pytest.mark.parametrize("temperature", [0.011, 0.005, 1e-3, 1e-6])
def test_sharp_knn_votes_do_not_overflow(temperature: float) -> None:
    """exp(1 / 0.011) is the last that float32 holds; below, votes were infinite and the lowest class of the neighbors won."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % 6
    bank = torch.eye(6)[labels] + 0.05 * torch.randn(60, 6, generator=rng)
    assert knn_accuracy(bank, labels, bank, labels, k=20, temperature=temperature) == 1
    shares = knn_answers(bank, labels, bank, k=20, temperature=temperature).shares
    assert np.isfinite(shares).all()
    assert (shares[:, 0] > 0.5).all()


def test_knn_answers_name_the_classes_in_order() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 1.0], [0.7, 0.7]])
    found = knn_answers(bank, torch.tensor([4, 4, 1, 1, 7]), torch.tensor([[1.0, 0.2], [0.1, 1.0]]), k=4, top=4)
    assert found.classes.tolist() == [[4, 7, 1, -1], [1, 7, 4, -1]]
    assert found.predictions.tolist() == [4, 1]
    assert found.shares.sum(1) == pytest.approx(1)
    assert [found.accuracy(np.array([7, 1]), top) for top in (1, 2, 3)] == [0.5, 1.0, 1.0]
    equal = knn_answers(torch.ones(4, 2), torch.tensor([3, 2, 5, 2]), torch.ones(1, 2), k=3, top=3)
    assert equal.classes.tolist() == [[2, 3, 5]]  # the three first of equally near ones; of equal votes the lowest class
    with pytest.raises(ConfigError, match="temperature above 0 and top at least 1, got 0 and 1"):
        knn_answers(bank, torch.zeros(5, dtype=torch.int64), bank, temperature=0)


def test_a_probe_draws_every_class_alike() -> None:
    """Classes larger than the sample: it was one class alone, which any features get right."""
    labels = np.repeat(np.arange(10), 6000)
    rows = rows_by_class(labels, 2000, seed=0)
    assert np.bincount(labels[rows]).tolist() == [200] * 10
    assert len(set(rows.tolist())) == 2000
    assert rows.tolist() != rows_by_class(labels, 2000, seed=1).tolist()
    assert np.bincount(labels[rows[0::2]]).tolist() == [100] * 10  # the bank; the queries are the rest
    noise = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    y = torch.from_numpy(labels[rows])
    assert 0.05 < knn_accuracy(noise[0::2], y[0::2], noise[1::2], y[1::2]) < 0.15


def test_a_probe_of_unequal_classes() -> None:
    sizes = np.array([1000, 30, 1, 200, 2])
    labels = np.repeat(np.arange(5), sizes)
    taken = np.bincount(labels[rows_by_class(labels, 232, seed=0)], minlength=5)
    assert taken.tolist() == [100, 30, 0, 100, 2]  # a class of one sample has no neighbor to be found
    whole = rows_by_class(labels, 10_000, seed=0)
    assert np.bincount(labels[whole], minlength=5).tolist() == [1000, 30, 0, 200, 2]


def test_a_probe_of_many_classes_takes_enough_of_each() -> None:
    labels = np.tile(np.arange(500), 40)
    taken = np.bincount(labels[rows_by_class(labels, 400, seed=3)], minlength=500)
    assert sorted(set(taken.tolist())) == [0, 20]
    assert len(rows_by_class(np.zeros(50, dtype=np.int64), 20, seed=0)) == 0  # one class: any guess is right
    assert len(rows_by_class(np.arange(50), 20, seed=0)) == 0
