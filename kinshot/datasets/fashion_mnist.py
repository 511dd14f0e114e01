"""Fashion-MNIST in torchvision's layout, read from its IDX files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.datasets.download import Remote, fetch

CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_UNSIGNED_BYTE = 8
_MOST_BYTES = 1 << 28
_OFFICIAL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_PUBLISHED = {
    "train-images-idx3-ubyte.gz": (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    "train-labels-idx1-ubyte.gz": (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    "t10k-images-idx3-ubyte.gz": (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    "t10k-labels-idx1-ubyte.gz": (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}
"""Bytes and SHA-256 of the published files."""


@SOURCES.register("fashion_mnist")
def fashion_mnist(*, root: str, split: Literal["train", "test"] = "train", download: bool = False) -> ArraySource:
    """Fashion-MNIST: 28x28 grey pictures of ten kinds of clothing, 60,000 to train and 10,000 to test.

    Reads root/FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz.

    Paper: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747

    Args:
        root: folder that holds FashionMNIST.
        split: train or test.
        download: fetch missing files over HTTPS from the official repository; their SHA-256 sums are checked.
    """
    place = Path(root).expanduser() / "FashionMNIST" / "raw"
    prefix = "train" if split == "train" else "t10k"
    names = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    missing = [name for name in names if not _present(place / name)]
    if download and missing:
        _download(place.parent.parent, missing)
    images, labels = read_idx(place / names[0], 3), read_idx(place / names[1], 1)
    if len(images) != len(labels) or (len(labels) and labels.max() >= len(CLASS_NAMES)):
        raise DataError(f"{place / names[1]} does not fit {names[0]}: {len(labels)} labels for {len(images)} images; download both again")
    return ArraySource(images[:, None], labels.astype(np.int64), CLASS_NAMES, f"fashion_mnist/{split}")


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of an IDX file, `path` itself or `path` with .gz. Raises DataError when missing, truncated or foreign."""
    data = _read_bytes(path)
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise DataError(f"{path} is no IDX file of bytes in {dimensions} dimensions: download it again")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", count=dimensions, offset=4))
    expected = header + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise DataError(f"{path} has {len(data)} bytes, its header promises {expected}: download it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()


def _read_bytes(path: Path) -> bytes:
    packed = path.with_name(path.name + ".gz")
    try:
        if path.is_file():
            return path.read_bytes()
        if packed.is_file():
            with gzip.open(packed) as file:
                data = file.read(_MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                raise DataError(f"{packed} holds more than {_MOST_BYTES >> 20} MiB, which no file of Fashion-MNIST does: download it again")
            return data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path} or its .gz: {error}: download it again") from error
    raise DataError(f"no file {path} (nor {packed.name}): set root to the folder that holds FashionMNIST, or set download to true")


def _present(path: Path) -> bool:
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def _download(root: Path, names: Sequence[str]) -> None:
    """Fetch files of the official repository to root/FashionMNIST/raw; nothing else below root is looked at."""
    for name in names:
        packed = f"{name}.gz"
        fetch(Remote(f"{_OFFICIAL}/{packed}", *_PUBLISHED[packed]), root / "FashionMNIST" / "raw" / packed)
