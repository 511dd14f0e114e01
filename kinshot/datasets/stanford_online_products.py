"""Stanford Online Products (SOP) in its official layout: photographs of 22,634 products of 12 categories, of an online shop."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.listed_photos import Photos, found_place, inside, listed_rows, numbered, part_of_classes, photo_source

_LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}


@SOURCES.register("stanford_online_products")
def stanford_online_products(
    *,
    root: str,
    split: Literal["train", "val", "test", "all"] = "train",
    size: int = 224,
    val_share: float = 0.0,
    in_memory_mib: int = 1024,
) -> Source:
    """Stanford Online Products: 120,053 photographs of 22,634 products, the published 11,318 to train and 11,316 to test.

    Reads Ebay_train.txt and Ebay_test.txt, and the folders of pictures that they name, in root or root/Stanford_Online_Products. Most
    products have fewer than six pictures. The attribute `category` says which of 12 categories a product is of, a coarse class by which
    order `hierarchical` can draw. The shorter side becomes `size` and the central square is kept.

    Paper: Oh Song, Xiang, Jegelka, Savarese 2016, arXiv 1511.06452

    Args:
        root: folder that holds Ebay_train.txt, or Stanford_Online_Products.
        split: train, val or test, which share no product, or all.
        size: side in pixels.
        val_share: share of the training products that are for validation instead, drawn once for all; give train and val the same.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    place = found_place(root, ("", "Stanford_Online_Products"), _LISTS["train"], "Stanford Online Products")
    parts = {part: list(listed_rows(place / file, 4, header=1)) for part, file in _LISTS.items()}
    rows = [*parts["train"], *parts["test"]]
    products, names = _products(parts)
    category, categories = numbered([Path(path).parts[0].removesuffix("_final") for *_, path in rows])
    paths = [inside(place, path, place / _LISTS["train"]) for *_, path in rows]
    photos = Photos(place, paths, products, names, {"category": category}, {"category": categories})
    first = len({product for _, product, *_ in parts["train"]})
    chosen = part_of_classes(len(names), split, val_share, "stanford_online_products", first=first)
    return photo_source(f"stanford_online_products/{split}", photos.of_classes(chosen), size, in_memory_mib)


def _products(parts: dict[str, list[list[str]]]) -> tuple[np.ndarray, list[str]]:
    """Each picture's product, int64 (N,), those of train first, each list's in the order of their ids; and these ids."""
    names: list[str] = []
    labels = []
    if strange := [product for rows in parts.values() for _, product, *_ in rows if not product.isdecimal()]:
        raise DataError(f"the lists of Stanford Online Products: product {strange[0]!r} is no number: copy them again")
    for part in ("train", "test"):
        found, ids = numbered([int(product) for _, product, *_ in parts[part]])
        labels.append(found + len(names))
        names += ids
    return np.concatenate(labels), names
