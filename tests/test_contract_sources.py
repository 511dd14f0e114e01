"""What every source keeps to, generated from the registry, on tiny trees in the layouts that it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.loader import batches
from kinshot.datasets.scenes import Scenes
from kinshot.datasets.stand_ins import sample_keys
from kinshot.samples import SPECS
from kinshot.samples.class_map import ClassMapSpec
from tests.graph_trees import write_graph
from tests.retrieval_trees import write_cars, write_cub, write_in_shop, write_label_sets, write_lfw, write_market, write_sop
from tests.sensor_trees import write_hapt, write_recordings, write_uci_har
from tests.trees import (
    write_cifar10,
    write_cifar100,
    write_coco,
    write_fashion,
    write_folder,
    write_fss,
    write_grocery,
    write_omniglot,
    write_pascal,
    write_scenes,
)

Settings = dict[str, Any]
WITHOUT_PAPER = {"folder", "label_sets", "table", "glyphs", "glyph_scenes", "mask_folder", "motion", "recordings"}
"""The user's own data, and what nobody has published."""


def _table(root: Path) -> None:
    rows = ["height,width,species,site", *(f"{k / 2},{k % 3},{'abc'[k % 3]},{'' if k % 4 == 0 else 'xy'[k % 2]}" for k in range(12))]
    (root / "rows.csv").write_text("\n".join(rows) + "\n")


def _at(root: Path, write: Callable[[Path], object] | None = None, **settings: Any) -> Settings:
    if write is not None:
        write(root)
    return {"root": str(root), **settings}


CASES: dict[str, Callable[[Path], Settings]] = {
    "cifar10": lambda root: _at(root, write_cifar10),
    "cifar100": lambda root: _at(root, write_cifar100),
    "coco_20i": lambda root: _at(root, write_coco, split="test", fold=1, size=16),
    "cars_196": lambda root: _at(root, write_cars, size=8),
    "cub_200_2011": lambda root: _at(root, write_cub, size=8),
    "hetero_graph": lambda root: {"root": str(write_graph(root / "papers.npz")), "averaged": ("a",)},
    "in_shop": lambda root: _at(root, write_in_shop, split="test", size=8),
    "label_sets": lambda root: _at(root, write_label_sets, split="test", size=8),
    "lfw_pairs": lambda root: _at(root, write_lfw, size=8),
    "market_1501": lambda root: _at(root, write_market, split="test", size=8),
    "stanford_online_products": lambda root: _at(root, write_sop, size=8),
    "digits": lambda root: {"split": "test", "size": 8},
    "fashion_mnist": lambda root: _at(root, write_fashion),
    "folder": lambda root: _at(root, write_folder, split="train", size=8),
    "fss_1000": lambda root: _at(root, write_fss, split="test", size=14),
    "glyphs": lambda root: {"split": "val", "size": 8, "variants": 2},
    "glyph_scenes": lambda root: {"split": "val", "size": 32, "classes": 6, "per_class": 3},
    "grocery_store": lambda root: _at(root / "set", lambda place: write_grocery(place, official=False), split="test", size=8),
    "manifold": lambda root: {"nodes": 40, "radius": 0.5, "length": 16},
    "motion": lambda root: {"split": "val", "subjects": 5, "stretch": 5.0},
    "mask_folder": lambda root: _at(root, write_scenes, size=8),
    "recordings": lambda root: _at(root, write_recordings, split="all", seconds=2.0, step=1.0),
    "omniglot": lambda root: _at(root, lambda place: write_omniglot(place, "val"), split="val", size=14),
    "photo_drawings": lambda root: _at(root, write_folder, split="train", size=8),
    "pascal_5i": lambda root: _at(root, write_pascal, split="test", fold=2, size=16),
    "table": lambda root: _at(root / "rows.csv", lambda file: _table(file.parent), label="species", attributes=("site",)),
    "hapt": lambda root: _at(root, write_hapt, seconds=2.0, step=1.0),
    "uci_har": lambda root: _at(root, write_uci_har, split="test"),
    "task_topology": lambda root: {"length": 16},
}
OURS = [name for name, entry in SOURCES.entries.items() if entry.module.startswith("kinshot.")]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Settings]:
    return {name: CASES[name](tmp_path_factory.mktemp(name)) for name in OURS}


@pytest.fixture(params=OURS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def source(name: str, settings: dict[str, Settings]) -> Source:
    return SOURCES.build(name, settings=settings[name])


def everything(source: Source, rows: Any) -> dict[str, torch.Tensor]:
    return source.load(rows, source.fields)


def test_samples_are_what_their_specification_says(source: Source) -> None:
    found = source.load(range(len(source)), source.fields)
    dtypes = {
        "image": [torch.uint8],
        "features": [torch.float32],
        "tokens": [torch.uint8, torch.int64],
        "series": [torch.float32],
        "node": [torch.int64],
        ClassMapSpec.kind: [torch.int64],
    }
    for field, spec in source.fields.items():
        assert spec.kind in (*SPECS.entries, ClassMapSpec.kind)
        assert found[field].shape == (len(source), *spec.shape)
        assert found[field].dtype in dtypes[spec.kind]
        assert torch.isfinite(spec.normalize(found[field]).float()).all()
        if spec.vocabulary:
            assert int(found[field].max()) < spec.vocabulary


def test_what_is_said_without_building_it_is_true(name: str, source: Source) -> None:
    facts = SOURCES.entry(name).facts
    if facts.get("kind") == "series":  # one field for each sensor
        assert {spec.kind for spec in source.fields.values()} == {"series"}
        return
    assert list(source.fields) == [facts.get("kind", "image"), *(["mask"] if facts.get("masks") else [])]
    assert source.fields[next(iter(source.fields))].kind == facts.get("kind", "image")
    assert (source.contains is not None) == isinstance(source, Scenes) == bool(facts.get("masks"))


def test_labels_are_numbers_of_classes_and_attributes_of_values(source: Source) -> None:
    assert len(source) > 0
    if source.labels is not None:
        assert source.labels.dtype == np.int64
        assert source.labels.shape == (len(source),)
        assert 0 <= source.labels.min() <= source.labels.max() < len(source.class_names)
        assert len(set(source.class_names)) == len(source.class_names)
    for key, values in source.categories.items():
        assert values.shape == (len(source),)
        assert -1 <= values.min() <= values.max() < len(source.attribute_names[key])
    assert source.graph is None or source.graph.n == len(source)
    assert source.files is None or len(source.files) == len(source)


@pytest.mark.parametrize("form", [list, np.array, torch.tensor])
def test_samples_are_loaded_by_number_in_any_order(source: Source, form: Callable[[list[int]], Any]) -> None:
    whole, last = everything(source, range(len(source))), len(source) - 1
    for rows in ([last, 0, last, 1], [0], []):
        given = form(rows) if rows or form is list else form([]).astype(int) if form is np.array else form([], dtype=torch.int64)
        assert all(torch.equal(found, whole[field][rows]) for field, found in everything(source, given).items())


def test_what_is_loaded_is_a_copy(source: Source) -> None:
    before = {field: values.clone() for field, values in everything(source, [0]).items()}
    for values in everything(source, [0]).values():
        values.fill_(1)
    assert all(torch.equal(values, before[field]) for field, values in everything(source, [0]).items())


def test_digests_tell_samples_apart(source: Source) -> None:
    rows = [0, 1, 0]
    found = source.digests(np.array(rows))
    assert found[0] == found[2]
    first, second = everything(source, [0]), everything(source, [1])
    same = all(torch.equal(first[field], second[field]) for field in source.fields)
    assert (found[0] == found[1]) == same
    assert len(sample_keys(source)) == len(source)


def test_means_and_spreads_are_finite(source: Source) -> None:
    for field, spec in source.inputs().items():
        x = spec.normalize(everything(source, range(len(source)))[field])
        assert torch.isfinite(x.float()).all()
        if not spec.vocabulary and spec.kind != ClassMapSpec.kind:
            assert abs(float(x.mean())) < 1e-3


def test_a_subset_is_some_classes_relabelled(source: Source) -> None:
    chosen = [len(source.class_names) - 1, 0]
    if source.labels is None:
        with pytest.raises(ConfigError, match="needs a source with one label to a sample"):
            source.subset([0])
        return
    part = source.subset(chosen)
    rows = np.concatenate([np.flatnonzero(source.labels == label) for label in chosen])
    assert len(part) == len(rows)
    assert part.class_names == [source.class_names[label] for label in chosen]
    whole = everything(source, np.sort(rows))
    assert all(torch.equal(found, whole[field]) for field, found in everything(part, range(len(part))).items())
    assert np.array_equal(np.asarray(chosen)[part.labels], source.labels[np.sort(rows)])
    assert part.fields == source.fields
    assert part.fingerprint() != source.fingerprint()
    with pytest.raises(ConfigError, match="class_ids must be different numbers"):
        source.subset([len(source.class_names)])


def test_batches_are_the_same_in_a_worker(source: Source) -> None:
    here, there = (list(batches(source, 2, 0, 0, max(0, len(source) // 2 - 2), workers)) for workers in (0, 1))
    for (a, i), (b, j) in zip(here, there, strict=True):
        assert torch.equal(i, j)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else all(torch.equal(a[field], b[field]) for field in a)


def test_masks_hold_what_is_said_of_them(source: Source) -> None:
    if not isinstance(source, Scenes):
        pytest.skip("no masks")
    masks = everything(source, range(len(source)))["mask"].numpy()
    held = np.stack([(masks == c + 1).any(axis=(1, 2)) for c in range(len(source.class_names))], axis=1)
    assert np.array_equal(held, source.contains)
    assert source.contains.any(axis=0).all(), "a class without an image"
    assert len(source.photos) == len(source.sizes) == len(source)
    assert [source.native_image(row).shape[1:] == source.native_mask(row).shape for row in range(len(source))] == [True] * len(source)


def test_fingerprints_are_of_content_alone(settings: dict[str, Settings]) -> None:
    """In another process, after every file got another time."""
    here = {name: SOURCES.build(name, settings=settings[name]).fingerprint() for name in OURS}
    assert len(set(here.values())) == len(here)
    for given in settings.values():
        for path in Path(given.get("root", os.devnull)).rglob("*"):
            os.utime(path, (1e9, 1e9))
    code = """
import json, sys
from kinshot.datasets import SOURCES
print(json.dumps({name: SOURCES.build(name, settings=given).fingerprint() for name, given in json.loads(sys.argv[1]).items()}))
"""
    done = subprocess.run([sys.executable, "-c", code, json.dumps(settings)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == here


def test_what_is_not_there_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    if "root" not in SOURCES.entry(name).parameters:
        pytest.skip(f"{name} needs no files")
    gone = tmp_path / "gone"
    with pytest.raises((ConfigError, DataError), match=r"(?s)gone.*(: |; )") as caught:
        SOURCES.build(name, settings={"root": str(gone)})
    assert any(word in str(caught.value) for word in ("give", "set", "unpack", "download", "choose", "name", "correct")), caught.value
    (tmp_path / "empty").mkdir()
    with pytest.raises((ConfigError, DataError), match="empty"):
        SOURCES.build(name, settings={"root": str(tmp_path / "empty")})


def test_a_setting_that_is_none_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match="colour_space"):
        SOURCES.build(name, settings={"colour_space": 1})


def test_it_says_what_it_is(name: str) -> None:
    entry = SOURCES.entry(name)
    assert entry.summary.endswith(".")
    assert [parameter for parameter, about in entry.parameters.items() if not about.help] == []
    assert ("Paper:" in entry.docstring) == (name not in WITHOUT_PAPER)
