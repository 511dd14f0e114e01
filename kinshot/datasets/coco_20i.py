"""COCO-20i: the 80 classes of COCO 2017 in four folds of twenty."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.coco_masks import DrawnMasks, read_instances
from kinshot.datasets.frames import Frame
from kinshot.datasets.mask_files import MaskFiles
from kinshot.datasets.scene_choice import check_frame, chosen_scenes, contiguous, interleaved
from kinshot.datasets.scene_files import FileScenes, Masks
from kinshot.datasets.survey import named

NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant", "stop sign",
    "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
    "surfboard", "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
    "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""In the order of COCO's ids (1 to 90, of which ten are not used): the numbers 1 to 80 of the folds."""
FOLDS = 4
_YEAR = "2017"


@SOURCES.register("coco_20i", masks=True)
def coco_20i(
    *,
    root: str,
    split: Literal["train", "test"] = "train",
    fold: int = 0,
    scheme: Literal["interleaved", "contiguous"] = "interleaved",
    size: int = 224,
    fit: Literal["squash", "letterbox"] = "squash",
    novel: Literal["other", "ignore", "remove"] = "other",
    min_area: int = 1,
    masks: str = "",
    in_memory_mib: int = 1024,
) -> FileScenes:
    """COCO-20i in COCO's layout: train2017 and val2017, with annotations/instances_train2017.json and instances_val2017.json.

    train is the 60 other classes in train2017, test the fold's 20 in val2017. Two schemes of folds are in use and do not compare:
    interleaved, classes i + 1, i + 5, ..., i + 77 in fold i (most papers), and contiguous, 20 i + 1 to 20 i + 20 (PANet's). Classes are
    numbered 1 to 80 by the order of COCO's ids. Masks are drawn from polygons and run lengths, larger objects first, crowds are ignored; or
    they are read off PNGs of those numbers in a folder.

    There is no split to choose by: a checkpoint chosen on the fold's classes, as some papers do, is chosen on the answer.

    Licence: the annotations are CC BY 4.0; each photograph has its own licence, which the JSON names, and many forbid commercial use or
    changes. Get your own copy; nothing of it is shipped here.

    Paper: Nguyen, Todorovic 2019, Feature Weighting and Boosting for Few-Shot Segmentation, arXiv:1909.13140

    Args:
        root: folder that holds train2017, val2017 and annotations, pictures perhaps in a folder images.
        split: train or test.
        fold: the held out classes, 0 to 3.
        scheme: interleaved or contiguous.
        size: side of the square that images are brought into.
        fit: squash fills it, letterbox keeps proportions and ignores the rest.
        novel: objects of classes outside of the split are marked as other classes, ignored, or pictures with any are removed.
        min_area: pixels of a class, at the picture's own size, from which on it counts as a picture of the class; 2048 in some papers.
        masks: folder below root with train2017 and val2017 of PNG masks, 0 to 80 and 255; empty draws them from the annotations.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    check_frame("coco_20i", size, min_area, in_memory_mib)
    if not 0 <= fold < FOLDS:
        raise ConfigError(f"coco_20i: fold must be 0 to {FOLDS - 1}, got {fold}")
    place = Path(root).expanduser()
    photographs = _photographs(place, f"{'val' if split == 'test' else split}{_YEAR}")
    pictures, maps = _from_folder(place / masks / photographs.name, photographs, place) if masks else _drawn(place, photographs)
    names = dict(enumerate(NAMES, start=1))
    held = (interleaved if scheme == "interleaved" else contiguous)(len(NAMES), FOLDS, fold)
    own = {value: name for value, name in names.items() if (value in held) == (split == "test")}
    return chosen_scenes(
        f"coco_20i/{scheme}/{split}/{fold}", Frame(size, fit), pictures, maps, place, own, names, novel=novel, min_area=min_area,
        in_memory_mib=in_memory_mib, notes=[f"{len(pictures)} pictures of {photographs.name}, folds {scheme}"],
    )  # fmt: skip


def _photographs(root: Path, part: str) -> Path:
    for place in (root / part, root / "images" / part):
        if place.is_dir():
            return place
    raise DataError(f"no COCO {_YEAR} in {root}: looked for {part} there and in images; set root")


def _drawn(root: Path, photographs: Path) -> tuple[list[Path], Masks]:
    """The pictures that have objects, and their class maps, off the annotations."""
    path = root / "annotations" / f"instances_{photographs.name}.json"
    if not path.is_file():
        raise DataError(f"there is no file {path}: unpack COCO's annotations there, or set masks to a folder of PNG masks")
    instances, files = read_instances(path, NAMES)
    if wrong := [name for name in files if Path(name).name != name]:
        raise DataError(f"{path} names the picture {wrong[0]!r}, which is no plain file name: copy the annotations again")
    pictures = [photographs / name for name in files]
    _all_there(pictures, path)
    return pictures, DrawnMasks(instances, np.arange(len(files)), files)


def _from_folder(folder: Path, photographs: Path, root: Path) -> tuple[list[Path], Masks]:
    """The pictures that have a mask in a folder, and these."""
    maps = sorted(folder.glob("*.png"))
    if not maps:
        raise DataError(f"no mask in {folder}: set masks to the folder below {root} that holds {folder.name} with a PNG for each picture")
    pictures = [photographs / f"{path.stem}.jpg" for path in maps]
    _all_there(pictures, folder)
    return pictures, MaskFiles(maps, root)


def _all_there(pictures: list[Path], where: Path) -> None:
    if missing := [path for path in pictures if not path.is_file()]:
        raise DataError(
            f"{where} has {len(missing)} pictures that are not in {missing[0].parent} ({named(path.name for path in missing)}): "
            "unpack all of them, or set root"
        )
