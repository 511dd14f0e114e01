"""Orders by class that look at a further label, and those of units: what each batch holds, what is left out, what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import ArraySource
from kinshot.datasets.labels import Marks
from kinshot.datasets.orders import ORDERS
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import build
from tests.tiny import TINY

# twelve classes in four kinds of five, three, three and one; classes 4 and 11 are small
SIZES = [9, 8, 7, 6, 2, 6, 5, 7, 8, 6, 5, 3]
KIND = np.repeat([0, 1, 2, 3], [5, 3, 3, 1])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(12), SIZES))


def made(name, labels=LABELS, attributes=None, batch=24, steps=40, seed=1, **settings):
    marks = Marks(labels, {"kind": KIND[labels]} if attributes is None else attributes)
    given = marks if ORDERS.entry(name).facts.get("takes") == "attributes" else labels
    return ORDERS.build(name, given, batch, steps, seed, settings=settings)


# ---- hierarchical


@pytest.mark.parametrize(("coarse", "per_class"), [(1, 8), (2, 4), (3, 4), (2, 6)])
def test_a_batch_is_a_few_classes_of_a_few_coarse_classes(coarse, per_class):
    ways = 24 // coarse // per_class
    order = made("hierarchical", attribute="kind", coarse=coarse, per_class=per_class, repeat=per_class > 4)
    seen = set()
    for row in order(2).numpy():
        assert per_class > 4 or len(set(row)) == 24
        classes = LABELS[row].reshape(coarse, ways, per_class)
        assert (classes == classes[:, :, :1]).all()
        assert (np.diff(np.sort(classes[:, :, 0], axis=1), axis=1) > 0).all()
        kinds = KIND[classes[:, :, 0]]
        assert (kinds == kinds[:, :1]).all()
        assert len(set(kinds[:, 0])) == coarse
        seen |= set(classes.ravel())
    assert seen == {c for c in range(12) if (per_class > 4 or SIZES[c] >= per_class) and np.bincount(KIND)[KIND[c]] >= ways}


def test_coarse_classes_are_drawn_evenly_and_what_cannot_be_drawn_is_said():
    order = made("hierarchical", attribute="kind", steps=3000)
    kinds = KIND[LABELS[order(0).numpy()]][:, ::12]
    assert abs(np.bincount(kinds.ravel(), minlength=4) / kinds.size - [1 / 3, 1 / 3, 1 / 3, 0]).max() < 0.02
    assert order.notes == ("order hierarchical: 2 of 12 classes are left out: too few samples, or too few classes of one kind",)
    assert made("hierarchical", attribute="kind", coarse=1, per_class=12, repeat=True).notes != ()
    assert made("hierarchical", attribute="kind", coarse=4, per_class=6, repeat=True).notes == ()


def test_samples_of_no_known_kind_are_left_out():
    kind = np.where(np.arange(len(LABELS)) % 3 == 0, -1, KIND[LABELS])
    order = made("hierarchical", attributes={"kind": kind}, attribute="kind", per_class=2, batch=8)
    assert (kind[order(0).numpy()] >= 0).all()


def test_hierarchies_that_cannot_be_are_refused():
    for settings in ({"per_class": 1}, {"coarse": 0}, {"coarse": 5}, {"coarse": 1, "per_class": 24}):
        with pytest.raises(ConfigError, match="coarse of at least 1 and per_class of at least 2 whose product divides the batch"):
            made("hierarchical", attribute="kind", **settings)
    with pytest.raises(
        ConfigError, match=r"24 need 3 values of 'kind' with 1 classes of 8 samples each, the data has 2, of 4 values: lower"
    ):
        made("hierarchical", attribute="kind", coarse=3, per_class=8)
    half = np.argsort(np.argsort(LABELS, kind="stable")) % 2
    with pytest.raises(ConfigError, match=r"'half' is no coarse class, as 12 of 12 classes have several of its values \(the first is 0\)"):
        made("hierarchical", attributes={"half": half}, attribute="half")


# ---- balanced


def of_two(classes):
    """Photographs and drawings in turn within each class, class 3 without drawings."""
    modality = np.argsort(np.argsort(classes, kind="stable")) % 2
    return np.where(classes == 3, 0, modality)


@pytest.mark.parametrize(("values", "per_class"), [(2, 4), (2, 2), (2, 6)])
def test_a_class_is_shared_evenly_by_the_values(values, per_class):
    modality = of_two(LABELS)
    order = made("balanced", attributes={"modality": modality}, attribute="modality", values=values, per_class=per_class, batch=12)
    for row in order(0).numpy():
        assert len(set(row)) == 12
        classes = LABELS[row].reshape(-1, per_class)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == 12 // per_class
        assert all(np.bincount(found).tolist() == [per_class // 2] * 2 for found in modality[row].reshape(-1, per_class))
    wanted = f"order balanced: .* classes are left out: fewer than 2 values of 'modality' with {per_class // 2} samples each"
    (note,) = order.notes
    assert re.fullmatch(wanted, note)
    small = sum(min(np.bincount(modality[c == LABELS], minlength=2)) < per_class // 2 for c in range(12))
    assert f": {small} of 12 classes" in note


def test_as_many_cameras_as_samples_take_each_another():
    labels, camera = np.repeat(np.arange(4), 12), np.tile(np.arange(12) % 6, 4)
    order = made("balanced", labels, {"camera": camera}, batch=8, attribute="camera", values=4)
    drawn = camera[order(0).numpy()].reshape(-1, 4)
    assert all(len(set(row)) == 4 for row in drawn)
    assert set(drawn.ravel()) == set(range(6))
    assert order.notes == ()


def test_samples_come_again_where_a_value_has_too_few_and_repetition_is_allowed():
    labels, place = np.repeat([0, 1], 5), np.array([0, 0, 0, 0, 1] * 2)
    with pytest.raises(
        ConfigError, match=r"need 2 classes that have 2 values of 'place' with 2 samples each, the data has 0 of 2: .*repeat"
    ):
        made("balanced", labels, {"place": place}, batch=8, attribute="place")
    order = made("balanced", labels, {"place": place}, batch=8, attribute="place", repeat=True)
    for row in order(0).numpy():
        assert np.bincount(place[row]).tolist() == [4, 4]
        assert len(set(row[place[row] == 1])) == 2
        assert len(set(row[place[row] == 0])) == 4


def test_shares_that_cannot_be_are_refused():
    for settings in ({"values": 1}, {"values": 3}, {"per_class": 5}, {"per_class": 24}):
        with pytest.raises(ConfigError, match="values of at least 2 that divide per_class, which divides the batch in two classes or more"):
            made("balanced", attribute="kind", **settings)


# ---- units


@pytest.mark.parametrize("length", [2, 3])
def test_units_are_of_one_class_and_no_sample_comes_twice_in_a_pass(length):
    in_pass = sum(size // length for size in SIZES) * length
    order = made("units", batch=12, steps=in_pass // 12, length=length)
    for epoch in range(5):
        rows = order(epoch).numpy()
        classes = LABELS[rows].reshape(-1, length)
        assert (classes == classes[:, :1]).all()
        assert len(np.unique(rows)) == rows.size
    assert not torch.equal(order(0), order(1))


def test_every_pair_of_a_class_meets_and_every_sample_comes():
    labels = np.repeat([0, 1], [5, 4])
    order = made("units", labels, batch=4, steps=2)
    pairs = {tuple(sorted(pair)) for epoch in range(80) for pair in order(epoch).view(-1, 2).tolist()}
    assert pairs == {(a, b) for rows in (range(5), range(5, 9)) for a in rows for b in rows if a < b}


def test_units_go_on_with_another_pass_where_one_is_too_short():
    labels = np.repeat([0, 1, 2], [4, 4, 1])
    order = made("units", labels, batch=4, steps=5)
    found = order(0).view(-1, 2)
    assert len(found) == 10
    assert [len(found[start : start + 4].unique()) for start in (0, 4)] == [8, 8]
    assert order.notes == ("order units: 1 of 9 samples are left out, of classes of fewer than 2",)


def test_units_that_cannot_be_are_refused():
    for batch, length in ((24, 1), (24, 5), (24, 24)):
        with pytest.raises(ConfigError, match="a length of at least 2 that divides the batch in two units or more"):
            made("units", batch=batch, length=length)
    with pytest.raises(ConfigError, match="units of 2 samples of one class, of two classes or more, need two classes of that size"):
        made("units", np.array([0, 0, 0, 1, 2, -1, -1]), batch=4)


# ---- in a run


def test_a_run_gives_an_order_the_attribute_that_it_names():
    labels = np.repeat(np.arange(6), 6)
    images = np.random.default_rng(0).integers(0, 256, (36, 1, 16, 16), dtype=np.uint8)
    source = ArraySource(images, labels, attributes={"kind": labels // 3, "seen": labels / 2.0}, attribute_names={"kind": ["a", "b"]})
    job = build(
        load_recipe(
            str(TINY), ("train.batch_size=12", "order=hierarchical", "order.attribute=kind", "order.coarse=1", "order.per_class=4")
        ),
        source,
    )
    for row in job.order(0).numpy():
        assert len(set(labels[row])) == 3
        assert len(set(labels[row] // 3)) == 1
    with pytest.raises(ConfigError, match=r"order balanced needs the attribute 'seen' of the data, one value a sample: valid names: kind$"):
        build(load_recipe(str(TINY), ("train.batch_size=12", "order=balanced", "order.attribute=seen")), source)


@pytest.mark.parametrize("per_class", [2, 3, 50])
def test_together_keeps_members_side_by_side_and_leaves_nobody_out(per_class):
    labels = np.random.default_rng(2).permutation(np.repeat([-1, 0, 1, 2, 3], [3, 1, 7, 4, 9]))
    rows = ORDERS.build("together", labels, 6, 4, 5, settings={"per_class": per_class})(3).flatten().numpy()
    assert sorted(rows.tolist()) == list(range(len(labels)))
    found = labels[rows]
    sizes, at = [], 0
    while at < len(found):
        end = at + 1
        while found[at] >= 0 and end < len(found) and found[end] == found[at]:
            end += 1
        sizes.append((int(found[at]), end - at))
        at = end
    # a class comes in as many groups as it needs, which may meet by chance
    for label, members in ((0, 1), (1, 7), (2, 4), (3, 9)):
        assert sum(size for of, size in sizes if of == label) == members
        assert len([size for of, size in sizes if of == label]) <= -(-members // per_class)
    assert sum(size for of, size in sizes if of < 0) == 3
