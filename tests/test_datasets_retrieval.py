"""The benchmarks of metric learning, from tiny trees in their official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import FileSource
from kinshot.datasets.images import load_image
from kinshot.datasets.survey import say_once
from kinshot.kin.verification import auc
from kinshot.studies.retrieval.answers import Looked
from kinshot.studies.retrieval.pairs import verified
from kinshot.studies.retrieval.sides import Side, Sides
from tests.retrieval_trees import write_cars, write_cub, write_in_shop, write_lfw, write_market, write_sop
from tests.trees import noise

HALVED = {"cub_200_2011": write_cub, "cars_196": write_cars, "stanford_online_products": write_sop}
QUERIED = {"in_shop": write_in_shop, "market_1501": write_market}
BELOW = {"cub_200_2011": "CUB_200_2011", "cars_196": "stanford_cars", "stanford_online_products": "Stanford_Online_Products"}
BELOW |= {"market_1501": "Market-1501-v15.09.15"}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    found = {}
    for name, write in {**HALVED, **QUERIED, "lfw_pairs": write_lfw}.items():
        found[name] = tmp_path_factory.mktemp(name)
        write(found[name] / BELOW.get(name, ""))
    return found


@pytest.fixture
def build(trees):
    return lambda name, **chosen: SOURCES.build(name, settings={"root": str(trees[name]), "size": 8, **chosen})


@pytest.mark.parametrize("name", [*HALVED, *QUERIED])
def test_train_val_and_test_share_no_class_and_lose_none(build, name):
    train, rest, val = (build(name, split=split, val_share=share) for split, share in (("train", 0), ("train", 0.4), ("val", 0.4)))
    test = build(name, split="test")
    sets = [set(source.class_names) for source in (rest, val, test)]
    assert sum(map(len, sets)) == len(set.union(*sets))
    assert set(train.class_names) == sets[0] | sets[1]
    assert len(train) == len(rest) + len(val)
    assert len(val.class_names) == round(0.4 * len(train.class_names))
    assert [c for c in train.class_names if c in sets[0]] == rest.class_names
    for source in (train, rest, val, test):
        assert set(source.labels) == set(range(len(source.class_names)))
    if name in HALVED:
        every = build(name, split="all")
        assert every.class_names == train.class_names + test.class_names
        assert len(every) == len(train) + len(test)


@pytest.mark.parametrize("name", [*HALVED, *QUERIED])
def test_parts_that_cannot_be_are_refused(build, name):
    with pytest.raises(ConfigError, match=f"{name}: no class is for validation: set val_share"):
        build(name, split="val")
    for share in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=f"{name}: val_share must be from 0 to below 1"):
            build(name, val_share=share)
    with pytest.raises(ConfigError, match="leaves none of"):
        build(name, val_share=0.99)
    with pytest.raises(ConfigError, match="size must be in"):
        build(name, size=0)


@pytest.mark.parametrize("name", [*HALVED, *QUERIED, "lfw_pairs"])
def test_pictures_are_the_files_that_are_said_decoded_at_once_or_on_demand(build, name):
    memory, files = build(name), build(name, in_memory_mib=0)
    assert isinstance(files, FileSource)
    assert [*memory.files] == files.paths
    rows = np.arange(len(memory))
    assert torch.equal(memory.load(rows), files.load(rows))
    expected = load_image(memory.files[1], 8, 3, whole=name == "market_1501")
    assert np.array_equal(memory.load([1])[0].numpy(), expected)
    for key, values in memory.attributes.items():
        assert np.array_equal(values, files.attributes[key])
    if name == "market_1501":  # which has no list of files
        return
    files.paths[0].rename(moved := files.paths[0].with_suffix(".gone"))
    try:
        for mib in (0, 1024):
            with pytest.raises(DataError, match=files.paths[0].name):
                build(name, in_memory_mib=mib)
    finally:
        moved.rename(files.paths[0])


def test_cub_labels_follow_the_lists(build):
    train, test = build("cub_200_2011"), build("cub_200_2011", split="test")
    assert train.class_names == [f"{c:03d}.Bird_{c}" for c in range(1, 5)]
    assert test.class_names == [f"{c:03d}.Bird_{c}" for c in range(5, 9)]
    for source in (train, test):
        assert [source.class_names[y] for y in source.labels] == [path.parent.name for path in source.files]
    assert np.bincount(test.labels).tolist() == [4, 2, 3, 4]


def test_cars_classes_are_those_of_the_table(build):
    train, test = build("cars_196"), build("cars_196", split="test")
    assert (train.class_names, test.class_names) == (
        [f"Maker Model {c} 2012" for c in range(3)],
        [f"Maker Model {c} 2012" for c in (3, 4, 5)],
    )
    numbers = [int(path.stem) - 1 for path in test.files]
    assert [number % 6 - 3 for number in numbers] == test.labels.tolist()


def test_products_have_a_category(build):
    train, test = build("stanford_online_products"), build("stanford_online_products", split="test")
    assert train.class_names == [str(product) for product in range(1, 7)]
    assert test.class_names == [str(product) for product in range(7, 12)]
    for source in (train, test):
        assert source.attribute_names["category"] == ["bicycle", "chair"]
        products = [int(source.class_names[y]) for y in source.labels]
        assert source.attributes["category"].tolist() == [product % 2 for product in products]
        assert [int(path.stem.split("_")[0]) - 1000 for path in source.files] == products


def test_in_shop_has_queries_and_a_gallery_of_the_same_garments(build):
    query, gallery, test = (build("in_shop", split=split) for split in ("query", "gallery", "test"))
    assert query.class_names == gallery.class_names == test.class_names == [f"id_{item:08d}" for item in range(5, 9)]
    assert np.bincount(query.labels).tolist() == [1] * 4
    assert np.bincount(gallery.labels).tolist() == [2] * 4
    is_query = test.attributes["part"] == 0
    assert test.attribute_names["part"] == ["query", "gallery"]
    for part, rows in ((query, is_query), (gallery, ~is_query)):
        assert [*part.files] == [path for path, one in zip(test.files, rows, strict=True) if one]
        assert torch.equal(part.load(np.arange(len(part))), test.load(np.flatnonzero(rows)))
    train = build("in_shop")
    assert "part" not in train.attributes
    assert {train.attribute_names["category"][c] for c in train.attributes["category"]} == {
        f"{('MEN', 'WOMEN')[item % 2]}/Shirts_{item % 3}" for item in range(1, 5)
    }


def test_market_says_person_camera_and_sequence_and_leaves_junk_out(build):
    train, query, gallery, test = (build("market_1501", split=split) for split in ("train", "query", "gallery", "test"))
    assert train.class_names == ["0002", "0007", "0010"]
    assert query.class_names == gallery.class_names == ["0000", "0001", "0003", "0004"]
    assert len(test) == len(query) + len(gallery) == 6 + 12
    assert test.notes == ["3 pictures that the release calls junk (person -1) are left out"]
    for source in (train, query, gallery, test):
        for row, path in enumerate(source.files):
            person, camera = path.name.split("_")[:2]
            assert source.class_names[source.labels[row]] == person
            said = f"c{source.attribute_names['camera'][source.attributes['camera'][row]]}"
            assert camera == f"{said}s{source.attribute_names['sequence'][source.attributes['sequence'][row]]}"
    alone = build("market_1501", split="gallery", distractors="leave_out")
    assert (alone.class_names, len(alone)) == (["0001", "0003", "0004"], 9)


def test_what_is_left_out_is_said_once(build, caplog):
    say_once.cache_clear()
    for _ in range(2):
        build("market_1501", split="gallery")
    assert [record.getMessage() for record in caplog.records] == [
        "market_1501/gallery: 3 pictures that the release calls junk (person -1) are left out"
    ]


def test_all_of_a_person_is_in_the_square(tmp_path):
    person = np.zeros((20, 10, 3), np.uint8)
    person[:4] = 255
    Image.fromarray(person).save(tmp_path / "p.png")
    assert load_image(tmp_path / "p.png", 10, 3, whole=True)[0, :2].min() > 200
    assert load_image(tmp_path / "p.png", 10, 3)[0].max() == 0


def test_pairs_of_faces_are_compared_in_folds(build):
    source = build("lfw_pairs")
    rows, same, fold = source.pairs
    assert rows.shape == (8, 2)
    assert same.tolist() == [True, True, False, False] * 2
    assert fold.tolist() == [0] * 4 + [1] * 4
    assert [tuple(source.files[row].stem for row in pair) for pair in rows[[0, 4, 3]]] == [
        ("Ann_Lee_0001", "Ann_Lee_0002"), ("Ann_Lee_0003", "Ann_Lee_0001"), ("Di_Fox_0001", "Cy_Roe_0002"),
    ]  # fmt: skip
    assert np.array_equal(source.labels[rows[:, 0]] == source.labels[rows[:, 1]], same)
    assert len(source) == len(np.unique(rows)) == 8
    scores = (source.labels[rows[:, 0]] == source.labels[rows[:, 1]]).astype(float)
    assert auc(scores, same) == 1.0
    test = build("lfw_pairs", split="test")
    assert (len(test), len(test.pairs.rows)) == (3, 2)
    before = source.fingerprint()
    source.pairs = source.pairs._replace(same=~same)
    source._fingerprint = None
    assert source.fingerprint() != before


def test_the_listed_pairs_are_those_that_are_verified(build):
    source = build("lfw_pairs")
    z = torch.randn(len(source), 5, generator=torch.Generator().manual_seed(0))
    rows = np.arange(len(source))
    side = Side(source, rows, source.labels)
    found = verified(Looked(z, None), Sides(side, side, tuple(source.class_names)), (0.5,), "cosine", 0)
    cosine = torch.nn.functional.cosine_similarity(z[source.pairs.rows[:, 0]], z[source.pairs.rows[:, 1]]).double().numpy()
    assert found["auc"] == pytest.approx(auc(cosine, source.pairs.same))
    some = Side(source, rows[source.labels != 0], source.labels[source.labels != 0])
    pairs, same = Sides(some, some, tuple(source.class_names)).listed
    kept = (source.labels[source.pairs.rows] != 0).all(axis=1)
    assert np.array_equal(some.rows[pairs], source.pairs.rows[kept])
    assert np.array_equal(same, source.pairs.same[kept])
    assert Sides(some, side, tuple(source.class_names)).listed is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "begins with ''"),
        ("ten 300\n", "begins with 'ten 300'"),
        ("1 2\nA 1 2\n", "lists 1 pairs, expected 1 folds of 2 of either kind"),
        ("1\nA 1 B 2\nA 1 B 1\n", "pair 1: expected a person and two numbers"),
        ("1\nA 1 2\nA 1 A 3\n", "pair 2: expected a person, a number, another person"),
        ("1\nA 1 x\nA 1 B 1\n", "pair 1: expected"),
        ("1\nA 1 2\n../B 1 C 1\n", "leaves the folder"),
    ],
)
def test_a_list_of_pairs_of_another_form_is_named(tmp_path, content, message):
    (tmp_path / "lfw").mkdir()
    (tmp_path / "pairs.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        SOURCES.build("lfw_pairs", settings={"root": str(tmp_path), "size": 8})
    (tmp_path / "lfw").rmdir()
    with pytest.raises(DataError, match="looked for lfw-deepfunneled, lfw_funneled, lfw"):
        SOURCES.build("lfw_pairs", settings={"root": str(tmp_path), "size": 8})


def test_lists_of_another_form_are_named(tmp_path: Path):
    def refused(name, match):
        with pytest.raises(DataError, match=match):
            SOURCES.build(name, settings={"root": str(tmp_path / name), "size": 8})

    for name, write in {**HALVED, **QUERIED}.items():
        write(tmp_path / name)
    cub, cars, sop, market = (tmp_path / name for name in ("cub_200_2011", "cars_196", "stanford_online_products", "market_1501"))
    (cub / "images.txt").write_text("1 a.jpg b\n")
    refused("cub_200_2011", r"images\.txt, line 1: expected 2 words")
    (cub / "images.txt").write_text("99 a.jpg\n")
    refused("cub_200_2011", "image 99 has no class")
    (cub / "classes.txt").write_text("one 001.Bird\n")
    refused("cub_200_2011", "class number 'one'")
    (sop / "Ebay_test.txt").write_text("header\n1 2 3 /etc/passwd\n")
    refused("stanford_online_products", "leaves the folder")
    (sop / "Ebay_test.txt").write_text("header\n1 two 3 a_final/b.JPG\n")
    refused("stanford_online_products", "product 'two' is no number")
    listing = tmp_path / "in_shop" / "Eval" / "list_eval_partition.txt"
    listing.write_text("1\nheader\nimg/a/b/c/d.jpg id_1 valid\n")
    refused("in_shop", "expected train, query or gallery")
    Image.fromarray(noise(0, 4, 4, 3)).save(market / "bounding_box_train" / "someone.jpg")
    refused("market_1501", "expected a name such as")
    (cars / "cars_annos.mat").write_bytes(b"no table")
    refused("cars_196", "cannot read the annotations")
    savemat(
        cars / "cars_annos.mat", {"annotations": np.zeros((1, 1), dtype=[("fname", object)]), "class_names": np.array(["a"], dtype=object)}
    )
    refused("cars_196", "cannot read the annotations .* cars_annos")
    write_cars(cars, classes=2)
    found = SOURCES.build("cars_196", settings={"root": str(cars), "size": 8})
    assert len(found.class_names) == 1
