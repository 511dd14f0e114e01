"""Sources without files (glyphs, digits), the source contract's parts, and the batch loader."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES, glyph_faces, glyphs
from kinshot.datasets.base import ArraySource, FileSource, Source
from kinshot.datasets.cache import cached_images
from kinshot.datasets.loader import batches, in_order
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.statistics import pixel_statistics


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def numbered(count: int, labels: np.ndarray | None = None, names: tuple[str, ...] = ()) -> ArraySource:
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    return ArraySource(pixels, labels, names, "numbered")


# ---- base


def test_array_source_holds_what_it_was_given():
    source = numbered(6, np.array([0, 1, 2, 0, 1, 2], np.int32), ("a", "b", "c"))
    assert (len(source), source.shape, source.in_memory) == (6, (1, 2, 2), True)
    assert source.labels.dtype == np.int64
    for indices in (np.array([4, 0]), torch.tensor([4, 0])):
        batch = source.load(indices)
        assert batch.dtype == torch.uint8
        assert batch[:, 0, 0, 0].tolist() == [4, 0]
    batch.zero_()
    assert source.load(np.array([4])).max() == 4


@pytest.mark.parametrize(
    ("images", "labels", "names"),
    [
        (np.zeros((2, 1, 2, 2), np.float32), None, ()),
        (np.zeros((2, 2, 2), np.uint8), None, ()),
        (np.zeros((2, 1, 2, 2), np.uint8), np.array([0]), ("a",)),
        (np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 2]), ("a", "b")),
        (np.zeros((2, 1, 2, 2), np.uint8), np.array([-1, 0]), ("a", "b")),
        (np.zeros((2, 1, 2, 2), np.uint8), np.array([0.0, 1.0]), ("a", "b")),
        (np.zeros((2, 1, 2, 2), np.uint8), None, ("a",)),
    ],
)
def test_array_source_refuses_what_does_not_fit(images, labels, names):
    with pytest.raises(DataError, match="oops"):
        ArraySource(images, labels, names, "oops")


def test_fingerprint_tells_pixels_labels_names_and_shape_apart():
    pixels = np.zeros((2, 1, 2, 2), np.uint8)
    changed = pixels.copy()
    changed[1, 0, 1, 1] = 1
    base = (pixels, np.array([0, 1]), ("a", "b"))
    others = [
        (changed, base[1], base[2]),
        (pixels, np.array([1, 0]), base[2]),
        (pixels, base[1], ("a", "c")),
        (pixels.reshape(2, 4, 1, 1), base[1], base[2]),
        (pixels, None, ()),
    ]
    marks = [ArraySource(*case).fingerprint() for case in [base, *others]]
    assert len(set(marks)) == len(marks)
    assert ArraySource(pixels.copy(), *base[1:], "another name").fingerprint() == marks[0]
    assert len(marks[0]) == hashlib.sha256().digest_size * 2


def test_subset_relabels_in_the_order_given():
    source = numbered(6, np.array([0, 1, 2, 0, 1, 2]), ("a", "b", "c"))
    subset = source.subset([2, 0])
    assert subset.class_names == ["c", "a"]
    assert subset.labels.tolist() == [1, 0, 1, 0]
    assert subset.load(np.arange(4))[:, 0, 0, 0].tolist() == [0, 2, 3, 5]
    assert subset.fingerprint() != source.subset([0, 2]).fingerprint()
    for wrong in ([], [3], [-1], [0, 0]):
        with pytest.raises(ConfigError, match="class_ids"):
            source.subset(wrong)
    with pytest.raises(ConfigError, match="no labels"):
        numbered(3).subset([0])


def test_pixel_statistics_match_a_slow_reference():
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5), dtype=np.uint8)
    pixels[:, 1] = 100
    mean, std = pixel_statistics(ArraySource(pixels))
    for channel in range(3):
        values = [v / 255 for v in pixels[:, channel].ravel().tolist()]
        middle = sum(values) / len(values)
        spread = (sum((v - middle) ** 2 for v in values) / len(values)) ** 0.5
        assert mean[channel] == pytest.approx(middle, abs=1e-9)
        assert std[channel] == pytest.approx(max(spread, 1e-3), abs=1e-7)
    assert std[1] == pytest.approx(1e-3)


def test_pixel_statistics_take_evenly_spaced_images():
    mean, _ = pixel_statistics(numbered(101), limit=3)
    assert mean[0] == pytest.approx((0 + 50 + 100) / 3 / 255)
    with pytest.raises(DataError, match="no images"):
        pixel_statistics(ArraySource(np.zeros((0, 1, 2, 2), np.uint8)))


# ---- cache


@pytest.mark.parametrize("damage", ["truncate", "flip", "text", "shape", "pickle", "folder", "foreign", "inverted", "renamed"])
def test_a_damaged_cache_file_is_rebuilt(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 20, 20), dtype=np.uint8)
    assert (cached_images("k", images.shape, lambda: images) == images).all()
    path = tmp_path / "k.npz"
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-100])
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    elif damage == "text":
        path.write_text("not an archive")
    elif damage == "shape":
        np.savez(path, images=images[:2])
    elif damage == "foreign":
        np.savez(path, images=255 - images)
    elif damage == "inverted":  # a complete archive of the right shape: only its content tells
        with np.load(path, allow_pickle=False) as archive:
            kept = dict(archive)
        np.savez(path, **{**kept, "images": 255 - images})
    elif damage == "renamed":
        cached_images("other", images.shape, lambda: 255 - images)
        (tmp_path / "other.npz").rename(path)
    elif damage == "pickle":
        np.savez(path, images=np.array([{}], dtype=object))
    else:
        path.unlink()
        path.mkdir()
    built = []
    assert (cached_images("k", images.shape, lambda: built.append(1) or images) == images).all()
    assert built == [1]
    if damage != "folder":  # a folder in the way cannot be replaced, and costs time only
        assert (cached_images("k", images.shape, lambda: pytest.fail("not rewritten")) == images).all()
    assert [p.name for p in tmp_path.iterdir()] == ["k.npz"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("KINSHOT_CACHE", str(blocked))
    assert cached_images("k", (1,), lambda: np.zeros(1, np.uint8)).shape == (1,)


# ---- glyphs


def test_glyph_splits_are_large_enough_and_share_no_script():
    chosen = glyphs.distinct_characters()
    assert len(chosen["train"]) >= 600
    assert len(chosen["val"]) >= 60
    assert len(chosen["test"]) >= 150
    scripts = [{c.script for c in chosen[part]} for part in ("train", "val", "test")]
    assert not scripts[0] & scripts[1]
    assert not scripts[0] & scripts[2]
    assert not scripts[1] & scripts[2]
    assert min(len(c.faces) for part in chosen.values() for c in part) >= glyph_faces.MIN_FACES
    names = [c.name for part in chosen.values() for c in part]
    assert "CYRILLIC/U+0416" in names
    assert len(set(names)) == len(names)


def test_no_two_glyph_classes_look_alike_in_the_main_face():
    every = [c for part in glyphs.distinct_characters().values() for c in part]
    plain = [glyph_faces.Character(c.code, c.script, (glyph_faces.MAIN_FACE,)) for c in every]
    font = glyphs.face_font(glyph_faces.MAIN_FACE, 28)
    images = np.stack([glyphs._posed([glyphs.inked(font, c.code)], [(0.0, 1.0, 0.0, 0.0)], 28)[0] for c in plain])
    correlation = np.corrcoef(images.reshape(len(images), -1).astype(np.float64))
    np.fill_diagonal(correlation, 0)
    assert correlation.max() <= 0.95 + 1e-9
    codes = {c.code for c in every}
    assert ord("A") in codes
    assert not {ord("\u0391"), ord("\u0410")} & codes  # Greek Alpha and Cyrillic A are Latin A's picture


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_glyphs_are_whole_centred_and_white_on_black(split):
    images = SOURCES.build("glyphs", settings={"split": split, "variants": 2}).images.numpy()[:, 0]
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
    assert border.max() < 64
    assert (images.max(axis=(1, 2)) > 150).all()
    assert images.mean() < 80
    rows, columns = images.max(axis=2) > 40, images.max(axis=1) > 40
    for inked in (rows, columns):
        first, last = inked.argmax(axis=1), 27 - inked[:, ::-1].argmax(axis=1)
        assert np.abs((first + last) / 2 - 13.5).max() <= 3.5
    longest = np.maximum(rows.sum(axis=1), columns.sum(axis=1))
    assert longest.min() >= 11
    assert longest.max() <= 27


def test_glyphs_are_the_same_every_time_and_differ_within_a_class():
    chosen = glyphs.distinct_characters()["test"][:4]
    first, again = glyphs.render(chosen, 28, 20), glyphs.render(chosen, 28, 20)
    assert (first == again).all()
    assert len({image.tobytes() for image in first}) == len(first)
    # a class does not depend on which others are rendered, nor on how many variants
    assert (glyphs.render(chosen[2:3], 28, 5) == first.reshape(4, 20, 1, 28, 28)[2, :5]).all()


def test_glyph_settings():
    source = SOURCES.build("glyphs", settings={"split": "val", "size": 16, "variants": 3})
    assert source.shape == (1, 16, 16)
    assert np.bincount(source.labels).tolist() == [3] * len(source.class_names)
    for wrong in ({"size": 2}, {"variants": 0}, {"variants": 10**6}):
        with pytest.raises(ConfigError, match="glyphs"):
            SOURCES.build("glyphs", settings=wrong)


def test_all_glyphs_are_the_splits_in_turn():
    every = SOURCES.build("glyphs", settings={"split": "all", "variants": 2})
    parts = [SOURCES.build("glyphs", settings={"split": s, "variants": 2}) for s in ("train", "val", "test")]
    assert every.class_names == [name for part in parts for name in part.class_names]
    assert (every.images == torch.cat([part.images for part in parts])).all()


# ---- digits


def test_digits_original_pixels_and_split():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    every = SOURCES.build("digits", settings={"split": "all", "size": 8})
    assert (every.images[:, 0].numpy() == np.rint(bunch.images * 255 / 16)).all()
    assert (every.labels == bunch.target).all()
    train, test = (SOURCES.build("digits", settings={"split": s, "size": 8}) for s in ("train", "test"))
    assert len(train) + len(test) == len(every)
    assert (np.bincount(test.labels) == np.bincount(every.labels) // 5).all()
    kept = sorted(image.tobytes() for source in (train, test) for image in source.images.numpy())
    assert kept == sorted(image.tobytes() for image in every.images.numpy())
    resized = SOURCES.build("digits", settings={"split": "test"})
    assert resized.shape == (1, 28, 28)
    coarse = torch.nn.functional.interpolate(resized.images.float(), (8, 8), mode="area")
    assert np.corrcoef(coarse.numpy().ravel(), test.images.numpy().ravel())[0, 1] > 0.9


# ---- loader


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40), size=st.integers(1, 40), seed=st.integers(0, 9), epoch=st.integers(0, 3), start=st.integers(0, 5))
def test_an_epoch_is_drawn_without_replacement_and_resumes_exactly(count, size, seed, epoch, start):
    source = numbered(count)
    if size > count:
        with pytest.raises(ConfigError, match="larger than numbered"):
            batches(source, size, seed, epoch)
        return
    epoch_batches = list(batches(source, size, seed, epoch))
    seen = [i for _, indices in epoch_batches for i in indices.tolist()]
    assert len(epoch_batches) == count // size
    assert len(set(seen)) == len(seen) == count // size * size
    for images, indices in epoch_batches:
        assert images.shape == (size, 1, 2, 2)
        assert images[:, 0, 0, 0].tolist() == indices.tolist()
    resumed = [indices.tolist() for _, indices in batches(source, size, seed, epoch, start_step=start)]
    assert resumed == [indices.tolist() for _, indices in epoch_batches[start:]]


def test_order_changes_with_seed_and_epoch():
    orders = {tuple(next(batches(numbered(50), 50, seed, epoch))[1].tolist()) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_workers_give_the_same_batches_and_leave_global_randomness_alone():
    source = numbered(23)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    runs = [list(batches(source, 5, seed=3, epoch=1, start_step=1, workers=workers)) for workers in (0, 1, 2)]
    assert (torch.get_rng_state() == before).all()
    for run in runs[1:]:
        assert len(run) == 3
        for (images, indices), (expected, order) in zip(run, runs[0], strict=True):
            assert torch.equal(images, expected)
            assert torch.equal(indices, order)


@pytest.mark.parametrize("workers", [0, 2])
def test_in_order_gives_every_image_once(workers):
    found = list(in_order(numbered(7), 3, workers))
    assert [indices.tolist() for _, indices in found] == [[0, 1, 2], [3, 4, 5], [6]]
    assert torch.cat([images for images, _ in found])[:, 0, 0, 0].tolist() == list(range(7))
    assert list(in_order(numbered(0), 3)) == []


def test_wrong_loader_arguments_are_refused_at_once():
    source = numbered(4)
    for wrong in ({"batch_size": 0}, {"batch_size": 5}, {"workers": -1}, {"start_step": -1}):
        with pytest.raises(ConfigError):
            batches(source, **{"batch_size": 2, "seed": 0, "epoch": 0, **wrong})
    with pytest.raises(ConfigError):
        in_order(source, 0)


def refuse(path: Path) -> np.ndarray:
    raise DataError(f"cannot read image {path}: repair it")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_names_the_file(workers):
    source = FileSource([Path("/nowhere/broken.png")], Path("/nowhere"), refuse, (1, 2, 2))
    with pytest.raises(DataError, match=r"^cannot read image /nowhere/broken\.png: repair it$"):
        list(in_order(source, 1, workers))


class SignalProbe(Source):
    """Pixels say how SIGINT is handled where the image is loaded."""

    def _load(self, rows, field):
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return torch.full((len(rows), *self.shape), int(ignored), dtype=torch.uint8)

    def _content(self):
        return []


def test_workers_leave_interrupts_to_the_parent():
    probe = SignalProbe("probe", PixelSpec.unmeasured((1, 1, 1)), None, (), 2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with SIGINT ignored
    try:
        values = [[images.item() for images, _ in in_order(probe, 1, workers)] for workers in (0, 1)]
    finally:
        signal.signal(signal.SIGINT, before)
    assert values == [[0, 0], [1, 1]]


class Slow(SignalProbe):
    """Takes the time of a decoder between one index of a batch and the next; its samples are their numbers."""

    def _load(self, rows, field):
        import time

        found = []
        for row in range(len(rows)):
            found.append(int(rows[row]))
            time.sleep(0.002)
        return torch.tensor(found)


def test_a_batch_does_not_change_while_the_one_before_is_sent():
    """The indices of an epoch lay in one piece of memory, which moved when the first of them were sent: wrong samples, or none."""
    source = Slow("slow", PixelSpec.unmeasured((1, 1, 1)), None, (), 64)
    for epoch in range(4):
        pairs = list(batches(source, 4, 0, epoch, workers=2))
        assert [samples.tolist() for samples, _ in pairs] == [indices.tolist() for _, indices in pairs]
        assert sorted(torch.cat([indices for _, indices in pairs]).tolist()) == list(range(64))
    first, second, *_ = [indices for _, indices in batches(source, 4, 0, 0)]
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()


class Fatal(SignalProbe):
    """Kills the process that loads."""

    def _load(self, rows, field):
        import os

        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_data_error():
    with pytest.raises(DataError, match=r"a loader process died: DataLoader worker .*workers.*--resume auto"):
        list(in_order(Fatal("fatal", PixelSpec.unmeasured((1, 1, 1)), None, (), 2), 1, workers=1))
