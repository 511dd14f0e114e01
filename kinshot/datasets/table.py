"""Your own feature matrix or texts, from one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.schema import shown
from kinshot.core.small_files import is_numeral
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.table_files import ENDINGS, Column, read_columns
from kinshot.datasets.text import TextSource
from kinshot.samples.characters import ALPHABET

_PANDAS_INDEX = re.compile(r"Unnamed: [0-9]+(\.[0-9]+)?")
_WHOLE = re.compile(r"-?[0-9]{1,18}")


@SOURCES.register("table", kind="features")
def table(
    *,
    root: str,
    split: str = "",
    label: str = "",
    attributes: tuple[str, ...] = (),
    ignore: tuple[str, ...] = (),
    text: str = "",
    alphabet: str = "",
    length: int | None = None,
) -> Source:
    """Your own table: a .csv or .tsv file with column names, or numpy's .npy or .npz, one row for each sample; or a folder of such files.

    Every column that is not a label, an attribute or ignored is a feature and must hold finite numbers in every row. With `text`,
    that column alone is the sample. Labels are read as names, sorted, numbers by value. The columns of an .npy matrix are called
    0, 1, ...; those of an .npz file as its arrays, of which matrices give several features each.

    Args:
        root: the file, or with a split the folder that holds a file for each part, such as train.csv, val.csv and test.csv.
        split: which of them, by name without ending; empty where root is a file.
        label: column of the classes; empty for none.
        attributes: columns of further labels, where an empty cell is unknown.
        ignore: columns to leave out.
        text: column of texts, for samples that are texts.
        alphabet: characters that texts are read in; empty for small letters, digits, space and punctuation.
        length: characters of each text, longer ones are cut; empty for the longest text.

    Raises:
        ConfigError: a column that the file does not have, or one named for two purposes.
        DataError: a file that cannot be read, or a cell that is empty or no number.
    """
    path = _file(Path(root).expanduser(), split)
    columns = read_columns(path)
    _check_names(path, columns, label, attributes, ignore, text)
    labels, class_names = _labels(path, label, columns[label], unknown=False) if label else (None, [])
    further = {name: _labels(path, name, columns[name], unknown=True) for name in attributes}
    name = f"table/{path.parent.name}/{split}" if split else f"table/{path.stem}"
    values, names = ({key: found[part] for key, found in further.items()} for part in (0, 1))
    if text:
        texts, letters = _texts(path, text, columns[text]), alphabet or ALPHABET
        return TextSource(texts, labels, class_names, alphabet=letters, length=length, name=name, attributes=values, attribute_names=names)
    if alphabet or length is not None:
        raise ConfigError("table: alphabet and length are for texts: set text to the column that holds them, or leave both out")
    features = _features(path, {key: column for key, column in columns.items() if key not in {label, *attributes, *ignore}})
    return FeatureSource(features, labels, class_names, name, attributes=values, attribute_names=names)


def _file(root: Path, split: str) -> Path:
    """The file of a split. Raises ConfigError where there is none, or several."""
    if not root.is_dir():
        if split:
            raise ConfigError(f"table: split is {split!r}, and root {root} is no folder with a file for each part: leave split empty")
        return root
    parts: dict[str, list[Path]] = {}
    for path in sorted(path for path in root.iterdir() if path.suffix.lower() in ENDINGS and not path.name.startswith(".")):
        parts.setdefault(path.stem, []).append(path)
    if not split or split not in parts:
        have = suggest(split, parts) if parts else f"it has no file that ends in {', '.join(ENDINGS)}"
        raise ConfigError(f"table: root {root} is a folder, of which split {split!r} names no file: {have}; set split, or root to a file")
    if len(parts[split]) > 1:
        raise ConfigError(f"table: {' and '.join(map(str, parts[split]))} are both called {split!r}: set root to the one that is meant")
    return parts[split][0]


def _check_names(path: Path, columns: dict[str, Column], label: str, attributes: Sequence[str], ignore: Sequence[str], text: str) -> None:
    used = [*filter(None, [label, text]), *attributes, *ignore]
    for number, name in enumerate(used):
        if name not in columns:
            raise ConfigError(f"table: {path} has no column {name!r}: {suggest(name, columns)}")
        if name in used[:number]:
            raise ConfigError(f"table: column {name!r} is named twice: a column is one of label, text, attributes and ignore")


def _labels(path: Path, name: str, column: Column, unknown: bool) -> tuple[np.ndarray, list[str]]:
    """Each row's number among the sorted values, int64 (N,), and the values as text; with `unknown`, an empty cell is -1."""
    if isinstance(column, np.ndarray) and (column.ndim != 1 or column.dtype.kind == "f"):
        raise DataError(f"{path}: labels {name!r} are {column.dtype} {column.shape}: expected one whole number or text for each sample")
    cells = [cell.strip() for cell in column] if isinstance(column, list) else [str(cell) for cell in column.tolist()]
    empty = [row for row, cell in enumerate(cells) if not cell]
    if empty and not unknown:
        raise DataError(f"{path}: row {empty[0]}, column {name!r} is empty: every sample needs a label; or name it among the attributes")
    different = sorted(set(cells) - {""})
    if all(_WHOLE.fullmatch(value) for value in different):
        different.sort(key=int)
    number = {value: row for row, value in enumerate(different)}
    return np.array([number.get(cell, -1) for cell in cells], dtype=np.int64), different


def _texts(path: Path, name: str, column: Column) -> list[str]:
    if isinstance(column, np.ndarray) and (column.ndim != 1 or column.dtype.kind != "U"):
        raise DataError(f"{path}: {name!r} is {column.dtype} {column.shape}: expected one text for each sample")
    texts = [str(cell) for cell in column]
    for row, cell in enumerate(texts):
        if not cell.strip():
            raise DataError(f"{path}: row {row}, column {name!r} is empty: every sample needs a text; leave the row out")
    return texts


def _features(path: Path, columns: dict[str, Column]) -> np.ndarray:
    """The columns side by side, float32 (N, F)."""
    if not columns:
        raise DataError(f"{path} has no column left for features: name fewer columns in label, attributes and ignore")
    index = [name for name in columns if _PANDAS_INDEX.fullmatch(name)]
    if index:
        raise DataError(f"{path}: column {index[0]!r} is an index that pandas wrote, no feature: name it in ignore, or give it a name")
    blocks = []
    for name, column in columns.items():
        block = np.asarray(column)
        if block.dtype.kind == "U":
            block = _numbers(path, name, block)
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported below
            block = block.reshape(len(block), -1).astype(np.float32)
        bad = np.argwhere(~np.isfinite(block))
        if len(bad):
            row, place = (int(number) for number in bad[0])
            where = f"column {name!r}" + (f", place {place}" if block.shape[1] > 1 else "")
            value = np.asarray(column).reshape(len(column), -1)[row, place].item()
            raise DataError(f"{path}: row {row}, {where} holds {shown(value)}, no finite number: fill it in, or name it in ignore")
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


def _numbers(path: Path, name: str, cells: np.ndarray) -> np.ndarray:
    for index, cell in np.ndenumerate(cells):
        if not is_numeral(str(cell)):
            what = f"holds {shown(str(cell))}, no number" if str(cell).strip() else "is empty"
            hint = " (decimals have a point)" if "," in str(cell) else ""
            raise DataError(f"{path}: row {index[0]}, column {name!r} {what}{hint}: correct it, or name the column in ignore")
    return cells.astype(np.float64)
