"""Tiny generated trees in the layouts of the official releases, for the tests of data sources."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from kinshot.datasets import coco_20i, grocery_store, omniglot


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


def write_grocery(root: Path, official: bool) -> None:
    """Every class with a picture in train and one in test, every second class with one in val."""
    root.mkdir(parents=True)
    lists = grocery_store.class_lists()
    names = [name for part in ("train", "val", "test") for name in lists[part]]
    kinds = {name: (f"{name.split('-')[0]}s", ("Fruit", "Packages", "Vegetables")[k % 3]) for k, name in enumerate(names)}
    listed: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for k, name in enumerate(names):
        coarse, top = kinds[name]
        for f, folder in enumerate(listed):
            if folder == "val" and k % 2:
                continue
            inside = f"{folder}/{top}/{coarse}/{name}" if official else f"{folder}/{name}"
            (root / inside).mkdir(parents=True)
            file = f"{inside}/{name}_001.{'jpg' if official else 'png'}"
            Image.fromarray(noise(3 * k + f, 10, 12, 3)).save(root / file)
            listed[folder].append(f"{file}, {k}, 0")
    if official:
        for folder, lines in listed.items():
            (root / f"{folder}.txt").write_text("\n".join(lines) + "\n")
        rows = [f"{name},{k},{kinds[name][0]},0,/iconic/{kinds[name][1]}/x.jpg,/x.txt" for k, name in enumerate(names)]
        header = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        header += "Iconic Image Path (str),Product Description Path (str)"
    else:
        rows = [f"{name},{kinds[name][0]},{kinds[name][1]}" for name in names]
        header = "fine,coarse,super"
    (root / "classes.csv").write_text("\n".join([header, *rows]) + "\n")


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


def write_scenes(root: Path) -> None:
    """Six pictures of two sizes and their masks: classes 1 to 4 in two folds, 5 in none, two pictures of one photograph."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    table = {str(c): {"name": f"thing{c}", "fold": (c - 1) // 2 if c < 5 else -1} for c in range(1, 6)}
    (root / "classes.json").write_text(json.dumps({"0": "background", **table}))
    (root / "photos.csv").write_text(
        "stem,photo_id,kind\n" + "".join(f"p{k},{100 + k // 2 if k < 2 else 200 + k},scene\n" for k in range(6))
    )
    for k in range(6):
        height, width = (12, 16) if k % 2 else (10, 10)
        Image.fromarray(noise(k, height, width, 3)).save(root / "images" / f"p{k}.png")
        mask = mask_of(height, width, k % 4 + 1, (k + 1) % 4 + 1, 5)
        mask[-1, k] = 0
        Image.fromarray(mask).save(root / "masks" / f"p{k}.png")


def mask_of(height: int, width: int, *values: int) -> np.ndarray:
    """Blocks of three rows or more with these values on the left half, 255 in the last column."""
    mask = np.zeros((height, width), np.uint8)
    for number, rows in enumerate(np.array_split(np.arange(height), len(values))):
        mask[rows, : width // 2] = values[number]
    mask[:, -1] = 255
    return mask


def write_pascal(root: Path, augmented: bool = False) -> None:
    """VOC2012 with a training and a validation picture for each pair of neighbouring classes, masks with palettes and 255 at a border."""
    place = root / "VOCdevkit" / "VOC2012"
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", *(["SegmentationClassAug"] if augmented else [])):
        (place / folder).mkdir(parents=True)
    for part, listed in lists.items():
        for c in range(1, 21):
            stem, size = f"2007_{part}{c:02d}", (12, 14) if c % 2 else (16, 10)
            mask = Image.fromarray(mask_of(*size, c, c % 20 + 1))
            mask.putpalette(noise(5, 768).tolist())
            Image.fromarray(noise(c, *size, 3)).save(place / "JPEGImages" / f"{stem}.jpg")
            mask.save(place / "SegmentationClass" / f"{stem}.png")
            listed.append(stem)
    for part, listed in lists.items():
        (place / "ImageSets/Segmentation" / f"{part}.txt").write_text("\n".join(listed) + "\n")
    if augmented:
        for stem in (*lists["train"], *lists["val"], *(f"2008_more{c:02d}" for c in range(1, 21))):
            c = int(stem[-2:])
            size = (12, 14) if c % 2 else (16, 10)
            Image.fromarray(noise(c, *size, 3)).save(place / "JPEGImages" / f"{stem}.jpg")
            Image.fromarray(mask_of(*size, c, c % 20 + 1)).save(place / "SegmentationClassAug" / f"{stem}.png")


def coco_categories() -> list[dict[str, object]]:
    """COCO's classes with ids from 1 to 90 of which ten are not used."""
    unused = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    ids = [number for number in range(1, 91) if number not in unused]
    return [{"id": number, "name": name} for number, name in zip(ids, coco_20i.NAMES, strict=True)]


def write_coco(root: Path) -> None:
    """For each part 80 pictures with an object of their class and one of the next but three, and one without any object."""
    ids = [category["id"] for category in coco_categories()]
    (root / "annotations").mkdir(parents=True)
    for part in ("train2017", "val2017"):
        (root / part).mkdir()
        images, annotations = [], []
        for k in range(81):
            height, width = (12, 16) if k % 2 else (14, 10)
            Image.fromarray(noise(k, height, width, 3)).save(root / part / f"{k:012d}.jpg")
            images.append({"id": 1000 + k, "file_name": f"{k:012d}.jpg", "height": height, "width": width})
            for item in range(0 if k == 80 else 2):
                left = 1 + 4 * item
                square = [left, 1, left + 4, 1, left + 4, 9, left, 9]
                annotations.append(
                    {"id": 2 * k + item, "image_id": 1000 + k, "category_id": ids[(k + 4 * item) % 80], "iscrowd": 0, "area": 32,
                     "segmentation": [square]}
                )  # fmt: skip
        content = {"images": images, "annotations": annotations, "categories": coco_categories()[::-1]}
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))


def write_fss(root: Path, classes: int = 8, lists: bool = True) -> None:
    """Classes of three pictures with coloured masks that have shades between."""
    for c in range(classes):
        place = root / "fewshot_data" / f"thing{c:02d}"
        place.mkdir(parents=True)
        for k in range(1, 4):
            Image.fromarray(noise(10 * c + k, 14, 14, 3)).save(place / f"{k}.jpg")
            mask = np.zeros((14, 14, 3), np.uint8)
            mask[2:9, 3 : 6 + k] = 255
            mask[9, 3:9], mask[10, 3:9] = 140, 110
            Image.fromarray(mask).save(place / f"{k}.png")
    if lists:
        for part, numbers in (
            ("train", range(classes - 4)),
            ("val", range(classes - 4, classes - 2)),
            ("test", range(classes - 2, classes)),
        ):
            (root / f"{part}.txt").write_text("".join(f"thing{c:02d}\n" for c in numbers))
