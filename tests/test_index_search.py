"""What an index finds is what brute force in float64 finds, in any number of shards and by any engine; duplicates and outliers too."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import kinshot
from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.index import copies, nearest, shards
from kinshot.index.copies import clusters, pairs_above
from kinshot.index.nearest import Shelves
from kinshot.index.strangers import strangeness
from kinshot.kin.neighbors.ranking import Gallery, rank
from tests.index_tools import brute_force, build, folder_of, opened, picture, rows_of, save

ENGINES = ["products", *["faiss"] * (importlib.util.find_spec("faiss") is not None)]


def vectors(count: int, width: int, seed: int = 0) -> torch.Tensor:
    """Rows around a few means, some of them equal."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(5, width))[rng.integers(0, 5, count)] + rng.normal(size=(count, width))
    rows[count // 2] = rows[3]
    rows[count // 2 + 1] = 2.5 * rows[3]  # the same direction
    rows[count - 1] = rows[3]
    return torch.from_numpy(rows).float()


def by_hand(cosine: np.ndarray, k: int) -> np.ndarray:
    """The k best of each row, equal ones by number."""
    return np.argsort(-cosine, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cuts", [[60], [1, 30, 29], [7] * 8 + [4]])
def test_shelves_find_what_brute_force_finds(engine, cuts):
    rows, queries = vectors(60, 12), vectors(9, 12, 1)
    shelves = Shelves(list(rows.split(cuts)), engine)
    cosine = brute_force(queries.double().numpy(), rows.double().numpy())
    for k in (1, 5, 60, 99):
        found = shelves.nearest(queries, k)
        np.testing.assert_allclose(found.value.numpy(), np.take_along_axis(cosine, by_hand(cosine, k), 1), atol=2e-6)
        np.testing.assert_allclose(np.take_along_axis(cosine, found.index.numpy(), 1), found.value.numpy(), atol=2e-6)
    whole = rank(queries, rows, k=7)
    assert torch.equal(shelves.nearest(queries, 7).index, whole.index)
    assert torch.equal(shelves.nearest(queries, 7).value, whole.value)
    among = rank(rows, k=6)
    assert torch.equal(shelves.others(torch.arange(60), 6).value, among.value)
    assert torch.equal(shelves.others(torch.arange(60), 6).index, among.index)


def test_equal_rows_are_ranked_by_their_number_by_every_engine():
    rows = vectors(40, 6)
    rows[10:30] = rows[5]
    for engine in ENGINES:
        found = Shelves(list(rows.split(9)), engine).others(torch.tensor([5, 12, 29]), 8)
        assert found.index.tolist() == [[*range(10, 18)], [5, 10, 11, 13, 14, 15, 16, 17], [5, *range(10, 17)]]
        assert found.value.tolist() == [[1.0] * 8] * 3


def test_faiss_is_used_where_it_is_faster_alone():
    wide, narrow = (Shelves([torch.zeros(2, width) + 1]) for width in (nearest.WIDE, 8))
    many = "faiss" if "faiss" in ENGINES else "products"
    assert [wide.engine_for(1), wide.engine_for(nearest.MANY), narrow.engine_for(nearest.MANY)] == ["products", many, "products"]


def test_a_gallery_says_what_is_wrong():
    gallery = Gallery(vectors(10, 4))
    for queries, k, match in ((torch.zeros(2, 3), 1, "wide"), (torch.zeros(2), 1, "float matrix"), (torch.ones(1, 4), 11, "k must be")):
        with pytest.raises((ConfigError, DataError), match=match):
            gallery.nearest(queries, k)
    with pytest.raises(DataError, match="not finite"):
        gallery.nearest(torch.full((1, 4), torch.nan), 1)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.999])
def test_pairs_are_those_of_two_loops(threshold, monkeypatch):
    monkeypatch.setattr(copies, "_FIRST", 2)  # many rows are asked again
    rows = vectors(50, 4)
    cosine = brute_force(rows.double().numpy(), rows.double().numpy())
    found = pairs_above(Shelves(list(rows.split(13))), threshold)
    expected = [(i, j) for i in range(50) for j in range(i + 1, 50) if cosine[i, j] >= threshold]
    assert [tuple(pair) for pair in found.rows.tolist()] == expected
    np.testing.assert_allclose(found.cosine, [cosine[pair] for pair in expected], atol=2e-6)
    np.fill_diagonal(cosine, -2)
    np.testing.assert_allclose(found.nearest, cosine.max(1), atol=2e-6)


def test_clusters_are_what_pairs_link():
    assert clusters(np.array([[1, 4], [4, 9], [2, 3]])) == [[1, 4, 9], [2, 3]]
    assert clusters(np.empty((0, 2), dtype=np.int64)) == []


def test_a_threshold_that_all_reach_is_refused(monkeypatch):
    monkeypatch.setattr(copies, "_MOST", 8)
    with pytest.raises(ConfigError, match="raise --threshold"):
        pairs_above(Shelves([vectors(50, 4).abs()]), 0.01)


def test_strangeness_is_the_distance_to_the_kth_nearest():
    rows = vectors(30, 5)
    cosine = brute_force(rows.double().numpy(), rows.double().numpy())
    np.fill_diagonal(cosine, -2)
    for k, used in ((1, 1), (4, 4), (99, 29)):
        found, said = strangeness(Shelves(list(rows.split(11))), k)
        assert said == used
        np.testing.assert_allclose(found, 1 - np.sort(cosine, axis=1)[:, -used], atol=2e-6)
    for shelves, k in ((Shelves([rows]), 0), (Shelves([rows[:1]]), 3)):
        with pytest.raises(ConfigError):
            strangeness(shelves, k)


# -- on pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """in/: 24 pictures, one of them three times in other files (two of the same content), and one a little brighter; and their index."""
    folder = tmp_path_factory.mktemp("search")
    folder_of(folder / "in", 24)
    save(folder / "in" / "again.png", picture(4))
    save(folder / "in" / "packed.png", picture(4), compress_level=0)  # the same pixels in other bytes
    save(folder / "in" / "brighter.png", (picture(7).astype(int) + 6).clip(0, 255).astype(np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROWS", 8)
        build(folder / "in", folder / "i")
    return folder


def test_search_finds_what_brute_force_finds(place):
    index = opened(place / "i")
    assert (len(index), len(index.paths), len(index.state.shards)) == (26, 27, 4)
    files = [save(place / f"q{number}.png", picture(50 + number)) for number in range(3)]
    features, _ = index.features_of(files)
    cosine = brute_force(features.double().numpy(), rows_of(index))
    names = {file.row: file.path for file in reversed(list(index.state.table))}
    for hits, of in zip(index.search(files, 5), cosine, strict=True):
        assert [hit.path for hit in hits] == [names[row] for row in np.argsort(-of, kind="stable")[:5]]
        np.testing.assert_allclose([hit.cosine for hit in hits], np.sort(of)[::-1][:5], atol=2e-6)
    assert len(index.search(files[:1], 100)[0]) == 26


def test_a_picture_of_the_index_finds_itself_and_its_copies_without_an_encoder(place):
    index = kinshot.open_index(place / "i")
    first, second, *_ = index.search([place / "in" / "a" / "004.png"], 3)[0]
    assert (first.path, first.copies, first.cosine) == ("a/004.png", ("again.png",), 1.0)
    assert (second.path, second.cosine) == ("packed.png", 1.0)
    with pytest.raises(CheckpointError):
        index.search([save(place / "new.png", picture(77))])  # nobody knows the encoder `small`
    with pytest.raises(DataError, match="nothing"):
        index.search([place / "nothing.png"])
    with pytest.raises(ConfigError, match="at least 1"):
        index.search([], 0)


def test_tensors_are_searched_as_files_are(place):
    index = opened(place / "i")
    pixels = torch.from_numpy(picture(60, (16, 16)).transpose(2, 0, 1).copy())[None]
    (one,), (other,) = index.search(pixels, 4), index.search([save(place / "square.png", picture(60, (16, 16)))], 4)
    assert [hit.path for hit in one] == [hit.path for hit in other]
    np.testing.assert_allclose([hit.cosine for hit in one], [hit.cosine for hit in other], atol=1e-5)


def test_copies_by_content_and_near_ones(place):
    index = opened(place / "i")
    cosine = brute_force(rows_of(index), rows_of(index))
    rows = {file.path: file.row for file in index.state.table}
    near = cosine[rows["a/007.png"], rows["brighter.png"]]
    np.fill_diagonal(cosine, -2)
    threshold = float(near) - 1e-4
    found = index.duplicates(threshold)
    assert found.copies == 1
    assert found.pairs == int((cosine >= threshold).sum()) // 2
    groups = {one.paths: one for one in found.clusters}
    (of_four,) = (one for paths, one in groups.items() if "again.png" in paths)
    assert {"a/004.png", "again.png", "packed.png"} <= set(of_four.paths)
    assert any({"a/007.png", "brighter.png"} <= set(paths) for paths in groups)
    alone = index.duplicates(1.5)
    assert [(one.paths, one.exact, one.lowest) for one in alone.clusters] == [(("a/004.png", "again.png"), True, 1.0)]
    assert alone.pairs == 0
    for wrong in (0.0, -1.0, 3.0, float("nan")):
        with pytest.raises(ConfigError):
            index.duplicates(wrong)


def test_outliers_are_ranked(place):
    index = opened(place / "i")
    found = index.outliers(3)
    cosine = brute_force(rows_of(index), rows_of(index))
    np.fill_diagonal(cosine, -2)
    scores = 1 - np.sort(cosine, axis=1)[:, -3]
    np.testing.assert_allclose([one.score for one in found], np.sort(scores)[::-1], atol=2e-6)
    assert len(found) == 26
    assert {path for one in found for path in (one.path, *one.copies)} == set(index.paths)


def test_an_index_that_is_open_stays_whole_while_it_is_replaced(place, tmp_path):
    folder = folder_of(tmp_path / "in", 6)
    build(folder, tmp_path / "i")
    index = opened(tmp_path / "i")
    for path in sorted(folder.rglob("*.png"))[:3]:
        path.unlink()
    build(folder, tmp_path / "i")
    assert len(index.outliers(1)) == 6
    assert len(opened(tmp_path / "i").outliers(1)) == 3
    assert index.thumbnail(5)
