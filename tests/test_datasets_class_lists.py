"""Published splits as lists of class folders, and the user's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.class_lists import LISTS, class_part, other_part
from kinshot.recipes.recipe import Choice, parse
from kinshot.recipes.splits import own_split
from kinshot.runs.validation import validation_source

COUNTS = {
    "mini_imagenet": (64, 16, 20),
    "tiered_imagenet": (351, 97, 160),
    "cifar_fs": (64, 16, 20),
    "fc100": (60, 20, 20),
    "cub_torchmeta": (100, 50, 50),
    "cub_easyfsl": (140, 30, 30),
}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture in each of miniImageNet's class folders, whose gray is the number of the class."""
    root = tmp_path_factory.mktemp("mini") / "images"
    for number, name in enumerate(sorted(class_part("mini_imagenet:train").listed)):
        (root / name).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), number, dtype=np.uint8)).save(root / name / "a.png")
    return root


def folder(root: Path, **settings):
    return SOURCES.build("folder", settings={"root": str(root), "size": 8, "channels": 1, **settings})


@pytest.mark.parametrize("name", LISTS)
def test_parts_have_the_published_numbers_and_share_no_class(name: str) -> None:
    parts = [set(class_part(f"{name}:{part}").classes) for part in ("train", "val", "test")]
    assert tuple(map(len, parts)) == COUNTS[name]
    assert len(set.union(*parts)) == sum(COUNTS[name])
    assert class_part(f"{name}:val").listed == set.union(*parts)


def test_some_classes_are_where_they_belong() -> None:
    assert "n01532829" in class_part("mini_imagenet:train").classes  # house finch, the first of the training list
    assert "n07613480" in class_part("mini_imagenet:test").classes  # trifle
    assert {"baby", "rocket"} <= set(class_part("cifar_fs:test").classes)
    assert "whale" in class_part("fc100:test").classes
    both = set(class_part("cub_torchmeta:test").classes) & set(class_part("cub_easyfsl:train").classes)
    assert len(both) == 29  # which is why a result must name which of the two it is of


def test_a_folder_is_divided_by_a_list(mini: Path) -> None:
    every = sorted(class_part("mini_imagenet:train").listed)
    for part in ("train", "val", "test"):
        source = folder(mini, split=f"mini_imagenet:{part}")
        assert source.name == f"folder/mini_imagenet:{part}"
        assert source.class_names == sorted(class_part(f"mini_imagenet:{part}").classes)
        grays = source.load(np.arange(len(source)))[:, 0, 0, 0].tolist()
        assert [every[gray] for gray in grays] == source.class_names
    assert folder(mini, split="mini_imagenet:val", labels="none").labels is None
    assert len(folder(mini, split="mini_imagenet:val", labels="none")) == 16
    assert len(folder(mini, split="mini_imagenet:test", in_memory_mib=0)) == 20


def test_missing_and_extra_folders_are_named_and_counted(mini: Path, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.symlink_to(mini)
    with pytest.raises(DataError, match=r"tiered_imagenet:test lists 160 classes, and \d+ of them have no folder"):
        folder(root, split="tiered_imagenet:test")
    own = tmp_path / "own.json"
    names = sorted(p.name for p in mini.iterdir())
    own.write_text(json.dumps({"about": "mine", "train": names[:3], "test": [names[4]]}))
    with pytest.raises(DataError, match=f"96 class folders that are in no part of .*own.json: {names[3]}, .* and 88 more; .*unlisted"):
        folder(root, split=f"{own}:train")
    assert folder(root, split=f"{own}:train", unlisted="leave_out").class_names == names[:3]
    assert folder(root, split=f"{own}:test", unlisted="leave_out").class_names == [names[4]]
    own.write_text(json.dumps({"train": names, "test": ["gone"]}))
    with pytest.raises(DataError, match=r"lists 1 classes, and 1 of them have no folder in .*: gone"):
        folder(root, split=f"{own}:test")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "no JSON file"),
        ("[" * 100_000, "no JSON file"),
        ('["a"]', "no part"),
        ('{"train": []}', "different names"),
        ('{"train": ["a", "a"]}', "different names"),
        ('{"train": ["a", 3]}', "different names"),
        ('{"train": ["a", "b"], "test": ["b"]}', "1 classes stand in two parts: b"),
    ],
)
def test_a_bad_list_is_told(tmp_path: Path, mini: Path, text: str, words: str) -> None:
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(DataError, match=words):
        folder(mini, split=f"{tmp_path}/own.json:train")


def test_wrong_names_are_told_with_the_closest(tmp_path: Path, mini: Path) -> None:
    with pytest.raises(ConfigError, match="mini_imagenet"):
        folder(mini, split="miniimagenet:test")
    with pytest.raises(ConfigError, match=r"no part 'tset'.*test"):
        folder(mini, split="mini_imagenet:tset")
    with pytest.raises(DataError, match=r"no list of classes in .*gone.json"):
        folder(mini, split=f"{tmp_path}/gone.json:test")


def test_other_parts_of_a_list_are_found_by_whoever_looks_for_a_split(mini: Path) -> None:
    assert other_part("mini_imagenet:train", "val") == "mini_imagenet:val"
    assert other_part("a/b.json:train", "test") == "a/b.json:test"
    assert (other_part("train", "val"), other_part("x:train", "y:val")) == ("val", "y:val")
    data = Choice("folder", {"root": str(mini), "split": "mini_imagenet:train"})
    assert own_split(data, "test") == Choice("folder", {"root": str(mini), "split": "mini_imagenet:test"})
    assert own_split(data, "train") is None
    recipe = parse(
        {
            "data": {"name": "folder", "root": str(mini), "split": "mini_imagenet:train", "size": 8, "channels": 1},
            "views": "warp", "encoder": "conv4", "method": "simclr", "validation": {"split": "val"},
        },
        "r",
    )  # fmt: skip
    assert validation_source(recipe).name == "folder/mini_imagenet:val"
