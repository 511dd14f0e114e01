"""What every order of batches keeps to, generated from the registry."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.base import ArraySource
from kinshot.datasets.loader import batches
from kinshot.datasets.orders import ORDERS

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(8), [9, 8, 7, 6, 5, 5, 4, 3]))
BATCH, STEPS = 8, 5
SOURCE = ArraySource(np.arange(len(LABELS), dtype=np.uint8)[:, None, None, None], LABELS)


def made(name, labels=LABELS, batch=BATCH, steps=STEPS, seed=3, **settings):
    return ORDERS.build(name, labels, batch, steps, seed, settings=settings)


@pytest.fixture(params=ORDERS.names())
def name(request):
    return request.param


def test_an_epoch_is_batches_of_sample_numbers(name):
    found = made(name)(0)
    assert found.shape == (STEPS, BATCH)
    assert found.dtype == torch.int64
    assert 0 <= int(found.min()) <= int(found.max()) < len(LABELS)


def test_an_epoch_depends_on_seed_and_number_alone(name):
    order = made(name)
    first = order(4)
    order(0)
    assert torch.equal(order(4), first)
    assert torch.equal(made(name)(4), first)
    assert torch.equal(pickle.loads(pickle.dumps(order))(4), first)
    assert not torch.equal(order(5), first)
    assert not torch.equal(made(name, seed=4)(4), first)


def test_no_global_random_state_is_touched(name):
    before, numbers = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    made(name)(0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_follow_it_from_any_step(name, workers):
    order = made(name)
    found = [indices for _, indices in batches(SOURCE, BATCH, 3, 2, start_step=1, workers=workers, order=order)]
    assert torch.equal(torch.stack(found), order(2)[1:])


def test_what_it_says_for_itself_is_written_down(name):
    entry = ORDERS.entry(name)
    assert entry.summary.endswith(".")
    assert all(parameter.help for parameter in entry.parameters.values())


# ---- shuffled


def test_shuffled_is_the_default_of_batches_bit_for_bit():
    permutation = torch.randperm(len(LABELS), generator=keyed_generator(3, "order", 6))
    expected = permutation[: len(LABELS) // BATCH * BATCH].view(-1, BATCH)
    assert torch.equal(made("shuffled", steps=len(LABELS) // BATCH)(6), expected)
    assert torch.equal(torch.stack([indices for _, indices in batches(SOURCE, BATCH, 3, 6)]), expected)


def test_shuffled_takes_data_without_labels_and_no_sample_twice():
    found = made("shuffled", labels=np.full(41, -1))(0)
    assert len(found.unique()) == STEPS * BATCH
    with pytest.raises(ConfigError, match="expected 1 to 39 samples an epoch, got 5 batches of 8"):
        made("shuffled", labels=np.full(39, -1))


# ---- classes


@pytest.mark.parametrize("per_class", [2, 4])
def test_every_batch_has_as_many_of_each_of_its_classes(per_class):
    order = made("classes", per_class=per_class, steps=60)
    seen = set()
    for row in order(1).numpy():
        assert len(set(row)) == BATCH
        assert (LABELS[row].reshape(-1, per_class) == LABELS[row[::per_class], None]).all()
        assert len(set(LABELS[row])) == BATCH // per_class
        seen |= set(LABELS[row])
    assert seen == {label for label in range(8) if (label == LABELS).sum() >= per_class}


def test_classes_are_drawn_evenly_whatever_their_size():
    drawn = LABELS[made("classes", per_class=2, steps=2000)(0).numpy()[:, ::2]]
    share = np.bincount(drawn.ravel(), minlength=8) / drawn.size
    assert abs(share - 1 / 8).max() < 0.01  # six standard deviations of 8000 draws are 0.02
    rows = np.flatnonzero(LABELS == 0)
    counts = np.array([(made("classes", per_class=2, steps=2000)(0) == row).sum() for row in rows])
    assert counts.min() > 0.7 * counts.mean()


def test_small_classes_are_left_out_or_their_samples_come_again():
    labels = np.array([0, 0, 1, 2, 2, 2, 2, 2, -1, -1])
    with pytest.raises(ConfigError, match=r"need 2 classes, the data has 1, 2 more have fewer than 4 samples: set repeat=true"):
        made("classes", labels=labels)
    order = made("classes", labels=labels, repeat=True, steps=40)
    for of_class in order(0).numpy().reshape(-1, 4):
        times = np.unique(of_class, return_counts=True)[1].tolist()
        assert times == {0: [2, 2], 1: [4], 2: [1, 1, 1, 1]}[labels[of_class[0]]]


def test_what_cannot_be_drawn_is_refused():
    for batch, per_class in ((8, 3), (8, 1), (8, 8), (2, 2)):
        with pytest.raises(ConfigError, match="per_class of at least 2 that divides the batch"):
            made("classes", batch=batch, per_class=per_class)
    with pytest.raises(ConfigError, match=r"need 10 classes, the data has 8: lower train.batch_size or raise per_class"):
        made("classes", batch=20, per_class=2)
    with pytest.raises(ConfigError, match="the data has 0"):
        made("classes", labels=np.full(40, -1))
