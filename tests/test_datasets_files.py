"""The contract of every source, on tiny generated trees; pictures and folders."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource, FileSource
from kinshot.datasets.files import content_digests
from kinshot.datasets.images import load_image, read_image
from kinshot.datasets.loader import batches
from tests.trees import no_files, noise, write_cifar10, write_cifar100, write_fashion, write_folder

SHARED = Path(__file__).resolve().parents[2] / "shared"


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


# sources of other samples than images, or without splits, have their own tests
ELSEWHERE = {"table": "test_samples.py", "task_topology": "test_datasets_reproductions.py", "manifold": "test_datasets_reproductions.py"}
ELSEWHERE |= {"grocery_store": "test_datasets_grocery.py"}
ELSEWHERE |= {"glyph_scenes": "test_datasets_glyph_scenes.py", "mask_folder": "test_datasets_scene_files.py"}
ELSEWHERE |= {"hetero_graph": "test_datasets_hetero_graph.py"}
ELSEWHERE |= {"label_sets": "test_datasets_label_sets.py", "photo_drawings": "test_datasets_photo_drawings.py"}
ELSEWHERE |= dict.fromkeys(("cub_200_2011", "cars_196", "stanford_online_products"), "test_datasets_retrieval.py")
ELSEWHERE |= dict.fromkeys(("in_shop", "market_1501", "lfw_pairs"), "test_datasets_retrieval.py")
ELSEWHERE |= {"motion": "test_datasets_motion.py", "recordings": "test_datasets_recordings.py"}
ELSEWHERE |= dict.fromkeys(("uci_har", "hapt"), "test_datasets_uci_har.py")
ELSEWHERE |= dict.fromkeys(("pascal_5i", "coco_20i", "fss_1000"), "test_datasets_folds.py")


def test_the_contract_covers_every_source():
    assert {*CONTRACT, *ELSEWHERE} == {name for name, entry in SOURCES.entries.items() if entry.module.startswith("kinshot.")}


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


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "float", "int32", "missing", "bomb", "large", "postscript"])
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
    elif kind in {"bomb", "large"}:  # Pillow itself only warns up to twice its limit
        side = 30 if kind == "bomb" else 12
        Image.new("L", (side, side)).save(path)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    elif kind == "postscript":
        path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=path.name):
        load_image(path, 8, 3)


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
    assert build_folder(tmp_path, split="train", in_memory_mib=0).fingerprint() == mark  # times are no content
    shutil.copytree(tmp_path / "train", tmp_path / "copy" / "train")
    assert build_folder(tmp_path / "copy", split="train", in_memory_mib=0).fingerprint() == mark
    flip(path)
    source = build_folder(tmp_path, split="train", in_memory_mib=0)
    assert source.fingerprint() != mark
    source = build_folder(tmp_path, split="train", in_memory_mib=0)
    path.unlink()
    with pytest.raises(DataError, match=r"0\.png"):
        source.fingerprint()


def flip(path: Path) -> None:
    """Another content of the same size under the same name and the same time."""
    times, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("settled", [False, True])
def test_a_file_replaced_under_its_name_size_and_time_is_read_again(tmp_path, monkeypatch, settled):
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    if settled:  # what was written long ago is remembered
        monkeypatch.setattr("kinshot.datasets.files._SETTLED_NS", -(10**18))
    paths = [tmp_path / f"{k}.bin" for k in range(3)]
    for k, path in enumerate(paths):
        path.write_bytes(bytes([k]) * 50)
    expected = [hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest().encode() for path in paths]
    assert content_digests(paths, tmp_path).tolist() == expected
    with monkeypatch.context() as patch:
        patch.setattr("kinshot.datasets.files.read_file", lambda path, **how: pytest.fail("read again") if settled else path.read_bytes())
        assert content_digests(paths[::-1], tmp_path).tolist() == expected[::-1]
    flip(paths[1])
    again = content_digests(paths, tmp_path).tolist()
    assert again == [expected[0], hashlib.blake2b(paths[1].read_bytes(), digest_size=16).hexdigest().encode(), expected[2]]


def test_what_a_cache_of_digests_holds_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("kinshot.datasets.files._SETTLED_NS", -(10**18))
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    expected = content_digests([path], tmp_path).tolist()
    (kept,) = (tmp_path / "cache" / "digests").glob("*.npz")
    with np.load(kept, allow_pickle=False) as archive:
        arrays = dict(archive)
    np.savez_compressed(kept, **{**arrays, "digests": np.array([b"0" * 32])})
    assert content_digests([path], tmp_path).tolist() == expected


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_plain_file_is_refused_and_not_opened(tmp_path, kind):
    path = tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    for read in (lambda: load_image(path, 8, 3), lambda: content_digests([path], tmp_path), lambda: read_image(path, np.asarray)):
        with pytest.raises(DataError, match=rf"a\.png is a {kind}, expected a regular file"):
            read()


def test_a_checkpoint_of_version_0_1_0_knew_files_by_their_times(tmp_path):
    """Its fingerprint: SHA-256 of the shape, the names, the labels, and path, size and time of every file."""
    write_folder(tmp_path)
    source = build_folder(tmp_path, split="train", in_memory_mib=0)
    place = tmp_path / "train"
    found = hashlib.sha256(repr((7, (3, 8, 8), ["cat", "dog"])).encode())
    found.update(np.array([0, 0, 0, 1, 1, 1, 1], dtype="<i8").tobytes())
    for path in sorted(place.glob("*/*")):
        found.update(f"{path.relative_to(place)}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}\n".encode())
    assert source.known_as(found.hexdigest())
    assert source.known_as(source.fingerprint())
    os.utime(place / "cat" / "0.png", ns=(1, 1))
    assert not source.known_as(found.hexdigest())


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
