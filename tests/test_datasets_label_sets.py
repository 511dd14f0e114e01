"""Images with several labels each: the list, its parts, and the kin that looks at them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.graphs import GRAPHS
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import build
from kinshot.runs.rehearsal import first_step
from tests.retrieval_trees import write_label_sets
from tests.tiny import TINY

SHARED = Path(__file__).resolve().parents[2] / "shared"


def read(root, **more):
    return SOURCES.build("label_sets", settings={"root": str(root), "size": 8, **more})


@pytest.fixture
def tree(tmp_path):
    write_label_sets(tmp_path)
    return tmp_path


def test_each_image_has_the_labels_that_the_list_says(tree):
    given = json.loads((tree / "labels.json").read_text())
    whole, train, test = read(tree), read(tree, split="train"), read(tree, split="test")
    assert whole.labels is None
    assert whole.attribute_names["labels"] == ["cat", "dog", "17", "44"]
    found = [[(1, 3, 17, 44)[c] for c in np.flatnonzero(row)] for row in whole.attributes["labels"]]
    assert found == [sorted(of_image) for of_image in given["labels"]]
    assert whole.attributes["photo"].tolist() == [k // 2 for k in range(12)]
    for part, rows in ((train, given["train"]), (test, given["test"])):
        assert [path.stem for path in part.files] == [given["files"][row] for row in rows]
        assert np.array_equal(part.attributes["labels"], whole.attributes["labels"][rows])
        assert part.attribute_names["labels"] == whole.attribute_names["labels"]
        assert np.array_equal(part.load(np.arange(len(part))), whole.load(rows))
    assert not set(train.attributes["photo"]) & set(test.attributes["photo"])


def test_rows_are_those_of_a_table_of_photographs_where_the_list_names_no_files(tree):
    before = read(tree)
    write_label_sets(tree, files=None, photo_id=None)
    with pytest.raises(DataError, match=r"photos\.csv"):
        read(tree)
    (tree / "photos.csv").write_text("stem,photo_id\n" + "".join(f"p{k:02d},{k}\n" for k in range(12)))
    after = read(tree)
    assert after.files == before.files
    assert after.attributes["photo"].tolist() == list(range(12))


def test_kin_and_graph_share_labels(tree):
    source = read(tree, size=16)
    held = source.attributes["labels"]
    terms = "terms=[{objective: multi_similarity, kin: {name: shared_labels, attribute: labels}}]"
    job = build(load_recipe(str(TINY), [terms, "train.batch_size=6", "monitor.knn_every=0"]), source)
    (term,) = job.run.learner.terms
    assert np.array_equal(term.kin.marks.numpy() > 0, held)
    losses = first_step(job)
    assert all(np.isfinite(float(value.detach())) for value in losses.values())
    graph = GRAPHS.build("multilabels", source, settings={"by": "labels", "min_shared": 1})
    assert graph.n == 12


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"labels": None}, DataError, "has no labels of images"),
        ({"labels": [[1.5]] * 12}, DataError, "has no labels of images"),
        ({"labels": [[1]] * 11}, DataError, "11 lists of labels for 12 images"),
        ({"photo_id": [1, 2]}, DataError, "12 lists of labels for 12 images and what they are of"),
        ({"files": ["p00"] * 11 + ["q"]}, DataError, "has no image q"),
        ({"test": [0, 12]}, DataError, "test is no list of different rows from 0 to 11"),
        ({"test": [3, 3]}, DataError, "test is no list of different rows"),
        ({"test": None}, ConfigError, "has no part 'test': .*train"),
    ],
)
def test_a_list_of_another_form_is_named(tmp_path, wrong, error, message):
    write_label_sets(tmp_path, **wrong)
    with pytest.raises(error, match=message):
        read(tmp_path, split="test")


def test_the_label_sets_of_coco_s_crops_are_read_so(tmp_path):
    sets = SHARED / "data" / "splits" / "coco_multilabel.json"
    if not sets.is_file():
        pytest.skip(f"no {sets}")
    line = [sys.executable, str(SHARED / "tools" / "unpack_data.py"), "--out", str(tmp_path), "coco_cc_crops128"]
    subprocess.run(line, check=True, capture_output=True, timeout=100)
    root, given = tmp_path / "coco_crops", json.loads(sets.read_text())
    parts = {split: read(root, sets=str(sets), split=split, size=128) for split in ("train", "test")}
    assert {split: len(source) for split, source in parts.items()} == {"train": 214, "test": 152}
    ids = sorted({one for of_image in given["labels"] for one in of_image})
    with np.load(SHARED / "data" / "coco_cc_crops128.npz") as arrays:
        images, masks, names = arrays["images"], arrays["masks"], arrays["class_names"]
    for split, source in parts.items():
        rows = given[split]
        assert np.array_equal(source.load(np.arange(len(rows))).numpy(), images[rows].transpose(0, 3, 1, 2))
        assert source.attribute_names["labels"] == [str(names[one]) for one in ids]
        expected = np.stack([(masks[rows] == one).sum(axis=(1, 2)) >= 164 for one in ids], axis=1)
        assert np.array_equal(source.attributes["labels"], expected)
        assert len(np.unique(source.attributes["photo"])) == len(given[f"{split}_photos"])
    assert not set(parts["train"].attributes["photo"]) & set(parts["test"].attributes["photo"])
