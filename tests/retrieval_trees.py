"""Tiny generated trees in the layouts of the benchmarks of metric learning, for the tests of data sources."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from tests.trees import noise


def picture(path: Path, seed: int, height: int = 10, width: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, height, width, 3)).save(path)


def write_cub(root: Path, classes: int = 8) -> None:
    """Classes of two to four pictures, listed out of order."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [(c, k) for c in range(1, classes + 1) for k in range(2 + c % 3)]
    images = {number: (c, f"{c:03d}.Bird_{c}/Bird_{c}_{k:04d}.jpg") for number, (c, k) in enumerate(rows, start=1)}
    for number, (_, name) in images.items():
        picture(root / "images" / name, number)
    (root / "images.txt").write_text("".join(f"{number} {name}\n" for number, (_, name) in images.items()))
    (root / "image_class_labels.txt").write_text("".join(f"{number} {c}\n" for number, (c, _) in reversed(images.items())))
    (root / "classes.txt").write_text("".join(f"{c} {c:03d}.Bird_{c}\n" for c in range(1, classes + 1)))


def write_cars(root: Path, classes: int = 6, per_class: int = 3) -> None:
    """One table for all images, classes from 1, as the official file has them."""
    root.mkdir(parents=True, exist_ok=True)
    form = [("relative_im_path", object), ("bbox_x1", object), ("class", object), ("test", object)]
    rows = np.zeros((1, classes * per_class), dtype=form)
    for number in range(rows.size):
        name = f"car_ims/{number + 1:06d}.jpg"
        picture(root / name, number)
        rows[0, number] = (name, np.uint8(3), np.uint8(number % classes + 1), np.uint8(number % 2))
    names = np.array([[f"Maker Model {c} 2012" for c in range(classes)]], dtype=object)
    savemat(root / "cars_annos.mat", {"annotations": rows, "class_names": names})


def write_sop(root: Path) -> None:
    """Products of two or three pictures in two categories, ids of test behind those of train."""
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    for part, products in (("train", range(1, 7)), ("test", range(7, 12))):
        lines = ["image_id class_id super_class_id path"]
        for product in products:
            category = product % 2
            for k in range(2 + product % 2):
                number += 1
                path = f"{('bicycle', 'chair')[category]}_final/{1000 + product}_{k}.JPG"
                picture(root / path, number)
                lines.append(f"{number} {product} {category + 1} {path}")
        (root / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")


def write_in_shop(root: Path) -> None:
    """Garments of train, and others with one query and two pictures in the gallery each."""
    rows = []
    for item in range(1, 9):
        for k, part in enumerate(["train"] * 3 if item < 5 else ["query", "gallery", "gallery"]):
            path = f"img/{('MEN', 'WOMEN')[item % 2]}/Shirts_{item % 3}/id_{item:08d}/0{k + 1}_1_front.jpg"
            picture(root / "Img" / path, 10 * item + k)
            rows.append(f"{path}    id_{item:08d}    {part}")
    (root / "Eval").mkdir()
    header = f"{len(rows)}\nimage_name item_id evaluation_status\n"
    (root / "Eval" / "list_eval_partition.txt").write_text(header + "\n".join(rows) + "\n")


def write_market(root: Path) -> None:
    """Three people to train, three to test before two or three cameras, a distractor and a junk picture."""
    seed = 0
    for folder, people, shots in (
        ("bounding_box_train", (2, 7, 10), ((1, 1), (1, 2), (3, 1))),
        ("query", (1, 3, 4), ((1, 1), (2, 1))),
        ("bounding_box_test", (1, 3, 4, 0, -1), ((1, 1), (5, 2), (6, 2))),
    ):
        for person in people:
            for camera, sequence in shots:
                seed += 1
                name = "-1" if person < 0 else f"{person:04d}"
                picture(root / folder / f"{name}_c{camera}s{sequence}_{seed:06d}_01.jpg", seed, 20, 10)
        (root / folder / "Thumbs.db").write_bytes(b"x")


def write_lfw(root: Path) -> None:
    """Two folds of two pairs of either kind."""
    people = {"Ann_Lee": 3, "Bo_Ek": 2, "Cy_Roe": 2, "Di_Fox": 1}
    for p, (person, count) in enumerate(people.items()):
        for k in range(1, count + 2):  # one more than any pair names
            picture(root / "lfw" / person / f"{person}_{k:04d}.jpg", 10 * p + k, 14, 14)
    same = ["Ann_Lee\t1\t2", "Bo_Ek\t1\t2", "Ann_Lee\t3\t1", "Cy_Roe\t1\t2"]
    other = ["Ann_Lee\t1\tBo_Ek\t1", "Di_Fox\t1\tCy_Roe\t2", "Bo_Ek\t2\tDi_Fox\t1", "Cy_Roe\t1\tAnn_Lee\t3"]
    lines = ["2\t2", *same[:2], *other[:2], *same[2:], *other[2:]]
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    (root / "pairsDevTest.txt").write_text("\n".join(["1", same[0], other[0]]) + "\n")


def write_label_sets(root: Path, **more: object) -> None:
    """Twelve images of six photographs with up to three of four labels each; the last has none."""
    for k in range(12):
        picture(root / "images" / f"p{k:02d}.jpg", k)
    labels = [[one for one in (1, 3, 17, 44) if (k * one) % 4 < 2][: k % 3 + 1] for k in range(11)] + [[]]
    given = {"_rule": "made up", "files": [f"p{k:02d}" for k in range(12)], "labels": labels, "photo_id": [900 + k // 2 for k in range(12)]}
    given |= {"train": list(range(6)), "test": list(range(6, 12)), **more}
    (root / "labels.json").write_text(json.dumps({key: value for key, value in given.items() if value is not None}))
    (root / "classes.json").write_text(json.dumps({"1": "cat", "3": {"name": "dog", "fold": 0}}))
