"""Sources of several fields, and what sources know of their samples without decoding them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import ArraySource, FileSource
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.fields import FieldsSource
from kinshot.datasets.loader import batches, in_order
from kinshot.datasets.stand_ins import as_begun, sample_keys
from kinshot.datasets.text import TextSource
from kinshot.kin.graph import from_metadata
from kinshot.samples.spec import input_of
from kinshot.samples.statistics import feature_statistics, pixel_statistics

COUNT = 8
_rng = np.random.default_rng(0)
PHOTOS = _rng.integers(0, 256, (COUNT, 3, 4, 6), dtype=np.uint8)
ROWS = _rng.normal(2, 3, (COUNT, 5)).astype(np.float32)
NAMES = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
WORN = np.array([True, False, True, True, False, True, True, True])
SEVERAL = np.array([[1, 0], [0, -1], [1, 1], [0, 0], [1, 0], [0, 1], [-1, -1], [1, 1]])


def made(**changes) -> FieldsSource:
    given = {
        "fields": {"photo": PHOTOS, "motion": ROWS, "text": NAMES},
        "labels": LABELS,
        "class_names": ("a", "b", "c"),
        "attributes": {"site": LABELS % 2, "tags": SEVERAL, "seen": SEVERAL > 0, "height": ROWS[:, 0]},
        "attribute_names": {"site": ("north", "south"), "tags": ("wet", "dark")},
        "present": {"motion": WORN},
        "clock": (np.arange(COUNT) / 3, np.array([0, 0, 0, 0, 1, 1, 1, 1])),
        "graph": from_metadata({"class": LABELS}),
    }
    return FieldsSource(**{**given, **changes})


def test_samples_are_loaded_by_field():
    source, rows = made(), np.array([3, 1, 3])
    assert {name: spec.kind for name, spec in source.fields.items()} == {"photo": "image", "motion": "features", "text": "tokens"}
    found = source.load(rows, source.fields)
    assert list(found) == ["photo", "motion", "text"]
    assert torch.equal(found["photo"], torch.from_numpy(PHOTOS[rows]))
    assert torch.equal(found["motion"], torch.from_numpy(ROWS[rows] * WORN[rows, None]))  # zeros where it is absent
    assert source.fields["text"].texts(found["text"]) == ["four", "two", "four"]
    assert list(source.load([0], ["text"])) == ["text"]
    assert {name: len(values) for name, values in source.load([], source.fields).items()} == {"photo": 0, "motion": 0, "text": 0}
    with pytest.raises(ConfigError, match=r"has no field 'foto'.*photo"):
        source.load([0], ["foto"])
    for short in (lambda: source.load([0]), lambda: source.kind, lambda: source.shape, lambda: input_of(source)):
        with pytest.raises(DataError, match="has the fields photo, motion, text: say which"):
            short()


def test_one_field_is_a_tensor_unless_it_is_named():
    source = ArraySource(PHOTOS)
    assert (source.field, source.kind, source.shape) == ("image", "image", (3, 4, 6))
    assert torch.equal(source.load([2]), torch.from_numpy(PHOTOS[[2]]))
    assert torch.equal(source.load([2], ["image"])["image"], source.load([2]))
    assert source.only("image") is source


def test_one_field_alone_holds_the_samples_that_have_it():
    source = made()
    motion = source.only("motion")
    kept = np.flatnonzero(WORN)
    assert torch.equal(motion.load(range(len(kept))), torch.from_numpy(ROWS[kept]))
    assert motion.labels.tolist() == LABELS[kept].tolist()
    assert motion.present == {}
    assert motion.clock.time.tolist() == (kept / 3).tolist()
    assert (motion.graph.n, len(motion), motion.field) == (len(kept), len(kept), "motion")
    assert len(source.only("photo")) == COUNT
    assert source.only("photo").fingerprint() != source.only("text").fingerprint()
    assert np.array_equal(source.only("photo").digests([1, 2]), ArraySource(PHOTOS).digests([1, 2]))
    with pytest.raises(ConfigError, match="has no field"):
        source.only("sound")


def test_statistics_leave_absent_samples_out():
    found = made().inputs()
    assert (found["photo"].mean, found["photo"].std) == pixel_statistics(ArraySource(PHOTOS))
    assert (found["motion"].mean, found["motion"].std) == feature_statistics(FeatureSource(ROWS[WORN]))
    assert found["text"].length == 5


def test_a_subset_keeps_everything_that_is_known():
    source = made()
    part = source.subset([2, 0])
    rows = np.array([0, 2, 3, 5, 6])
    assert part.labels.tolist() == [1, 0, 1, 0, 1]
    assert part.class_names == ["c", "a"]
    for key, values in source.attributes.items():
        assert np.array_equal(part.attributes[key], values[rows])
    assert part.attribute_names == source.attribute_names
    assert part.present["motion"].tolist() == WORN[rows].tolist()
    assert part.clock.recording.tolist() == [0, 0, 0, 1, 1]
    wanted = source.load(rows, source.fields)
    found = part.load(range(5), part.fields)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert np.array_equal(part.digests(range(5)), source.digests(rows))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_carry_fields(workers):
    source = made()
    for samples, indices in [*batches(source, 3, 0, 0, workers=workers), *in_order(source, 5, workers)]:
        wanted = source.load(indices, source.fields)
        assert samples.keys() == wanted.keys()
        assert all(torch.equal(samples[name], wanted[name]) for name in wanted)


def test_a_sample_that_has_gone_has_a_stand_in_of_its_class_in_every_field():
    source = made(graph=None)
    keys = sample_keys(source)
    kept = np.array([0, 1, 2, 4, 5, 6, 7])
    left = {"photo": PHOTOS[kept], "motion": ROWS[kept], "text": [NAMES[row] for row in kept]}
    smaller = made(
        fields=left, labels=LABELS[kept], present={"motion": WORN[kept]}, clock=(np.arange(7), np.zeros(7, int)), attributes={},
        attribute_names={}, graph=None,
    )  # fmt: skip
    begun = as_begun(smaller, keys, LABELS, source.fingerprint())
    assert begun.gone.tolist() == [3]
    assert begun.labels.tolist() == LABELS.tolist()
    assert begun.fingerprint() == source.fingerprint()
    whole, was = begun.load(range(COUNT), begun.fields), source.load(range(COUNT), source.fields)
    for row in set(range(COUNT)) - {3}:
        assert all(torch.equal(whole[name][row], was[name][row]) for name in whole)
        assert begun.present["motion"][row] == WORN[row]


def test_the_fingerprint_sees_every_field_and_all_that_is_known():
    other, moved = ROWS.copy(), PHOTOS.copy()
    other[0, 0] += 1
    moved[0, 0, 0, 0] += 1
    cases = [
        made(),
        made(fields={"photo": moved, "motion": ROWS, "text": NAMES}),
        made(fields={"photo": PHOTOS, "motion": other, "text": NAMES}),
        made(fields={"photo": PHOTOS, "motion": ROWS, "text": [*NAMES[1:], "nine"]}),
        made(fields={"picture": PHOTOS, "motion": ROWS, "text": NAMES}),
        made(fields={"motion": ROWS, "photo": PHOTOS, "text": NAMES}),
        made(present={}),
        made(present={"motion": ~WORN}),
        made(present={"photo": WORN}),
        made(clock=None),
        made(clock=(np.arange(COUNT) / 2, np.zeros(COUNT, int))),
        made(clock=(np.arange(COUNT) / 2, np.ones(COUNT, int))),
        made(labels=None, contains=np.eye(COUNT, 3, dtype=bool)),
        made(labels=None, contains=np.ones((COUNT, 3), bool)),
        *(made(attributes={"x": values}, attribute_names={}) for values in (SEVERAL, SEVERAL > 0, SEVERAL[:, 0] + 1, SEVERAL[:, 0] + 1.0)),
    ]
    marks = [source.fingerprint() for source in cases]
    assert len(set(marks)) == len(marks)
    assert made().fingerprint() == marks[0]


def test_what_does_not_fit_is_refused():
    wrong = {
        r"got photo 8, motion 7": {"fields": {"photo": PHOTOS, "motion": ROWS[:7]}},
        "got no field": {"fields": {}},
        "field photo: array brings labels": {"fields": {"photo": ArraySource(PHOTOS, LABELS)}},
        "field photo: expected images uint8": {"fields": {"photo": PHOTOS.astype(np.float32)}},
        "present names 'sound', which is no field": {"present": {"sound": WORN}},
        r"presence of 'motion' as bool \(8,\), got int64": {"present": {"motion": WORN.astype(int)}},
        "sample 1 has none of the fields": {"present": {name: WORN for name in ("photo", "motion", "text")}},
        "8 finite times": {"clock": (np.full(COUNT, np.nan), np.zeros(COUNT, int))},
        "8 integer recordings": {"clock": (np.zeros(COUNT), np.zeros(COUNT))},
        r"contains bool \(8, C\)": {"contains": np.zeros((COUNT, 3))},
        "contains has 2 columns but there are 3 class names": {"contains": np.zeros((COUNT, 2), bool)},
    }
    for message, changes in wrong.items():
        with pytest.raises(DataError, match=message):
            made(**changes)


def test_masks_say_what_they_hold_without_labels():
    contains = np.eye(COUNT, 3, dtype=bool)
    source = made(labels=None, contains=contains)
    assert source.labels is None
    assert source.class_names == ["a", "b", "c"]
    assert np.array_equal(source.contains, contains)
    assert made(labels=None, class_names=(), contains=contains).class_names == ["0", "1", "2"]
    with pytest.raises(ConfigError, match="needs a source with one label to a sample"):
        source.subset([0])


def test_categories_are_what_a_sample_has_one_of():
    source = made()
    assert list(source.categories) == ["site"]
    assert source.attributes["height"].dtype == np.float64
    assert source.attributes["seen"].dtype == bool
    assert source.attribute_names == {"site": ["north", "south"], "tags": ["wet", "dark"], "seen": ["0", "1"], "height": []}


def test_files_and_arrays_side_by_side(tmp_path):
    paths = [tmp_path / f"{row}.bin" for row in range(COUNT)]
    for path, image in zip(paths, PHOTOS, strict=True):
        path.write_bytes(image.tobytes())
    files = FileSource(paths, tmp_path, read_bytes, (3, 4, 6))
    source = FieldsSource({"photo": files, "motion": ROWS}, LABELS, present={"photo": WORN})
    assert not source.in_memory
    paths[1].unlink()  # a file that is absent is never asked for
    found = source.load([0, 1, 2], ["photo"])["photo"]
    assert torch.equal(found[[0, 2]], torch.from_numpy(PHOTOS[[0, 2]]))
    assert found[1].abs().sum() == 0


def read_bytes(path):
    return np.frombuffer(path.read_bytes(), np.uint8).reshape(3, 4, 6)


def test_image_fingerprints_are_what_they_were():
    """Checkpoints name the fingerprint of their data: sources without news keep theirs."""
    source = ArraySource(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2), np.array([0, 1]), ("a", "b"))
    assert source.fingerprint() == "16c675bcd743844ef15fed1ba53d449118a88629b967207fe6cc7ad5aa5553ea"


def test_fingerprints_of_every_other_kind_are_what_they_were(tmp_path):
    """As they were before a source could have several fields."""
    labels = np.array([0, 1, 2, 0, 1, 2])
    more = {"attributes": {"site": np.array([1, -1, 0, 0, 1, 1])}, "attribute_names": {"site": ["north", "south"]}}
    rows = np.arange(24, dtype=np.float32).reshape(6, 4)
    source = FeatureSource(rows, labels, ("a", "b", "c"), **more, graph=from_metadata({"class": labels}))
    paths = [tmp_path / f"{number}.bin" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    found = {
        source: "c6aefcce1bd081198c51850a1de8e7b7f641539bcc4172d9b8d0ced7101be38e",
        source.subset([2, 0]): "4165d722a834a229949e02b1223647bafe9f75c922db09883c18892a7d2621d2",
        TextSource(["ab", "c", "d"], np.array([0, 1, 0]), ("x", "y"), alphabet="abcd", length=3): (
            "1b2a8f047414355d5fdff4545274ab94d92b04ad62c49e1cbd2100418f2f6be1"
        ),
        FileSource(paths, tmp_path, Path.read_bytes, (1, 2, 2), np.array([0, 1, 0]), ("x", "y")): (
            "b2e39bd7cc9abee5ff2ca4b4d12a4aee0484fd091e45f2f5bdb22ff91c26b79d"
        ),
    }
    for one, fingerprint in found.items():
        assert one.fingerprint() == fingerprint
