"""PASCAL-5i: the 20 classes of PASCAL VOC 2012 in four folds of five."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.small_files import read_text
from kinshot.datasets import SOURCES
from kinshot.datasets.frames import Frame
from kinshot.datasets.mask_files import MaskFiles
from kinshot.datasets.scene_choice import check_frame, chosen_scenes, contiguous
from kinshot.datasets.scene_files import FileScenes
from kinshot.datasets.survey import named

NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""In the order in which masks number them, from 1."""
FOLDS = 4
_LISTS = Path("ImageSets", "Segmentation")
_OWN, _AUGMENTED = "SegmentationClass", "SegmentationClassAug"


@SOURCES.register("pascal_5i", masks=True)
def pascal_5i(
    *,
    root: str,
    split: Literal["train", "test"] = "train",
    fold: int = 0,
    size: int = 224,
    fit: Literal["squash", "letterbox"] = "squash",
    novel: Literal["other", "ignore", "remove"] = "other",
    min_area: int = 1,
    masks: Literal["auto", "voc", "augmented"] = "auto",
    pictures: str = "",
    in_memory_mib: int = 1024,
) -> FileScenes:
    """PASCAL-5i in the layout of VOCdevkit/VOC2012: fold i holds out the classes 5 i + 1 to 5 i + 5 in VOC's order.

    train is the other 15 classes in the training pictures, test the fold's five in the validation pictures (val.txt). Papers differ in
    their training pictures, as in min_area and in novel, which moves results by points: say which. Where SegmentationClassAug is there
    (masks of SBD, which most papers add), they are those of trainaug.txt, or all that have such a mask and are not in val.txt; else
    train.txt. Pictures are read off JPEGImages and masks by their palette's index.

    There is no split to choose by: a checkpoint chosen on the fold's classes, as some papers do, is chosen on the answer.

    Licence: the photographs are under the terms of Flickr and their owners, and there is no licence to pass the set on. Get your own copy
    from the organisers; nothing of it is shipped here, and the lists of folds are made by the rule above.

    Paper: Shaban, Bansal, Liu, Essa, Boots 2017, One-Shot Learning for Semantic Segmentation, arXiv:1709.03410

    Args:
        root: folder VOC2012, or one that holds it, or VOCdevkit.
        split: train or test.
        fold: the held out classes, 0 to 3.
        size: side of the square that images are brought into.
        fit: squash fills it, letterbox keeps proportions and ignores the rest.
        novel: objects of classes outside of the split are marked as other classes, ignored, or pictures with any are removed.
        min_area: pixels of a class, at the picture's own size, from which on it counts as a picture of the class; 2048 in some papers.
        masks: for training, those of VOC alone, augmented by SBD, or auto, augmented where they are there.
        pictures: file with one picture's name to a line that is taken instead of the list of the split, to repeat a paper's choice.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    check_frame("pascal_5i", size, min_area, in_memory_mib)
    if not 0 <= fold < FOLDS:
        raise ConfigError(f"pascal_5i: fold must be 0 to {FOLDS - 1}, got {fold}")
    place = _place(Path(root).expanduser())
    augmented = split == "train" and (masks == "augmented" or (masks == "auto" and (place / _AUGMENTED).is_dir()))
    folder = place / (_AUGMENTED if augmented else _OWN)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: unpack the masks of SBD there, or set masks=voc")
    stems, where = _listed(place, folder, split, augmented, pictures)
    images, maps = [place / "JPEGImages" / f"{stem}.jpg" for stem in stems], [folder / f"{stem}.png" for stem in stems]
    _all_there(images, maps, where)
    held = contiguous(len(NAMES), FOLDS, fold)
    names = dict(enumerate(NAMES, start=1))
    own = {value: name for value, name in names.items() if (value in held) == (split == "test")}
    note = f"{len(stems)} pictures of {where}, masks of {folder.name}"
    return chosen_scenes(
        f"pascal_5i/{split}/{fold}", Frame(size, fit), images, MaskFiles(maps, place), place, own, names, novel=novel, min_area=min_area,
        in_memory_mib=in_memory_mib, notes=[note],
    )  # fmt: skip


def _place(root: Path) -> Path:
    for place in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (place / "JPEGImages").is_dir() and (place / _OWN).is_dir():
            return place
    raise DataError(f"no PASCAL VOC 2012 in {root}: looked for JPEGImages and {_OWN} there, in VOC2012 and in VOCdevkit/VOC2012; set root")


def _listed(place: Path, folder: Path, split: str, augmented: bool, given: str) -> tuple[list[str], str]:
    """Names of the pictures, and where the list of them is from."""
    lists = place / _LISTS
    if given:
        return _names(Path(given).expanduser()), given
    if not augmented:
        list_of = "val.txt" if split == "test" else "train.txt"
        return _names(lists / list_of), list_of
    if (lists / "trainaug.txt").is_file():
        return _names(lists / "trainaug.txt"), "trainaug.txt"
    held = set(_names(lists / "val.txt"))
    return [stem for stem in sorted(path.stem for path in folder.glob("*.png")) if stem not in held], f"{folder.name} but for val.txt"


def _names(path: Path) -> list[str]:
    """The picture of each line, by its name without folder and ending, each once. Raises DataError."""
    lines = read_text(path, remedy="unpack ImageSets/Segmentation, or set pictures to a list of names").split("\n")
    # lists of papers give a picture and its mask to a line, as paths
    found = [Path(line.split()[0]).stem for line in lines if line.strip()]
    if not found:
        raise DataError(f"{path} names no picture: give one name to a line")
    return list(dict.fromkeys(found))


def _all_there(images: list[Path], maps: list[Path], where: str) -> None:
    for paths in (images, maps):
        if missing := [path for path in paths if not path.is_file()]:
            gone = named(path.stem for path in missing)
            raise DataError(f"{where} names {len(missing)} pictures that are not in {missing[0].parent} ({gone}): unpack the set again")
