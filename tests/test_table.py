"""The source `table`: users' own feature matrices and texts, and errors that name the row and the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.features import FeatureSource
from kinshot.datasets.text import TextSource

GOOD = "name,height,width,kind,site\nann,1,2.5,b,x\nbob,-3e2, 4 ,a,\ncid,0,1,b,y\n"


def table(path: Path, content: str | bytes | None = None, **settings):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return SOURCES.build("table", settings={"root": str(path), **settings})


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_columns_become_features_labels_and_attributes(tmp_path, ending):
    content = GOOD.replace(",", "\t") if ending == ".tsv" else GOOD
    source = table(tmp_path / f"people{ending}", content, label="kind", ignore=["name"], attributes=["site"])
    assert isinstance(source, FeatureSource)
    assert source.name == "table/people"
    assert source.features.tolist() == [[1, 2.5], [-300, 4], [0, 1]]
    assert source.class_names == ["a", "b"]
    assert source.labels.tolist() == [1, 0, 1]
    assert source.attributes["site"].tolist() == [0, -1, 1]
    assert source.attribute_names["site"] == ["x", "y"]


def test_text_column_alone_is_the_sample(tmp_path):
    source = table(tmp_path / "t.csv", '\ufeffid,words,kind\n7,"one, two",b\n8,"a ""b""",a\n', text="words", label="kind", length=5)
    assert isinstance(source, TextSource)
    assert source.shape == (5,)
    expected = TextSource(["one, two", 'a "b"'], length=5)
    assert source.tokens.tolist() == expected.tokens.tolist()
    assert source.class_names == ["a", "b"]
    assert table(tmp_path / "t.csv", text="words", alphabet="ab").spec.letters == "ab"


def test_labels_that_are_numbers_are_sorted_by_value(tmp_path):
    source = table(tmp_path / "t.csv", "x,y\n1,10\n2,9\n3,10\n", label="y")
    assert source.class_names == ["9", "10"]
    assert source.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("labels", [["--5", "3"], ["-", "3"], ["9" * 5000, "3"], ["1_0", "3"], ["\u0665", "3"]])
def test_labels_that_only_look_like_numbers_are_names(tmp_path, labels):
    source = table(tmp_path / "t.csv", "x,y\n1," + labels[0] + "\n2," + labels[1] + "\n", label="y")
    assert source.class_names == sorted(labels)


def test_an_index_that_pandas_wrote_can_be_left_out(tmp_path):
    content = "Unnamed: 0,b\n0,2\n1,3\n"
    assert table(tmp_path / "t.csv", content, ignore=["Unnamed: 0"]).features.tolist() == [[2], [3]]


def test_numpy_files(tmp_path):
    matrix = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "m.npy", matrix)
    assert table(tmp_path / "m.npy").features.tolist() == matrix.tolist()
    assert table(tmp_path / "m.npy", label="", ignore=["0"]).features.tolist() == [[1], [3], [5]]
    np.savez(tmp_path / "m.npz", x=matrix, more=np.array([7, 8, 9]), y=np.array([5, 3, 5]), words=np.array(["ab", "c", "d"]))
    source = table(tmp_path / "m.npz", label="y", ignore=["words"])
    assert source.features.tolist() == [[0, 1, 7], [2, 3, 8], [4, 5, 9]]
    assert (source.labels.tolist(), source.class_names) == ([1, 0, 1], ["3", "5"])
    assert table(tmp_path / "m.npz", text="words").tokens.tolist() == TextSource(["ab", "c", "d"]).tokens.tolist()


def test_a_table_written_from_a_matrix_has_numbered_columns(tmp_path):
    assert table(tmp_path / "t.csv", "0,1\n5,6\n7,8\n", label="1").features.tolist() == [[5], [7]]


@pytest.mark.parametrize(
    ("content", "settings", "error", "message"),
    [
        ("a,b\n1,2\n3,\n", {}, DataError, "row 1, column 'b' is empty"),
        ("a,b\n1,2\n3,x\n", {}, DataError, "row 1, column 'b' holds 'x', no number"),
        ("a,b\nnan,2\n", {}, DataError, "row 0, column 'a' holds 'nan', no finite"),
        ("a,b\n1,1e999\n", {}, DataError, "row 0, column 'b' holds '1e999'"),
        ("a,b\n1,1e50\n", {}, DataError, "row 0, column 'b' holds '1e50'"),
        ("a,b\n1,1_000\n", {}, DataError, "row 0, column 'b' holds '1_000', no number"),
        ("a,b\n1,\u0661\u0662\n", {}, DataError, "row 0, column 'b' holds '\u0661\u0662', no number"),
        ('a,b\n1,"2,5"\n', {}, DataError, "no number .decimals have a point"),
        ("a;b\n1;2\n", {}, DataError, "separated by semicolons"),
        ("a;b\n1;2\n", {"label": "b"}, DataError, "separated by semicolons"),
        ("a\tb\n1\t2\n", {}, DataError, "separated by tabs"),
        ("Unnamed: 0,b\n0,2\n1,3\n", {"label": "b"}, DataError, "'Unnamed: 0' is an index that pandas wrote"),
        ("a,b\n1,2\n\n3\n", {}, DataError, "line 4: 1 fields where the first line names 2"),
        ("a,b\n1,2,3\n", {}, DataError, "line 2: 3 fields"),
        ("a,a\n1,2\n", {}, DataError, "two columns are called 'a'"),
        ("a,\n1,2\n", {}, DataError, "column 2 has no name"),
        ("1.5,2\n1,2\n", {}, DataError, "only numbers"),
        ("", {}, DataError, "is empty"),
        ("a,b\n", {}, DataError, "is empty"),
        (b"a,b\n\xff,2\n", {}, DataError, "not UTF-8"),
        ('a,b\n"1,2\n', {}, DataError, "line 2: unexpected end of data"),
        ("a,b\n1,2\n", {"label": "c"}, ConfigError, "no column 'c'"),
        ("a,b\n1,2\n", {"label": "a", "ignore": ["a"]}, ConfigError, "'a' is named twice"),
        ("a,b\n1,2\n", {"label": "a", "ignore": ["b"]}, DataError, "no column left"),
        ("a,b\n1,2\n3,\n", {"label": "b"}, DataError, "row 1, column 'b' is empty: every sample needs a label"),
        ("a,b\n1,2\n3, \n", {"text": "b"}, DataError, "row 1, column 'b' is empty: every sample needs a text"),
        ("a,b\n1,2\n", {"length": 3}, ConfigError, "for texts"),
        ("a,b\n1,2\n", {"text": "b", "alphabet": "aa"}, ConfigError, "'a' twice"),
    ],
)
def test_errors_name_the_place(tmp_path, content, settings, error, message):
    with pytest.raises(error, match=message):
        table(tmp_path / "t.csv", content, **settings)


@pytest.mark.parametrize(
    ("name", "arrays", "settings", "message"),
    [
        ("m.npy", np.array([[1.0], [np.inf]]), {}, "row 1, column '0' holds inf"),
        ("m.npy", np.zeros(3), {}, r"one row for each sample, got shape \(3,\)"),
        ("m.npy", np.zeros((2, 0)), {}, "is empty"),
        ("m.npy", np.zeros((0, 2)), {}, "is empty"),
        ("m.npy", np.array([[None]]), {}, "never unpickled"),
        ("m.npy", np.zeros((2, 2), complex), {}, "expected numbers or texts"),
        ("m.npz", {"x": np.zeros((3, 2)), "y": np.zeros(2, int)}, {}, "'y' has 2 rows, 'x' has 3"),
        ("m.npz", {"x": np.zeros((3, 2)), "y": np.zeros(3)}, {"label": "y"}, "labels 'y' are float64"),
        ("m.npz", {"x": np.zeros((3, 2)), "y": np.zeros(3)}, {"text": "y"}, "expected one text"),
        ("m.npz", {"x": np.array([["1", "2"], ["3", "z"]])}, {}, "row 1, column 'x' holds 'z'"),
        ("m.npz", {"x": np.array([[1.0, 2.0], [3.0, np.nan]])}, {}, "row 1, column 'x', place 1 holds nan"),
        ("m.npz", {"x": np.array([{}, {}])}, {}, "never unpickled"),
        ("m.npz", {"x": np.zeros((2, 2, 2))}, {}, "got shape"),
    ],
)
def test_errors_of_numpy_files(tmp_path, name, arrays, settings, message):
    if isinstance(arrays, dict):
        np.savez(tmp_path / name, **arrays)
    else:
        np.save(tmp_path / name, arrays)
    with pytest.raises(DataError, match=message):
        table(tmp_path / name, **settings)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.npy", b"", "cannot read"),
        ("m.npy", b"\x93NUMPY\x01\x00", "cannot read"),
        ("m.npz", b"PK\x03\x04 cut off", "cannot read"),
        ("m.txt", b"1 2", "ends in .csv, .tsv, .npy, .npz, got '.txt'"),
        ("m.csv", None, "no file"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path / name, content)


def test_a_folder_has_a_file_for_each_part(tmp_path):
    place = tmp_path / "sites"
    place.mkdir()
    (place / "train.csv").write_text("x,kind\n1,a\n2,b\n")
    (place / "val.tsv").write_text("x\tkind\n3\tc\n")
    (place / ".val.csv").write_text("hidden")
    train, val = (table(place, split=split, label="kind") for split in ("train", "val"))
    assert (train.name, train.class_names, train.features.tolist()) == ("table/sites/train", ["a", "b"], [[1], [2]])
    assert (val.class_names, val.features.tolist()) == (["c"], [[3]])
    for split in ("", "vol"):
        with pytest.raises(ConfigError, match=r"is a folder, of which split '.*' names no file: .*val"):
            table(place, split=split)
    with pytest.raises(ConfigError, match=r"train\.csv is no folder with a file for each part: leave split empty"):
        table(place / "train.csv", split="train")
    (place / "train.npz").touch()
    with pytest.raises(ConfigError, match=r"train\.csv and .*train\.npz are both called 'train'"):
        table(place, split="train")
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match=r"it has no file that ends in \.csv, \.tsv, \.npy, \.npz"):
        table(tmp_path / "none")
