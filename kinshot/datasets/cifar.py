"""CIFAR-10 and CIFAR-100 from the official archives, the binary or the Python version; no pickle is ever loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.datasets.download import Remote, fetch_archive
from kinshot.datasets.files import read_file
from kinshot.datasets.safe_pickle import read_pickled_data

_PIXELS = 3 * 32 * 32
_ARCHIVES = {
    "CIFAR10": Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        170_498_071,
        "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    ),
    "CIFAR100": Remote(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        169_001_437,
        "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
    ),
}
_TRAIN_10 = tuple(f"data_batch_{number}" for number in range(1, 6))


@SOURCES.register("cifar10")
def cifar10(*, root: str, split: Literal["train", "test"] = "train", download: bool = False) -> ArraySource:
    """CIFAR-10: 32x32 colour photographs of ten classes, 50,000 to train and 10,000 to test.

    Reads root/cifar-10-batches-bin (binary version) or root/cifar-10-batches-py (Python version, as torchvision unpacks it).

    Paper: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images

    Args:
        root: folder that holds cifar-10-batches-bin or cifar-10-batches-py.
        split: train or test.
        download: fetch the Python version over HTTPS when neither is there; its SHA-256 is checked.
    """
    place = _place(Path(root).expanduser(), ("cifar-10-batches-bin", "cifar-10-batches-py"), download, "CIFAR10")
    names = _TRAIN_10 if split == "train" else ("test_batch",)
    if place.name.endswith("-bin"):
        images, labels = _read_binary([place / f"{name}.bin" for name in names], label_bytes=1, label_column=0)
        class_names = _read_names(place / "batches.meta.txt")
    else:
        images, labels = _read_python([place / name for name in names], "labels")
        class_names = _names(place / "batches.meta", "label_names")
    return _source(images, labels, class_names, f"cifar10/{split}", place)


@SOURCES.register("cifar100")
def cifar100(
    *, root: str, split: Literal["train", "test"] = "train", labels: Literal["fine", "coarse"] = "fine", download: bool = False
) -> ArraySource:
    """CIFAR-100: 32x32 colour photographs of 100 classes in 20 groups, 50,000 to train and 10,000 to test.

    Reads root/cifar-100-binary (binary version) or root/cifar-100-python (Python version, as torchvision unpacks it).

    Paper: Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images

    Args:
        root: folder that holds cifar-100-binary or cifar-100-python.
        split: train or test.
        labels: fine (100 classes) or coarse (20 groups).
        download: fetch the Python version over HTTPS when neither is there; its SHA-256 is checked.
    """
    place = _place(Path(root).expanduser(), ("cifar-100-binary", "cifar-100-python"), download, "CIFAR100")
    if place.name.endswith("-binary"):
        images, numbers = _read_binary([place / f"{split}.bin"], label_bytes=2, label_column=1 if labels == "fine" else 0)
        class_names = _read_names(place / f"{labels}_label_names.txt")
    else:
        images, numbers = _read_python([place / split], f"{labels}_labels")
        class_names = _names(place / "meta", f"{labels}_label_names")
    return _source(images, numbers, class_names, f"cifar100/{split}", place)


def _source(images: np.ndarray, labels: np.ndarray, class_names: list[str], name: str, place: Path) -> ArraySource:
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise DataError(f"{place}: labels run from {labels.min()} to {labels.max()} for {len(class_names)} class names: download it again")
    return ArraySource(images.reshape(-1, 3, 32, 32), labels, class_names, name)


def _place(root: Path, folders: Sequence[str], download: bool, dataset: str) -> Path:
    if download and not any((root / name).is_dir() for name in folders):
        _download(root, dataset)
    for name in folders:
        if (root / name).is_dir():
            return root / name
    raise DataError(f"no folder {root / folders[0]} nor {root / folders[1]}: set root to the folder that holds it, or set download to true")


def _download(root: Path, dataset: str) -> None:
    fetch_archive(_ARCHIVES[dataset], root)


def _read_binary(paths: Sequence[Path], label_bytes: int, label_column: int) -> tuple[np.ndarray, np.ndarray]:
    record = label_bytes + _PIXELS
    rows = []
    for path in paths:
        data = np.frombuffer(read_file(path), np.uint8)
        if len(data) == 0 or len(data) % record:
            raise DataError(f"{path} has {len(data)} bytes, no multiple of {record}: download it again")
        rows.append(data.reshape(-1, record))
    table = np.concatenate(rows)
    return np.ascontiguousarray(table[:, label_bytes:]), table[:, label_column].astype(np.int64)


def _read_python(paths: Sequence[Path], label_key: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for path in paths:
        content = read_pickled_data(path)
        pixels = _entry(content, "data", path, np.ndarray)
        numbers = _entry(content, label_key, path, list)
        if pixels.ndim != 2 or pixels.shape != (len(numbers), _PIXELS) or not numbers:
            raise DataError(f"{path} has images of shape {pixels.shape} for {len(numbers)} labels, expected {_PIXELS} columns")
        if not all(isinstance(number, int) and 0 <= number < 256 for number in numbers):
            raise DataError(f"{path}: {label_key} must be whole numbers from 0 to 255: download it again")
        images.append(pixels)
        labels.append(np.asarray(numbers, dtype=np.int64))
    return np.ascontiguousarray(np.concatenate(images)), np.concatenate(labels)


def _names(path: Path, key: str) -> list[str]:
    names = _entry(read_pickled_data(path), key, path, list)
    if not all(isinstance(name, str | bytes) for name in names):
        raise DataError(f"{path}: {key} must be names: download it again")
    return [name.decode("latin-1") if isinstance(name, bytes) else name for name in names]


def _read_names(path: Path) -> list[str]:
    try:
        return read_file(path).decode("ascii").split()
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read the class names in {path}: {error}: download it again") from error


def _entry(content: dict[str, Any], key: str, path: Path, kind: type) -> Any:
    value = content.get(key)
    if not isinstance(value, kind):
        raise DataError(f"{path} has no {key!r} ({kind.__name__}), it holds {', '.join(sorted(content)) or 'nothing'}: download it again")
    return value
