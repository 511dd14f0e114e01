"""Texts and who wrote them: passages of books in one table a part, read by source `table`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from kinshot.datasets import SOURCES
from kinshot.datasets.labels import Marks
from kinshot.datasets.orders import ORDERS
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe

SHARED = Path(__file__).resolve().parents[2] / "shared"
READ = {"text": "text", "label": "author", "attributes": ["book"]}
WORDS = ["the", "sea", "was", "calm", "She", "said", "no", "more", "of", "it"]


@pytest.fixture
def novels(tmp_path):
    """Three authors to train, two to validate and two to test, two books each, six passages a book."""
    draws = np.random.default_rng(0)
    for part, authors in (("train", "ABC"), ("val", "DE"), ("test", "FG")):
        rows = [
            f'"{" ".join(draws.choice(WORDS, 9))}, {author}.",Author {author},{author} {book},{k / 6:.4f}'
            for author in authors
            for book in ("First", "Second")
            for k in range(6)
        ]
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,author,book,position", *rows]) + "\n")
    return tmp_path


def read(root, split, **more):
    return SOURCES.build("table", settings={"root": str(root), "split": split, **READ, "length": 64, **more})


def test_authors_are_classes_that_no_two_parts_share_and_books_an_attribute(novels):
    train, val, test = (read(novels, split) for split in ("train", "val", "test"))
    assert [len(source.class_names) for source in (train, val, test)] == [3, 2, 2]
    assert len({name for source in (train, val, test) for name in source.class_names}) == 7
    for source in (train, val, test):
        assert list(source.attributes) == ["book"]
        assert source.shape == (64,)
        author = np.array(source.class_names)[source.labels]
        book = np.array(source.attribute_names["book"])[source.attributes["book"]]
        assert all(name[-1] == title[0] for name, title in zip(author, book, strict=True))
        assert np.bincount(source.attributes["book"]).tolist() == [6] * (2 * len(source.class_names))


def test_batches_have_an_author_from_several_books(novels):
    train = read(novels, "train")
    order = ORDERS.build("balanced", Marks(train.labels, train.categories), 8, 4, 0, settings={"attribute": "book"})
    for row in order(0).numpy():
        assert (train.labels[row].reshape(2, 4) == train.labels[row[::4], None]).all()
        assert np.unique(train.attributes["book"][row], return_counts=True)[1].tolist() == [2] * 4


def test_a_run_learns_from_some_authors_and_is_validated_on_others(novels, tmp_path):
    recipe = {
        "data": {"name": "table", "root": str(novels), "split": "train", **READ, "length": 64},
        "views": {"name": "token_mask", "views": 1},
        "encoder": {"name": "text", "width": 8, "layers": 1, "heads": 2},
        "projector": {"layers": 1, "dim": 8},
        "method": {"name": "metric"},
        "terms": [{"objective": "contra_x", "kin": "labels", "on": "projector"}],
        "order": {"name": "units"},
        "train": {"epochs": 1, "batch_size": 12, "threads": 1},
        "validation": {"split": "val", "ways": 2, "queries": 3, "episodes": 4},
    }
    (tmp_path / "authors.yaml").write_text(yaml.safe_dump(recipe))
    read_back = load_recipe(str(tmp_path / "authors.yaml"))
    done = train_recipe(read_back, Options(tmp_path / "run", quiet=True), lambda line: None)
    assert done["steps"] == 3
    assert json.loads((tmp_path / "run" / "best.json").read_text())


def test_the_novels_that_are_shared_are_read_so(tmp_path):
    if not (SHARED / "data" / "novels.npz").is_file():
        pytest.skip(f"no novels.npz in {SHARED / 'data'}")
    line = [sys.executable, str(SHARED / "tools" / "unpack_data.py"), "--out", str(tmp_path), "novels"]
    subprocess.run(line, check=True, capture_output=True, timeout=100)
    parts = {split: read(tmp_path / "novels", split, length=None) for split in ("train", "val", "test")}
    assert {split: len(source) for split, source in parts.items()} == {"train": 5400, "val": 1800, "test": 2400}
    assert {split: len(source.class_names) for split, source in parts.items()} == {"train": 18, "val": 6, "test": 8}
    assert {split: len(source.attribute_names["book"]) for split, source in parts.items()} == {"train": 45, "val": 15, "test": 20}
    assert len({name for source in parts.values() for name in source.class_names}) == 32
    for source in parts.values():
        assert (np.bincount(source.attributes["book"]) == 120).all()
        assert not (source.tokens == 2).any(), "a character that the alphabet lacks"
