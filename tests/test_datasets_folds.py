"""PASCAL-5i, COCO-20i and FSS-1000 on tiny trees in the official layouts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES, coco_20i, fss_1000, pascal_5i
from kinshot.datasets.mask_files import write_mask
from kinshot.datasets.scene_choice import contiguous, interleaved
from kinshot.datasets.scene_files import FileScenes
from tests.trees import mask_of, write_coco, write_fss, write_pascal


def build(name: str, root: Path, **settings: Any) -> FileScenes:
    return SOURCES.build(name, settings={"root": str(root), "size": 16, **settings})


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    write_pascal(tmp_path)
    return tmp_path


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    write_coco(tmp_path)
    return tmp_path


@pytest.mark.parametrize("rule", [contiguous, interleaved])
@pytest.mark.parametrize("classes", [20, 80])
def test_folds_divide_all_classes(rule: Any, classes: int) -> None:
    folds = [rule(classes, 4, fold) for fold in range(4)]
    assert sorted(value for fold in folds for value in fold) == list(range(1, classes + 1))
    assert {len(fold) for fold in folds} == {classes // 4}


def test_folds_of_the_specification() -> None:
    assert contiguous(20, 4, 0) == [1, 2, 3, 4, 5]
    assert contiguous(80, 4, 3) == list(range(61, 81))
    assert interleaved(80, 4, 1)[:3] == [2, 6, 10]
    assert interleaved(80, 4, 3)[-1] == 80


def test_folds_are_those_of_the_lists(shared: Path) -> None:
    voc = json.loads((shared / "data/splits/pascal_5i.json").read_text())
    coco = json.loads((shared / "data/splits/coco_20i.json").read_text())
    assert list(pascal_5i.NAMES) == voc["class_names"]
    for fold in range(4):
        assert [pascal_5i.NAMES[value - 1] for value in contiguous(20, 4, fold)] == voc["folds"][fold]["test"]
        assert [value - 1 for value in interleaved(80, 4, fold)] == coco["folds"][fold]["test"]


@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("place", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_pascal(voc: Path, fold: int, place: str) -> None:
    train, val = (build("pascal_5i", voc / place, split=split, fold=fold) for split in ("train", "test"))
    held = list(pascal_5i.NAMES[5 * fold : 5 * fold + 5])
    assert val.class_names == held
    assert train.class_names == [name for name in pascal_5i.NAMES if name not in held]
    assert not {path.name for path in train.files} & {path.name for path in val.files}
    assert all("val" in path.name for path in val.files)
    assert len(val) == 6  # the five classes' own pictures, and the one of the class before
    assert "20 pictures of val.txt, masks of SegmentationClass" in val.notes
    for row in range(len(val)):
        stored = np.asarray(Image.open(voc / "VOCdevkit/VOC2012/SegmentationClass" / f"{val.files[row].stem}.png"))
        found = val.native_mask(row).numpy()
        for c in range(1, 21):
            meant = c - 5 * fold if 5 * fold < c <= 5 * fold + 5 else val.other
            assert (found[stored == c] == meant).all()
        assert ((stored == 255) == (found == 255)).all()
        assert ((stored == 0) == (found == 0)).all()


def test_pascal_with_more_masks(tmp_path: Path) -> None:
    write_pascal(tmp_path, augmented=True)
    more = build("pascal_5i", tmp_path)
    assert {path.stem[:9] for path in more.files} == {"2007_trai", "2008_more"}
    assert "40 pictures of SegmentationClassAug but for val.txt, masks of SegmentationClassAug" in more.notes
    own = build("pascal_5i", tmp_path, masks="voc", split="train", fold=3)
    assert {path.stem[:9] for path in own.files} == {"2007_trai"}
    assert build("pascal_5i", tmp_path, split="test").notes[0] == "20 pictures of val.txt, masks of SegmentationClass"
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "trainaug.txt").write_text("".join(f"2008_more{c:02d}\n" for c in range(1, 21)))
    assert {path.stem[:9] for path in build("pascal_5i", tmp_path).files} == {"2008_more"}
    listed = tmp_path / "paper.txt"
    listed.write_text(
        "".join(f"JPEGImages/2007_train{c:02d}.jpg SegmentationClassAug/2007_train{c:02d}.png\n" for c in (6, 20, *range(6, 21)))
    )
    assert len(build("pascal_5i", tmp_path, pictures=str(listed))) == 15


def test_pascal_of_which_something_is_missing(voc: Path) -> None:
    place = voc / "VOCdevkit/VOC2012"
    with pytest.raises(ConfigError, match="fold must be 0 to 3, got 4"):
        build("pascal_5i", voc, fold=4)
    with pytest.raises(DataError, match=r"SegmentationClassAug: unpack the masks of SBD there, or set masks=voc"):
        build("pascal_5i", voc, masks="augmented")
    (place / "JPEGImages/2007_val03.jpg").rename(place / "kept.jpg")
    with pytest.raises(DataError, match=r"val\.txt names 1 pictures that are not in .*JPEGImages \(2007_val03\): unpack the set again"):
        build("pascal_5i", voc, split="test")
    lines = (place / "ImageSets/Segmentation/val.txt").read_text().splitlines()
    (place / "ImageSets/Segmentation/val.txt").write_text("\n".join(line for line in lines if not line.endswith(("01", "02", "03", "20"))))
    with pytest.raises(DataError, match=r"pascal_5i/test/0: 3 classes of the split are in no mask \(aeroplane, bicycle, bird\)"):
        build("pascal_5i", voc, split="test")
    (place / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt names no picture"):
        build("pascal_5i", voc, split="test")
    (place / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt.*set pictures to a list"):
        build("pascal_5i", voc, split="test")


def test_pascal_whose_masks_were_saved_in_colour(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_val05.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(DataError, match=r"2007_val05\.png is a coloured picture, expected numbers"):
        build("pascal_5i", voc, split="test")


def test_small_objects_of_pascal(voc: Path) -> None:
    every, large = build("pascal_5i", voc, split="test"), build("pascal_5i", voc, split="test", min_area=41)
    areas = np.stack([[(every.native_mask(row) == c + 1).sum() for c in range(5)] for row in range(len(every))])
    assert np.array_equal(every.contains, areas > 0)
    kept = [row for row in range(len(every)) if (areas[row] > 40).any()]
    assert np.array_equal(large.contains, areas[kept] > 40)
    assert 0 < len(large) < len(every)


@pytest.mark.parametrize("scheme", ["interleaved", "contiguous"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_coco(coco: Path, scheme: str, split: str) -> None:
    source = build("coco_20i", coco, scheme=scheme, split=split, fold=2)
    held = [c for c in range(1, 81) if ((c - 1) % 4 == 2 if scheme == "interleaved" else 41 <= c <= 60)]
    own = held if split == "test" else [c for c in range(1, 81) if c not in held]
    assert source.class_names == [coco_20i.NAMES[c - 1] for c in own]
    assert all(path.parent.name == ("val2017" if split == "test" else "train2017") for path in source.files)
    for row in range(len(source)):
        k = int(source.files[row].stem)
        expected = np.zeros(source.sizes[row], np.int64)
        for item, c in enumerate([k % 80 + 1, (k + 4) % 80 + 1]):
            expected[1:9, 1 + 4 * item : 5 + 4 * item] = own.index(c) + 1 if c in own else source.other
        assert np.array_equal(source.native_mask(row), expected)
    assert f"80 pictures of {'val' if split == 'test' else split}2017, folds {scheme}" in source.notes


def test_coco_from_masks_is_the_same_as_from_annotations(coco: Path) -> None:
    drawn = build("coco_20i", coco, split="test", fold=0)
    (coco / "maps/val2017").mkdir(parents=True)
    for k in range(80):
        mask = np.zeros((12, 16) if k % 2 else (14, 10), np.uint8)
        mask[1:9, 1:5], mask[1:9, 5:9] = k % 80 + 1, (k + 4) % 80 + 1
        write_mask(coco / "maps/val2017" / f"{k:012d}.png", mask)
    read = build("coco_20i", coco, split="test", fold=0, masks="maps")
    assert [path.name for path in read.files] == [path.name for path in drawn.files]
    assert torch.equal(drawn.load(range(len(drawn)), ["mask"])["mask"], read.load(range(len(read)), ["mask"])["mask"])
    with pytest.raises(DataError, match=r"no mask in .*nowhere.*set masks to the folder"):
        build("coco_20i", coco, split="test", masks="nowhere")


def test_coco_of_which_something_is_missing(coco: Path) -> None:
    (coco / "val2017/000000000007.jpg").unlink()
    with pytest.raises(DataError, match=r"instances_val2017\.json has 1 pictures that are not in .*val2017 \(000000000007\.jpg\)"):
        build("coco_20i", coco, split="test")
    (coco / "annotations/instances_val2017.json").unlink()
    with pytest.raises(DataError, match=r"no file .*instances_val2017\.json: unpack COCO's annotations there, or set masks"):
        build("coco_20i", coco, split="test")
    (coco / "images").mkdir()
    shutil.move(coco / "train2017", coco / "images/train2017")
    assert len(build("coco_20i", coco)) == 60  # in this tree both objects of a picture are of one fold
    with pytest.raises(ConfigError, match="fold must be 0 to 3"):
        build("coco_20i", coco, fold=-1)


def test_coco_s_names_lead_nowhere_else(coco: Path) -> None:
    path = coco / "annotations/instances_val2017.json"
    given = json.loads(path.read_text())
    given["images"][0]["file_name"] = "../secret.jpg"
    path.write_text(json.dumps(given))
    with pytest.raises(DataError, match=r"'\.\./secret\.jpg', which is no plain file name"):
        build("coco_20i", coco, split="test")


def test_fss(tmp_path: Path) -> None:
    write_fss(tmp_path)
    parts = {split: build("fss_1000", tmp_path, split=split) for split in ("train", "val", "test")}
    assert [len(part.class_names) for part in parts.values()] == [4, 2, 2]
    assert parts["test"].class_names == ["thing06", "thing07"]
    source = parts["val"]
    assert len(source) == 6
    assert source.contains.tolist() == [[True, False]] * 3 + [[False, True]] * 3
    for row in range(6):
        expected = np.zeros((14, 14), np.int64)
        expected[2:9, 3 : 6 + row % 3 + 1] = expected[9, 3:9] = row // 3 + 1
        assert np.array_equal(source.native_mask(row), expected)
    few = build("fss_1000", tmp_path, classes=2)
    assert few.class_names == ["thing00", "thing02"]
    assert "2 of the 4 classes of train are taken, as classes=2 asks" in few.notes
    (tmp_path / "train.txt").write_text("thing03\nthing01\n")
    assert build("fss_1000", tmp_path, classes=2).class_names == ["thing01", "thing03"]  # the others


def test_fss_without_lists_is_divided_by_keys(tmp_path: Path) -> None:
    write_fss(tmp_path, classes=25, lists=False)
    parts = {split: build("fss_1000", tmp_path / "fewshot_data", split=split) for split in ("train", "val", "test")}
    assert [len(part.class_names) for part in parts.values()] == [13, 6, 6]
    assert len({name for part in parts.values() for name in part.class_names}) == 25
    assert "divided by a keyed permutation" in parts["val"].notes[0]
    assert [1000 * bound // fss_1000._ALL for bound in fss_1000._BOUNDS] == [0, 520, 760, 1000]


def test_fss_of_which_something_is_wrong(tmp_path: Path) -> None:
    write_fss(tmp_path)
    with pytest.raises(ConfigError, match=r"classes must be in 1\.\.250, as class maps of 8 bits .* got 251: name those .* in train\.txt"):
        build("fss_1000", tmp_path, classes=251)
    (tmp_path / "fewshot_data/thing06/2.png").rename(tmp_path / "kept.png")
    with pytest.raises(DataError, match=r"there is no mask .*thing06/2\.png: unpack the class again"):
        build("fss_1000", tmp_path, split="test")
    Image.fromarray(mask_of(9, 14, 255)).save(tmp_path / "fewshot_data/thing06/2.png")
    with pytest.raises(DataError, match=r"2\.jpg has 14 x 14 pixels and its mask .*2\.png 14 x 9"):
        build("fss_1000", tmp_path, split="test")
    (tmp_path / "val.txt").write_text("thing00\n")
    with pytest.raises(DataError, match=r"train\.txt and .*val\.txt both list thing00"):
        build("fss_1000", tmp_path)
    (tmp_path / "val.txt").write_text("thing99\n")
    with pytest.raises(DataError, match=r"lists thing99, which .* has no folder of"):
        build("fss_1000", tmp_path, split="val")
    (tmp_path / "val.txt").unlink()
    with pytest.raises(DataError, match=r"has a list of classes for train, test alone: add val\.txt"):
        build("fss_1000", tmp_path)
