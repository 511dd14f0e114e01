"""Sources read from files, on tiny generated trees and, where it is at hand, on the real data; the contract of every source."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES, cifar, fashion_mnist, omniglot
from kinshot.datasets.base import ArraySource, FileSource, pixel_statistics
from kinshot.datasets.images import load_image
from kinshot.datasets.loader import batches
from kinshot.datasets.safe_pickle import read_pickled_data

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


# ---- trees


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_folder(root: Path) -> None:
    for split, names in (("train", ("cat", "dog")), ("test", ("cat", "dog"))):
        for number, name in enumerate(names):
            place = root / split / name
            place.mkdir(parents=True)
            for k in range(3 + number):
                Image.fromarray(noise(hash_of(split, name, k), 12, 10, 3)).save(place / f"{k}.png")


def hash_of(*parts: object) -> int:
    return sum(ord(c) * (i + 1) for i, c in enumerate(repr(parts)))


def write_omniglot(root: Path, split: str = "all") -> None:
    """Every character of a split with one drawing, a dot whose place tells the character's number."""
    for number, (part, name) in enumerate(omniglot._classes("vinyals", split), start=1):
        place = root / f"images_{part}" / name
        place.mkdir(parents=True)
        ink = np.zeros((105, 105), bool)
        ink[divmod(number, 105)] = True
        Image.fromarray(~ink).save(place / f"{number:04d}_01.png", compress_level=1)


def write_fashion(root: Path, packed: bool = False) -> None:
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, (prefix, count) in enumerate((("train", 20), ("t10k", 10))):
        images = struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + noise(seed, count, 28, 28).tobytes()
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(k % 10 for k in range(count))
        for name, data in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            if packed:
                (raw / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (raw / name).write_bytes(data)


def write_cifar10(root: Path) -> None:
    place = root / "cifar-10-batches-bin"
    place.mkdir()
    for seed, name in enumerate(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]):
        rows = np.concatenate([np.array([[0], [1], [9]], np.uint8), noise(seed, 3, 3072)], axis=1)
        (place / f"{name}.bin").write_bytes(rows.tobytes())
    (place / "batches.meta.txt").write_text("\n".join(f"class{k}" for k in range(10)) + "\n\n")


def write_cifar100(root: Path) -> None:
    place = root / "cifar-100-binary"
    place.mkdir()
    for seed, name in enumerate(["train", "test"]):
        rows = np.concatenate([np.array([[19, 99], [3, 7]], np.uint8), noise(seed, 2, 3072)], axis=1)
        (place / f"{name}.bin").write_bytes(rows.tobytes())
    (place / "fine_label_names.txt").write_text("\n".join(f"fine{k}" for k in range(100)))
    (place / "coarse_label_names.txt").write_text("\n".join(f"coarse{k}" for k in range(20)))


def no_files(root: Path) -> None:
    return None


@pytest.fixture(scope="module")
def omniglot_tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    write_omniglot(root / "omniglot-py")
    return root


# name: writer, settings, splits whose images must differ, whether the splits are splits of classes
CONTRACT = {
    "glyphs": (no_files, {"variants": 2, "size": 16}, ("train", "val", "test"), True),
    "digits": (no_files, {"size": 8}, ("train", "test"), False),
    "folder": (write_folder, {"size": 8}, ("train", "test"), False),
    "omniglot": (no_files, {"size": 105}, ("train", "val", "test"), True),
    "fashion_mnist": (write_fashion, {}, ("train", "test"), False),
    "cifar10": (write_cifar10, {}, ("train", "test"), False),
    "cifar100": (write_cifar100, {}, ("train", "test"), False),
}


def test_the_contract_covers_every_source():
    assert set(CONTRACT) == {name for name, entry in SOURCES.entries.items() if entry.module.startswith("kinshot.")}


@pytest.mark.parametrize("name", CONTRACT)
def test_source_contract(name, tmp_path, omniglot_tree):
    write, chosen, splits, of_classes = CONTRACT[name]
    root = omniglot_tree if name == "omniglot" else tmp_path
    write(tmp_path)
    chosen = dict(chosen, **({"root": str(root)} if "root" in SOURCES.entry(name).parameters else {}))
    found = [SOURCES.build(name, settings={**chosen, "split": split}) for split in splits]
    for source in found:
        assert source.labels.dtype == np.int64
        assert source.labels.shape == (len(source),)
        assert source.labels.min() >= 0
        assert source.labels.max() < len(source.class_names)
        assert len(set(source.class_names)) == len(source.class_names)
        some = np.unique(np.linspace(0, len(source) - 1, 5).astype(int))
        batch = source.load(some)
        assert batch.dtype == torch.uint8
        assert batch.shape == (len(some), *source.shape)
        assert torch.equal(batch, source.load(torch.from_numpy(some)))
        assert torch.equal(batch[[1]], source.load(some[[1]]))
        changed = source.load(np.arange(len(source)))
        same = ArraySource(changed.clone(), source.labels, source.class_names)
        changed[-1, -1, -1, -1] ^= 1
        other = ArraySource(changed, source.labels, source.class_names)
        assert source.fingerprint() == same.fingerprint() != other.fingerprint()
    again = SOURCES.build(name, settings={**chosen, "split": splits[0]})
    assert again.fingerprint() == found[0].fingerprint()
    assert len({source.fingerprint() for source in found}) == len(splits)
    check_disjoint(found, of_classes)


def check_disjoint(found: list, of_classes: bool) -> None:
    classes = [set(source.class_names) for source in found]
    pictures = [{image.tobytes() for image in source.images.numpy()} for source in found]
    for i in range(len(found)):
        for j in range(i):
            assert not pictures[i] & pictures[j]
            assert bool(classes[i] & classes[j]) != of_classes


# ---- images


def test_every_kind_of_picture_becomes_what_it_shows(tmp_path):
    red = np.full((6, 6, 3), (255, 0, 0), np.uint8)
    Image.fromarray(red).save(tmp_path / "rgb.png")
    Image.fromarray(red).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(red).convert("P").save(tmp_path / "palette.gif")
    for name in ("rgb.png", "cmyk.tif", "palette.gif"):
        assert np.abs(load_image(tmp_path / name, 4, 3).astype(int) - np.array([255, 0, 0])[:, None, None]).max() <= 2
    grey16 = np.full((6, 6), 0x80FF, np.uint16)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    assert (load_image(tmp_path / "grey16.png", 4, 1) == 0x80).all()
    assert (load_image(tmp_path / "grey16.png", 4, 3) == 0x80).all()
    Image.fromarray(np.full((6, 6), 37, np.uint8)).save(tmp_path / "grey.bmp")
    assert (load_image(tmp_path / "grey.bmp", 4, 3) == 37).all()
    assert load_image(tmp_path / "grey.bmp", 4, 1).shape == (1, 4, 4)


def test_transparency_is_laid_on_white(tmp_path):
    Image.new("RGBA", (6, 6), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (load_image(tmp_path / "clear.png", 4, 3) == 255).all()
    half = Image.new("P", (6, 6), 1)
    half.putpalette([0, 0, 0, 10, 20, 30])
    half.save(tmp_path / "palette.png", transparency=1)
    assert (load_image(tmp_path / "palette.png", 4, 3) == 255).all()
    half.save(tmp_path / "solid.png", transparency=0)
    assert load_image(tmp_path / "solid.png", 4, 3)[:, 0, 0].tolist() == [10, 20, 30]


def test_exif_orientation_is_applied(tmp_path):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:4] = 255  # white on top
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # show turned by 90 degrees clockwise: white on the right
    picture.save(tmp_path / "turned.png", exif=exif)
    shown = load_image(tmp_path / "turned.png", 8, 1)[0]
    assert (shown[:, 4:] == 255).all()
    assert (shown[:, :4] == 0).all()


def test_resize_takes_the_central_square(tmp_path):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 6:18] = 200  # the filter looks a little past the square, as it would before a crop
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (load_image(tmp_path / "wide.png", 4, 3) == 200).all()
    Image.fromarray(wide.transpose(1, 0, 2)).save(tmp_path / "high.png")
    assert (load_image(tmp_path / "high.png", 16, 3) == 200).all()
    Image.new("L", (60_000, 1), 9).save(tmp_path / "thread.png")
    assert (load_image(tmp_path / "thread.png", 64, 1) == 9).all()
    fine = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (32, 32))
    Image.fromarray(fine).save(tmp_path / "checks.png")
    assert np.abs(load_image(tmp_path / "checks.png", 8, 1).astype(int) - 127).max() <= 4  # antialiased


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "float", "int32", "missing", "bomb", "postscript"])
def test_unreadable_pictures_are_named(tmp_path, monkeypatch, kind):
    path = tmp_path / "bad.tif"
    if kind in {"text", "empty"}:
        path.write_text("hello" if kind == "text" else "")
    elif kind == "truncated":
        Image.fromarray(noise(0, 40, 40, 3)).save(path := tmp_path / "bad.png")
        path.write_bytes(path.read_bytes()[:-2000])
    elif kind == "float":
        Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    elif kind == "int32":
        Image.fromarray(np.full((4, 4), 70_000, np.int32)).save(path)
    elif kind == "bomb":
        Image.new("L", (30, 30)).save(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    elif kind == "postscript":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=path.name):
        load_image(path, 8, 3)


# ---- folder


def build_folder(root: Path, **chosen):
    return SOURCES.build("folder", settings={"root": str(root), "size": 8, **chosen})


def test_folder_classes_files_and_order(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / "._0.png").write_text("left by a file manager")
    deeper = tmp_path / "train" / "cat" / "more"
    deeper.mkdir()
    Image.fromarray(noise(1, 8, 8)).save(deeper / "x.JPG")
    source = build_folder(tmp_path, split="train")
    assert source.class_names == ["cat", "dog"]
    assert source.labels.tolist() == [0] * 4 + [1] * 4
    assert source.in_memory
    expected = load_image(tmp_path / "train" / "dog" / "2.png", 8, 3)
    assert (source.load(np.array([6])).numpy()[0] == expected).all()


def test_folder_without_labels_takes_everything_below(tmp_path):
    write_folder(tmp_path)
    Image.fromarray(noise(3, 8, 8)).save(tmp_path / "loose.webp")
    source = build_folder(tmp_path, labels="none", channels=1)
    assert (len(source), source.labels, source.class_names, source.shape) == (15, None, [], (1, 8, 8))


def test_folder_on_demand_gives_the_same_images(tmp_path):
    write_folder(tmp_path)
    memory, files = build_folder(tmp_path, split="train"), build_folder(tmp_path, split="train", in_memory_mib=0)
    assert isinstance(files, FileSource)
    assert not files.in_memory
    assert files.labels.tolist() == memory.labels.tolist()
    assert torch.equal(files.load(np.arange(7)), memory.load(np.arange(7)))
    subset = files.subset([1])
    assert not subset.in_memory
    assert torch.equal(subset.load(np.arange(4)), memory.load(np.arange(3, 7)))
    runs = [list(batches(files, 3, 0, 0, workers=workers)) for workers in (0, 2)]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(*runs, strict=True))


def test_folder_on_demand_fingerprint_follows_the_files(tmp_path):
    write_folder(tmp_path)
    mark = build_folder(tmp_path, split="train", in_memory_mib=0).fingerprint()
    assert build_folder(tmp_path, split="train", in_memory_mib=0).fingerprint() == mark
    assert build_folder(tmp_path, split="train", in_memory_mib=0, size=9).fingerprint() != mark
    path = tmp_path / "train" / "cat" / "0.png"
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    assert build_folder(tmp_path, split="train", in_memory_mib=0).fingerprint() != mark
    source = build_folder(tmp_path, split="train", in_memory_mib=0)
    path.unlink()
    with pytest.raises(DataError, match=r"0\.png"):
        source.fingerprint()


def test_folder_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*absent"):
        build_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="no class folder"):
        build_folder(tmp_path)
    with pytest.raises(DataError, match="no image found"):
        build_folder(tmp_path, labels="none")
    write_folder(tmp_path)
    with pytest.raises(DataError, match=r"tran.*test, train"):
        build_folder(tmp_path, split="tran")
    (tmp_path / "train" / "cow").mkdir()
    with pytest.raises(DataError, match="cow"):
        build_folder(tmp_path, split="train")
    (tmp_path / "train" / "cow" / "bad.png").write_text("no picture")
    with pytest.raises(DataError, match=r"bad\.png"):
        build_folder(tmp_path, split="train")
    late = build_folder(tmp_path, split="train", in_memory_mib=0)
    with pytest.raises(DataError, match=r"bad\.png"):
        list(batches(late, 8, 0, 0, workers=1))
    for wrong in ({"size": 0}, {"in_memory_mib": -1}, {"channels": 2}):
        with pytest.raises(ConfigError):
            build_folder(tmp_path, split="test", **wrong)


# ---- omniglot


def build_omniglot(root: Path, **chosen):
    return SOURCES.build("omniglot", settings={"root": str(root), **chosen})


def test_omniglot_lists_have_the_published_sizes():
    names = {split: {name for _, name in omniglot._classes("vinyals", split)} for split in ("train", "val", "test", "all")}
    assert {split: len(found) for split, found in names.items()} == {"train": 1028, "val": 172, "test": 423, "all": 1623}
    assert names["train"] | names["val"] | names["test"] == names["all"]
    lake = {split: omniglot._classes("lake", split) for split in ("background", "evaluation")}
    assert {split: len(found) for split, found in lake.items()} == {"background": 964, "evaluation": 659}
    assert [len({name.split("/")[0] for _, name in found}) for found in lake.values()] == [30, 20]
    assert {part for part, _ in lake["evaluation"]} == {"evaluation"}


def test_omniglot_classes_come_in_the_order_of_character_ids(omniglot_tree):
    """The tree numbers characters in official order, and each drawing's dot says its number."""
    every = build_omniglot(omniglot_tree, split="all", size=105)
    assert every.class_names[0] == "Arcadian/character01"
    dots = every.images.numpy()[:, 0].reshape(1623, -1).argmax(axis=1)
    assert dots.tolist() == list(range(1, 1624))
    order = {name: number for number, name in enumerate(every.class_names)}
    for split in ("train", "val", "test"):
        ids = [order[name] for _, name in omniglot._classes("vinyals", split)]
        assert ids == sorted(ids)


def test_omniglot_ink_is_averaged_over_boxes():
    ink = np.random.default_rng(0).random((105, 105)) < 0.3
    got = omniglot.ink_averages(Image.fromarray(~ink), size=28)[0]
    for row in range(28):
        for column in range(28):
            # the pixels whose centres lie in the box
            box = [slice(int(i * 3.75 + 0.5), int((i + 1) * 3.75 + 0.5)) for i in (row, column)]
            assert abs(float(got[row, column]) - 255 * ink[box[0], box[1]].mean()) <= 1.5


def test_omniglot_errors_name_what_is_missing(tmp_path):
    with pytest.raises(DataError, match="images_background"):
        build_omniglot(tmp_path)
    with pytest.raises(ConfigError, match="lake has the splits background, evaluation"):
        build_omniglot(tmp_path, split="train", scheme="lake")
    write_omniglot(tmp_path, "val")
    part, name = omniglot._classes("vinyals", "val")[5]
    place = tmp_path / f"images_{part}" / name
    drawing = next(place.iterdir())
    before = build_omniglot(tmp_path, split="val")
    (place / "second.png").write_bytes(drawing.read_bytes())
    after = build_omniglot(tmp_path, split="val")  # not the cached set
    assert (np.bincount(after.labels) - np.bincount(before.labels)).tolist() == [0] * 5 + [1] + [0] * 166
    drawing.write_text("damaged")
    with pytest.raises(DataError, match=drawing.name):
        build_omniglot(tmp_path, split="val")
    for path in place.iterdir():
        path.unlink()
    with pytest.raises(DataError, match=name):
        build_omniglot(tmp_path, split="val")
    place.rmdir()
    with pytest.raises(DataError, match=name):
        build_omniglot(tmp_path, split="val")


# ---- Fashion-MNIST


def test_fashion_mnist_plain_and_packed_are_equal(tmp_path):
    write_fashion(tmp_path / "plain")
    write_fashion(tmp_path / "packed", packed=True)
    marks = [SOURCES.build("fashion_mnist", settings={"root": str(tmp_path / kind)}).fingerprint() for kind in ("plain", "packed")]
    assert marks[0] == marks[1]
    source = SOURCES.build("fashion_mnist", settings={"root": str(tmp_path / "plain"), "split": "test"})
    assert (source.images.numpy()[:, 0] == noise(1, 10, 28, 28)).all()
    assert source.class_names[source.labels[9]] == "Ankle boot"


@pytest.mark.parametrize("damage", ["missing", "short", "long", "magic", "label", "count", "gzip"])
def test_fashion_mnist_damage_is_named(tmp_path, damage):
    write_fashion(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    labels = path.with_name("train-labels-idx1-ubyte")
    data = path.read_bytes()
    if damage == "label":
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    elif damage == "count":
        labels.write_bytes(struct.pack(">HBBI", 0, 8, 1, 3) + b"\0\1\2")
    else:
        path.unlink()
        if damage == "gzip":
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(data)[:-20])
        elif damage != "missing":
            path.write_bytes({"short": data[:-1], "long": data + b"\0", "magic": b"\0\0\x0d\3" + data[4:]}[damage])
    with pytest.raises(DataError, match="labels-idx1" if damage in {"label", "count"} else "train-images-idx3-ubyte"):
        SOURCES.build("fashion_mnist", settings={"root": str(tmp_path)})


def test_download_happens_on_the_explicit_flag_only(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(fashion_mnist, "_download", lambda root: asked.append(root) or write_fashion(root))
    monkeypatch.setattr(cifar, "_download", lambda root, name: asked.append(name) or write_cifar10(root))
    for name in ("fashion_mnist", "cifar10"):
        with pytest.raises(DataError, match=f"{tmp_path}.*download to true"):
            SOURCES.build(name, settings={"root": str(tmp_path)})
    assert asked == []
    for _ in range(2):  # the second time it is there
        for name in ("fashion_mnist", "cifar10"):
            assert len(SOURCES.build(name, settings={"root": str(tmp_path), "download": True})) > 0
    assert asked == [tmp_path, "CIFAR10"]


# ---- CIFAR


def test_cifar_binary_labels_and_pixels(tmp_path):
    write_cifar10(tmp_path)
    write_cifar100(tmp_path)
    ten = SOURCES.build("cifar10", settings={"root": str(tmp_path), "split": "test"})
    assert (ten.images.numpy() == noise(5, 3, 3072).reshape(3, 3, 32, 32)).all()
    assert ten.labels.tolist() == [0, 1, 9]
    assert ten.class_names[9] == "class9"
    assert len(SOURCES.build("cifar10", settings={"root": str(tmp_path)})) == 15
    for kind, labels in (("fine", [99, 7]), ("coarse", [19, 3])):
        source = SOURCES.build("cifar100", settings={"root": str(tmp_path), "labels": kind})
        assert source.labels.tolist() == labels
        assert source.class_names[labels[0]] == f"{kind}{labels[0]}"


def python2_pickle(content: dict[str, object]) -> bytes:
    """The bytes that Python 2's cPickle writes at protocol 2: text as byte strings, arrays with a raw byte string."""

    def value(item: object) -> bytes:
        if isinstance(item, str):
            return b"U" + bytes([len(item)]) + item.encode("latin-1")
        if isinstance(item, int):
            return b"K" + bytes([item])
        if isinstance(item, list):
            return b"](" + b"".join(map(value, item)) + b"e"
        rows, columns = item.shape
        state = b"K\x01J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
        dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        raw = b"\x89T" + struct.pack("<i", item.size) + item.tobytes()
        return b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(" + state + dtype + raw + b"tb"

    return b"\x80\x02}q\x01(" + b"".join(value(key) + value(item) for key, item in content.items()) + b"u."


def cifar_batch(seed: int) -> dict[str, object]:
    return {"batch_label": "batch", "labels": [9, 0], "data": noise(seed, 2, 3072), "filenames": ["a.png", "b.png"]}


@pytest.mark.parametrize("writer", ["python2", "protocol 0", "protocol 2", "protocol 3", "protocol 4", "bytes keys", "fortran"])
def test_cifar_python_files_are_read_without_unpickling(tmp_path, monkeypatch, writer):
    def dump(content: dict) -> bytes:
        if writer == "python2":
            return python2_pickle(content)
        if writer == "bytes keys":
            return pickle.dumps({key.encode(): item for key, item in content.items()}, protocol=2)
        if writer == "fortran":
            content = {key: np.asfortranarray(item) if isinstance(item, np.ndarray) else item for key, item in content.items()}
        return pickle.dumps(content, protocol=int(writer[-1]) if writer.startswith("protocol") else 2)

    place = tmp_path / "cifar-10-batches-py"
    place.mkdir()
    for number in range(1, 6):
        (place / f"data_batch_{number}").write_bytes(dump(cifar_batch(number)))
    (place / "batches.meta").write_bytes(dump({"label_names": [f"class{k}" for k in range(10)]}))
    hundred = tmp_path / "cifar-100-python"
    hundred.mkdir()
    (hundred / "test").write_bytes(dump({"data": noise(9, 2, 3072), "fine_labels": [99, 0], "coarse_labels": [19, 1]}))
    (hundred / "meta").write_bytes(
        dump({"fine_label_names": [f"f{k}" for k in range(100)], "coarse_label_names": [f"c{k}" for k in range(20)]})
    )
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("unpickled"))
    source = SOURCES.build("cifar10", settings={"root": str(tmp_path)})
    expected = np.concatenate([noise(number, 2, 3072) for number in range(1, 6)]).reshape(-1, 3, 32, 32)
    assert (source.images.numpy() == expected).all()
    assert source.labels.tolist() == [9, 0] * 5
    assert source.class_names[9] == "class9"
    coarse = SOURCES.build("cifar100", settings={"root": str(tmp_path), "split": "test", "labels": "coarse"})
    assert coarse.labels.tolist() == [19, 1]
    assert coarse.class_names[19] == "c19"


class Attack:
    """Unpickling it runs a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_nothing_runs(tmp_path, protocol):
    canary = tmp_path / "canary"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": Attack(canary), "labels": [1]}, protocol=protocol))
    with pytest.raises(DataError, match=r"data_batch_1 holds more than plain data.*system"):
        read_pickled_data(path)
    assert not canary.exists()
    pickle.loads(path.read_bytes())
    assert canary.exists()  # the file was armed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"\x80\x02}q\x01(U\x04data",
        b"\x80\x02]q\x01.",
        b"(d0\x80.",
        pickle.dumps({"data": np.zeros(3, np.float32)}, protocol=2),
        pickle.dumps({"data": np.array([None])}, protocol=2),
        pickle.dumps({"data": {1, 2}}, protocol=2),
        pickle.dumps({"data": 1 + 2j}, protocol=2),
    ],
)
def test_other_pickles_are_refused(tmp_path, data):
    path = tmp_path / "meta"
    path.write_bytes(data)
    with pytest.raises(DataError, match="meta"):
        read_pickled_data(path)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_pickle_never_escapes_as_another_error(tmp_path_factory, place, byte, cut):
    data = bytearray(pickle.dumps({"data": noise(0, 2, 3), "labels": [1, 2], b"n": ["a", 1.5, None]}, protocol=2))
    place %= len(data)
    data[place] = byte
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(data[:place] if cut else data)
    with contextlib.suppress(DataError):
        assert isinstance(read_pickled_data(path), dict)


def test_cifar_damage_is_named(tmp_path):
    write_cifar10(tmp_path)
    place = tmp_path / "cifar-10-batches-bin"
    chosen = {"root": str(tmp_path)}
    for name, data, words in (
        ("data_batch_3.bin", b"\0" * 100, "multiple of 3073"),
        ("data_batch_3.bin", b"\x0a" + b"\0" * 3072, "10 class names"),
        ("batches.meta.txt", None, "batches.meta.txt"),
    ):
        before = (place / name).read_bytes()
        if data is None:
            (place / name).unlink()
        else:
            (place / name).write_bytes(data)
        with pytest.raises(DataError, match=words):
            SOURCES.build("cifar10", settings=chosen)
        (place / name).write_bytes(before)
    python = tmp_path / "py" / "cifar-10-batches-py"
    python.mkdir(parents=True)
    for content in ({"labels": [1]}, {"data": noise(0, 2, 3072), "labels": [1]}, {"data": noise(0, 1, 3072), "labels": ["x"]}):
        (python / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(DataError, match="test_batch"):
            SOURCES.build("cifar10", settings={"root": str(python.parent), "split": "test"})


# ---- the real data


def shared_arrays(name: str) -> dict[str, np.ndarray]:
    path = SHARED / "data" / f"{name}.npz"
    if not path.is_file():
        pytest.skip("the real data sets are not at hand")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


def test_real_omniglot_equals_its_reference(tmp_path):
    arrays = shared_arrays("omniglot")
    alphabets = arrays["alphabet_names"][arrays["alphabet"]]
    names = [f"{alphabet}/character{number:02d}" for alphabet, number in zip(alphabets, arrays["character"], strict=True)]
    assert names == [name for _, name in omniglot._classes("lake", "all")]
    chosen = dict((name, part) for part, name in omniglot._classes("vinyals", "val"))
    rows = [row for row, name in enumerate(names) if name in chosen]
    for row in rows:  # written as the official archives hold them: 1 bit per pixel, ink black
        place = tmp_path / f"images_{chosen[names[row]]}" / names[row]
        place.mkdir(parents=True)
        ink = np.unpackbits(arrays["bits105"][row], axis=-1)[:, : 105 * 105].reshape(20, 105, 105).astype(bool)
        for drawer in range(20):
            Image.fromarray(~ink[drawer]).save(place / f"{row + 1:04d}_{drawer + 1:02d}.png", compress_level=1)
    source = build_omniglot(tmp_path, split="val")
    assert source.class_names == [names[row] for row in rows]
    assert (source.images.numpy().reshape(172, 20, 28, 28) == arrays["images28"][rows]).all()
    assert source.labels.tolist() == [k // 20 for k in range(172 * 20)]


def test_real_fashion_mnist_equals_its_reference(tmp_path):
    arrays = shared_arrays("fashion_mnist")
    subprocess.run(
        [sys.executable, str(SHARED / "tools" / "unpack_data.py"), "--out", str(tmp_path), "fashion_mnist"], check=True, capture_output=True
    )
    source = SOURCES.build("fashion_mnist", settings={"root": str(tmp_path)})
    assert np.bincount(source.labels).tolist() == [6000] * 10
    mean, std = pixel_statistics(source, limit=60_000)
    assert mean[0] == pytest.approx(0.2860, abs=1e-4)  # the published values
    assert std[0] == pytest.approx(0.3530, abs=1e-4)
    for label in (0, 9):
        total = source.images.numpy()[source.labels == label].sum(axis=(0, 1), dtype=np.int64)
        assert (total == arrays["train_x"][arrays["train_y"] == label].sum(axis=0, dtype=np.int64)).all()
