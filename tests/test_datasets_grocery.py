"""The Grocery Store Dataset, from trees of tiny pictures in its official layout and from the real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES, grocery_store
from tests.trees import write_grocery

SHARED = Path(__file__).resolve().parents[2] / "shared"


def build_grocery(root: Path, **chosen):
    return SOURCES.build("grocery_store", settings={"root": str(root), "size": 8, **chosen})


@pytest.fixture(scope="module", params=["official", "short"])
def grocery_tree(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("grocery")
    write_grocery(root / "dataset" if request.param == "official" else root / "plain", request.param == "official")
    return root if request.param == "official" else root / "plain"


def test_grocery_lists_have_the_sizes_told():
    lists = grocery_store.class_lists()
    assert {part: len(names) for part, names in lists.items()} == {"train": 50, "val": 16, "test": 15}
    assert len({name for names in lists.values() for name in names}) == 81


def test_grocery_merges_the_published_folders_by_class_name(grocery_tree):
    lists = grocery_store.class_lists()
    order = [name for names in lists.values() for name in names]
    parts = {split: build_grocery(grocery_tree, split=split) for split in ("train", "val", "test")}
    for split, source in parts.items():
        assert source.class_names == lists[split]
        counts = [3 if order.index(name) % 2 == 0 else 2 for name in lists[split]]
        assert np.bincount(source.labels).tolist() == counts
        assert source.shape == (3, 8, 8)
        assert list(source.attributes) == ["fine", "coarse", "super"]
        np.testing.assert_array_equal(source.attributes["fine"], source.labels)
        for i in range(len(source)):
            fine, coarse = (source.attribute_names[key][source.attributes[key][i]] for key in ("fine", "coarse"))
            assert coarse == f"{fine.split('-')[0]}s"
    whole = build_grocery(grocery_tree, split="all")
    assert whole.class_names == order
    assert len(whole) == sum(map(len, parts.values()))
    assert whole.attribute_names["super"] == ["Fruit", "Packages", "Vegetables"]


def test_grocery_coarse_labels(grocery_tree):
    fine, coarse = (build_grocery(grocery_tree, split="test", label=label) for label in ("fine", "coarse"))
    np.testing.assert_array_equal(coarse.labels, fine.attributes["coarse"])
    assert coarse.class_names == list(dict.fromkeys(f"{name.split('-')[0]}s" for name in fine.class_names))
    np.testing.assert_array_equal(coarse.load(np.arange(5)), fine.load(np.arange(5)))
    assert coarse.fingerprint() != fine.fingerprint()


def test_grocery_errors_name_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match=r"classes\.csv and train, val, test"):
        build_grocery(tmp_path)
    with pytest.raises(ConfigError, match="size"):
        build_grocery(tmp_path, size=0)
    root = tmp_path / "g"
    write_grocery(root, official=False)
    (root / "train" / "Banana" / "Banana_001.png").rename(root / "elsewhere.png")
    (root / "val" / "Banana" / "Banana_001.png").unlink(missing_ok=True)
    (root / "test" / "Banana" / "Banana_001.png").unlink()
    build_grocery(root, split="train")
    with pytest.raises(DataError, match="no image of Banana"):
        build_grocery(root, split="val")
    (root / "train" / "Toy").mkdir()
    (root / "elsewhere.png").rename(root / "train" / "Toy" / "1.png")
    with pytest.raises(DataError, match=r"classes\.csv does not name"):
        build_grocery(root)
    (root / "train" / "Toy" / "1.png").unlink()
    (root / "train.txt").write_text("../secret/Banana/1.png, 6, 2\n")
    with pytest.raises(DataError, match="leaves the folder"):
        build_grocery(root)
    (root / "train.txt").write_text("train/Leek/absent.png, 66, 35\n")
    with pytest.raises(DataError, match="absent"):
        build_grocery(root, split="test")
    table = (root / "classes.csv").read_text()
    for wrong, said in [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ("fine,coarse,super\nKiwi,,Fruit\n", "line 2"),
        ("\n".join(table.splitlines()[:9]), "no class"),
    ]:
        (root / "classes.csv").write_text(wrong)
        with pytest.raises(DataError, match=said):
            build_grocery(root)


def test_grocery_reads_the_real_data(tmp_path):
    archive = SHARED / "data" / "grocery_store48.npz"
    if not archive.exists():
        pytest.skip("the real data sets are not at hand")
    with np.load(archive, allow_pickle=False) as file:
        x, fine, names = file["x"], file["fine"], [str(name) for name in file["fine_names"]]
        coarse, supers = [[str(name) for name in file[key]] for key in ("coarse_names", "super_names")]
        coarse_of, super_of = file["coarse_of_fine"], {int(f): int(s) for f, s in zip(file["fine"], file["super"], strict=True)}
        split, part = file["split"], file["fewshot_part"]
    rows = [f"{name},{coarse[coarse_of[k]]},{supers[super_of[k]]}" for k, name in enumerate(names)]
    (tmp_path / "classes.csv").write_text("\n".join(["fine,coarse,super", *rows]) + "\n")
    wanted = np.flatnonzero(part[fine] == 2)
    for k in wanted:
        place = tmp_path / ("train", "val", "test")[split[k]] / names[fine[k]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[k]).save(place / f"{k:05d}.png", compress_level=1)
    source = build_grocery(tmp_path, split="test", size=48)
    assert source.class_names == [name for k, name in enumerate(names) if part[k] == 2]
    assert len(source) == len(wanted)
    order = np.lexsort((wanted, split[wanted], fine[wanted]))
    np.testing.assert_array_equal(source.images.numpy().transpose(0, 2, 3, 1), x[wanted[order]])
    assert [source.class_names[label] for label in source.labels] == [names[k] for k in fine[wanted[order]]]
    sides = {name: {int(part[k]) for k in range(81) if coarse[coarse_of[k]] == name} for name in coarse}
    assert all(len(side) == 1 for side in sides.values())
