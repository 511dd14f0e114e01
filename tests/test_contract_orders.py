"""What every order of batches keeps to, generated from the registry."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.base import ArraySource
from kinshot.datasets.labels import Clock, Marks
from kinshot.datasets.loader import batches
from kinshot.datasets.orders import ORDERS

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(8), [9, 8, 7, 6, 5, 5, 4, 3]))
BATCH, STEPS = 8, 5
SOURCE = ArraySource(np.arange(len(LABELS), dtype=np.uint8)[:, None, None, None], LABELS)
# half a second from a window to the next in six recordings, mixed up
RECORDING = np.repeat(np.arange(6), [14, 10, 8, 7, 6, 2])
MIXED = np.random.default_rng(1).permutation(len(RECORDING))
CLOCK = Clock((np.concatenate([np.arange(n) / 2 + 3 for n in np.bincount(RECORDING)]))[MIXED], RECORDING[MIXED])
# pairs of classes are of one kind; a class has its samples from three places in turn
MARKS = Marks(LABELS, {"kind": LABELS // 2, "place": np.argsort(np.argsort(LABELS, kind="stable")) % 3})
KNOWN = {"labels": LABELS, "clock": CLOCK, "attributes": MARKS}
NEEDED = {"hierarchical": {"attribute": "kind", "per_class": 2}, "balanced": {"attribute": "place", "per_class": 2}}


def made(name, labels=None, batch=BATCH, steps=STEPS, seed=3, clock=None, marks=None, **settings):
    given = {"labels": labels, "clock": clock, "attributes": marks}[takes := ORDERS.entry(name).facts.get("takes", "labels")]
    settings = NEEDED.get(name, {}) | settings
    return ORDERS.build(name, KNOWN[takes] if given is None else given, batch, steps, seed, settings=settings)


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


def test_what_it_leaves_out_is_said_a_line_each(name):
    assert all(isinstance(note, str) and note.startswith(f"order {name}: ") for note in getattr(made(name), "notes", []))


def test_what_needs_a_clock_says_so(name):
    if ORDERS.entry(name).facts.get("takes") == "clock":
        with pytest.raises(ConfigError, match=f"order {name} needs to know .* choose data with a clock"):
            ORDERS.build(name, None, BATCH, STEPS, 3)


def test_what_needs_an_attribute_names_those_that_there_are(name):
    if ORDERS.entry(name).facts.get("takes") == "attributes":
        with pytest.raises(ConfigError, match=f"order {name} needs the attribute 'kin' of the data.*'kind'"):
            made(name, attribute="kin")
        with pytest.raises(ConfigError, match=f"order {name} needs .* the data has none: choose data with attributes"):
            made(name, marks=Marks(LABELS, {}))


@pytest.mark.parametrize("name", ["classes", "hierarchical", "balanced", "units"])
@pytest.mark.parametrize("labels", [np.full_like(LABELS, -1), np.zeros_like(LABELS)], ids=["none", "one"])
def test_what_needs_classes_says_so(name, labels):
    with pytest.raises(ConfigError, match=rf"order {name}: .* the data has [01].*: (lower|set)"):
        made(name, labels=labels, marks=Marks(labels, {"kind": labels, "place": MARKS.attributes["place"]}))


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


# ---- consecutive


def sequences(order, epochs=(0,), length=4):
    return np.concatenate([order(epoch).numpy().reshape(-1, length) for epoch in epochs])


def random_clock(seed):
    """Recordings of any length, with gaps, mixed up."""
    draws = np.random.default_rng(seed)
    recording = np.repeat(np.arange(7), draws.integers(1, 30, 7))
    time = np.concatenate([np.cumsum(draws.choice([1.0, 1.0, 1.0, 5.0], n)) for n in np.bincount(recording)])
    mixed = draws.permutation(len(recording))
    return Clock(time[mixed], recording[mixed])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("length", "spacing", "gap"), [(4, 1, None), (2, 1, 1.0), (4, 2, None), (2, 3, 1.0)])
def test_sequences_follow_the_clock_inside_a_recording(seed, length, spacing, gap):
    clock = random_clock(seed)
    order = made("consecutive", clock=clock, length=length, spacing=spacing, gap=gap)
    ranks = np.empty(len(clock.time), dtype=np.int64)
    for recording in range(7):
        rows = np.flatnonzero(clock.recording == recording)
        ranks[rows[np.argsort(clock.time[rows])]] = np.arange(len(rows))
    for rows in sequences(order, range(5), length):
        assert len(set(clock.recording[rows])) == 1
        assert (np.diff(ranks[rows]) == spacing).all()
        if gap is not None:
            assert (np.diff(clock.time[rows]) <= spacing * gap).all()


@pytest.mark.parametrize(("length", "spacing", "gap"), [(4, 1, None), (2, 1, 1.0), (4, 2, None), (2, 3, 1.0)])
def test_every_sequence_that_there_is_comes_in_some_epoch(length, spacing, gap):
    clock = random_clock(3)
    expected = set()
    for recording in range(7):
        rows = np.flatnonzero(clock.recording == recording)
        rows = rows[np.argsort(clock.time[rows])]
        pieces = [[rows[0]]]
        for before, row in pairwise(rows):
            if gap is not None and clock.time[row] - clock.time[before] > gap:
                pieces.append([])
            pieces[-1].append(row)
        reach = (length - 1) * spacing
        expected |= {tuple(piece[at : at + reach + 1 : spacing]) for piece in pieces for at in range(len(piece) - reach)}
    order = made("consecutive", clock=clock, length=length, spacing=spacing, gap=gap)
    assert {tuple(rows) for rows in sequences(order, range(120), length).tolist()} == expected


def test_a_cut_takes_no_window_twice_and_leaves_few():
    recording = np.repeat(np.arange(3), 41)
    order = made("consecutive", clock=Clock(np.tile(np.arange(41.0), 3), recording), steps=3, batch=36)
    for epoch in range(4):
        found = order(epoch).flatten()[: 9 * 3 * 4]  # each recording gives nine sequences whatever its offset
        assert len(found.unique()) == len(found)
    # the epoch asks for no more than the first cut has, and its cuts differ
    assert len({tuple(order(epoch)[0].tolist()) for epoch in range(5)}) == 5
    assert len({int(order(epoch).view(-1, 4)[:, 0].min()) for epoch in range(9)}) > 1


def test_what_lies_in_no_sequence_is_said():
    assert made("consecutive").notes == ["order consecutive: 2 of 47 windows lie in no sequence of 4: too few in a row"]
    clock = Clock(CLOCK.time, np.where(CLOCK.recording == 5, -1, CLOCK.recording))
    order = made("consecutive", clock=clock)
    assert order.notes == ["order consecutive: 2 of 47 windows are of no known recording and left out"]
    assert (clock.recording[sequences(order, range(9))] >= 0).all()
    assert made("consecutive", length=2).notes == []


def test_sequences_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"sequences of 3 windows do not fill a batch of 8: set train.batch_size to a multiple"):
        made("consecutive", length=3)
    with pytest.raises(ConfigError, match="no recording has 16 windows in a row, the most are 14: lower length or spacing"):
        made("consecutive", length=16, batch=16)
    with pytest.raises(ConfigError, match="no recording has 8 windows in a row, 3 apart, the most are 5"):
        made("consecutive", length=8, spacing=3)
    with pytest.raises(ConfigError, match="no recording has 2 windows in a row, the most are 1"):
        made("consecutive", length=2, gap=0.4)
    for settings in ({"length": 1}, {"spacing": 0}, {"gap": 0.0}):
        with pytest.raises(ConfigError, match="expected length of at least 2, spacing of at least 1 and gap above 0"):
            made("consecutive", **settings)


# ---- one_per_recording


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("batch", "steps"), [(4, 6), (7, 4), (1, 20), (16, 2)])
def test_windows_of_a_recording_are_spread_over_batches(seed, batch, steps):
    clock = random_clock(seed)
    sizes = np.bincount(clock.recording)
    if steps * batch > sizes.sum():
        with pytest.raises(ConfigError, match=f"expected 1 to {sizes.sum()} samples an epoch"):
            made("one_per_recording", clock=clock, batch=batch, steps=steps)
        return
    order = made("one_per_recording", clock=clock, batch=batch, steps=steps)
    least = next(most for most in range(1, batch + 1) if sum(min(size, most * steps) for size in sizes) >= batch * steps)
    for epoch in range(4):
        found = order(epoch).numpy()
        assert len(np.unique(found)) == found.size
        counts = np.array([np.bincount(clock.recording[row], minlength=7) for row in found])
        assert counts.max() <= least
        assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    assert order.notes == (
        [f"order one_per_recording: batches of {batch} hold up to {least} windows of a recording, which are 7"] if least > 1 else []
    )


def test_windows_of_one_recording_in_a_batch_lie_far_apart():
    order = made("one_per_recording", clock=Clock(np.arange(50.0), np.zeros(50, np.int64)), batch=5, steps=9)
    for row in order(2).numpy():
        assert np.diff(np.sort(row)).min() >= 9
