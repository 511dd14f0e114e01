"""What runs of the audit are worth: ancestors against loops, and classifiers and ancestors of a run that was trained a moment ago."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.claims.ancestors import ancestors, common_ancestor, some_pairs
from benchmarks.claims.by_class import by_class
from benchmarks.claims.passages import main
from kinshot.core.errors import DataError
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe

HIER = "{objective: hier, kin: labels, on: projector, proxies: 8, neighbors: 4, draws: 2}"


def a_table(path: Path, classes: int = 4, shift: float = 0.0) -> Path:
    """Rows of classes that are easy to tell apart, two of which make one coarse class."""
    draws = np.random.default_rng(0)
    fine = np.repeat(np.arange(classes), 12)
    features = 4 * np.eye(8)[fine] + draws.normal(size=(len(fine), 8)) * 0.1 + shift
    np.savez(path, features=features.astype(np.float32), label=np.array(list("abcdef"))[fine], coarse=np.array(list("xxyyzz"))[fine])
    return path


def trained(folder: Path, *more: str, epochs: int = 1) -> Path:
    settings = [
        f"data={{name: table, root: {a_table(folder / 'train.npz')}, label: label, attributes: [coarse]}}",
        "encoder.widths=[8]",
        "projector.dim=4",
        f"train.epochs={epochs}",
        "train.batch_size=16",
        *more,
    ]
    train_recipe(load_recipe("feature_embedding", settings), Options(folder / "run", quiet=True), lambda text: None)
    return folder / "run"


def test_a_common_ancestor_is_the_proxy_whose_larger_distance_is_smallest() -> None:
    distances = np.random.default_rng(0).random((9, 5))
    one, other = some_pairs(np.array([0, 0, 0, 1, 1, 2, 2, 2, 2]), seed=3)
    assert len(one) == 3 * 2 + 3 * 4 + 2 * 4
    expected = [min(max(distances[i, p], distances[j, p]) for p in range(5)) for i, j in zip(one, other, strict=True)]
    assert common_ancestor(distances, one, other).tolist() == expected


def test_ancestors_are_compared_with_clusters_and_with_the_cosine(tmp_path: Path) -> None:
    run = trained(tmp_path, f"terms=[{{objective: proxy_anchor, kin: labels, on: projector}}, {HIER}]")
    found = ancestors(run, {"coarse": "coarse"}, 0)
    assert 0 <= found["nmi_ancestors"] <= 100
    assert 0 <= found["auc_ancestors"] <= 100
    assert 1 <= found["proxies_in_use"] <= 8
    assert found == ancestors(run, {"coarse": "coarse"}, 0)


def test_a_classifier_is_right_about_the_classes_that_it_learned_and_no_other_names(tmp_path: Path) -> None:
    run = trained(tmp_path, "terms=[{objective: linear_softmax, kin: labels, on: projector}]", "train.lr=0.03", epochs=40)
    found = by_class(run, {"root": str(a_table(tmp_path / "new.npz", shift=0.01))}, 0)
    each = [found[f"of {name}"] for name in "abcd"]
    assert found["accuracy"] == np.mean(each) > 90
    assert found["worst_class"] == min(each)
    assert found["spread_of_classes"] == pytest.approx(np.std(each))
    with pytest.raises(DataError, match="classes that the run has learned"):
        by_class(run, {"root": str(a_table(tmp_path / "others.npz", classes=6))}, 0)


def test_the_last_book_of_an_author_and_other_authors_are_told_by_rules_that_have_not_seen_them(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.claims.passages.NUMBERS", 3)
    for part, authors in (("train", "AB"), ("val", "C"), ("test", "D")):
        rows = [
            f'"It was {book} of {author}, or so {k} said.",{author},{author}{book}'
            for author in authors
            for book in (1, 2)
            for k in "pqrstu"
        ]
        (tmp_path / f"{part}.csv").write_text("\n".join(["text,author,book", *rows]) + "\n")
    main(tmp_path, tmp_path / "out")
    books = {name: sorted(set(np.load(tmp_path / "out" / f"{name}.npz")["book"].tolist())) for name in ("train", "books", "val", "test")}
    assert books == {"train": ["A1", "B1"], "books": ["A2", "B2"], "val": ["C1", "C2"], "test": ["D1", "D2"]}
    known = np.load(tmp_path / "out" / "train.npz")["features"]
    assert known.dtype == np.float32
    assert known.mean(axis=0) == pytest.approx(0, abs=1e-5)
    (tmp_path / "test.csv").write_text("text,author,book\nQuite other words,D,D1\n")
    main(tmp_path, tmp_path / "again")
    assert np.array_equal(np.load(tmp_path / "again" / "train.npz")["features"], known), "test passages took part in the rules"
