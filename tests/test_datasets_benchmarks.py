"""Omniglot and Fashion-MNIST from their official layouts, on tiny trees and on the real data."""

from __future__ import annotations

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES, cifar, fashion_mnist, omniglot
from kinshot.datasets.labels import Marks
from kinshot.datasets.orders import ORDERS
from kinshot.samples.statistics import pixel_statistics
from tests.tiny import result, run
from tests.trees import noise, write_cifar10, write_fashion, write_omniglot

SHARED = Path(__file__).resolve().parents[2] / "shared"


# name: writer, settings, splits whose images must differ, whether the splits are splits of classes


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


def test_omniglot_drawings_say_alphabet_and_drawer_where_they_are_asked(tmp_path):
    write_omniglot(tmp_path, "val")
    for number, (part, name) in enumerate(omniglot._classes("vinyals", "val"), start=1):
        place = tmp_path / f"images_{part}" / name
        Image.fromarray(noise(number, 105, 105) > 128).save(place / f"{number:04d}_{2 + number % 3:02d}.png")
    plain, known = build_omniglot(tmp_path, split="val"), build_omniglot(tmp_path, split="val", attributes=True)
    assert plain.attributes == {}
    assert np.array_equal(plain.images, known.images)
    assert plain.fingerprint() != known.fingerprint()
    assert [known.attribute_names["alphabet"][k] for k in known.attributes["alphabet"]] == [
        known.class_names[label].split("/")[0] for label in known.labels
    ]
    assert known.attribute_names["drawer"] == ["1", "2", "3", "4"]
    expected = [place for number in range(1, 173) for place in (0, 1 + number % 3)]
    assert known.attributes["drawer"].tolist() == expected
    turned = build_omniglot(tmp_path, split="val", attributes=True, rotations=True)
    assert turned.attributes["drawer"].tolist() == 4 * expected
    assert np.array_equal(turned.attributes["alphabet"], np.tile(known.attributes["alphabet"], 4))
    order = ORDERS.build(
        "hierarchical", Marks(turned.labels, turned.categories), 8, 2, 0, settings={"attribute": "alphabet", "per_class": 2}
    )
    assert len(np.unique(turned.attributes["alphabet"][order(0)[0].numpy()])) == 2
    place = tmp_path / "images_background" / omniglot._classes("vinyals", "val")[0][1]
    next(place.glob("*.png")).rename(place / "drawing.png")
    with pytest.raises(DataError, match=r"drawing\.png: expected a name such as 0001_20\.png"):
        build_omniglot(tmp_path, split="val", attributes=True)


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
    monkeypatch.setattr(fashion_mnist, "_download", lambda root, names: asked.append(root) or write_fashion(root))
    monkeypatch.setattr(cifar, "_download", lambda root, name: asked.append(name) or write_cifar10(root))
    for name in ("fashion_mnist", "cifar10"):
        with pytest.raises(DataError, match=f"{tmp_path}.*download to true"):
            SOURCES.build(name, settings={"root": str(tmp_path)})
    assert asked == []
    for _ in range(2):  # the second time it is there
        for name in ("fashion_mnist", "cifar10"):
            assert len(SOURCES.build(name, settings={"root": str(tmp_path), "download": True})) > 0
    assert asked == [tmp_path, "CIFAR10"]


def shared_arrays(name: str) -> dict[str, np.ndarray]:
    path = SHARED / "data" / f"{name}.npz"
    if not path.is_file():
        pytest.skip("the real data sets are not at hand")
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="module")
def real_omniglot(tmp_path_factory):
    """The Vinyals validation characters as the official archives hold them (1 bit per pixel, ink black), and their arrays."""
    arrays = shared_arrays("omniglot")
    root = tmp_path_factory.mktemp("omniglot")
    alphabets = arrays["alphabet_names"][arrays["alphabet"]]
    names = [f"{alphabet}/character{number:02d}" for alphabet, number in zip(alphabets, arrays["character"], strict=True)]
    chosen = dict((name, part) for part, name in omniglot._classes("vinyals", "val"))
    rows = [row for row, name in enumerate(names) if name in chosen]
    for row in rows:
        place = root / f"images_{chosen[names[row]]}" / names[row]
        place.mkdir(parents=True)
        ink = np.unpackbits(arrays["bits105"][row], axis=-1)[:, : 105 * 105].reshape(20, 105, 105).astype(bool)
        for drawer in range(20):
            Image.fromarray(~ink[drawer]).save(place / f"{row + 1:04d}_{drawer + 1:02d}.png", compress_level=1)
    return root, names, rows, arrays["images28"][rows]


def test_real_omniglot_equals_its_reference(real_omniglot):
    root, names, rows, pixels = real_omniglot
    assert names == [name for _, name in omniglot._classes("lake", "all")]
    source = build_omniglot(root, split="val")
    assert source.class_names == [names[row] for row in rows]
    assert (source.images.numpy().reshape(172, 20, 28, 28) == pixels).all()
    assert source.labels.tolist() == [k // 20 for k in range(172 * 20)]


def test_the_omniglot_recipe_learns_from_real_drawings_without_labels(real_omniglot, tmp_path):
    root = real_omniglot[0]
    short = ["data.split=val", "train.epochs=3", "views.small_epochs=1", "method.warmup_epochs=2", "method.clusters=172"]
    done = run("ssl", "pretrain", "omniglot_interclr", f"data.root={root}", *short, "--out", "run", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    task = ["--ways", "5", "--shots", "1", "--episodes", "200", "--features", "projector", "--json"]
    rows = result(run("fewshot", "eval", "run", "--data", f"omniglot:{root}", "--split", "val", *task, cwd=tmp_path))["rows"]
    found = {row["model"]: row["mean"] for row in rows}
    assert found["pretrained"] > max(found["raw pixels"], found["untrained"]) + 5


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
