"""Training an embedding by any objective over classes: one command each, resumed bit for bit, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.kin.miners import MINERS
from kinshot.learn.features import weights_hash
from kinshot.objectives import taking
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import run

EMBEDDING = "projector"
QUIET = [
    "train.epochs=1",
    "monitor.tensorboard=false",
    "monitor.knn_every=0",
    "monitor.keep=99",
    "monitor.log_every=1",
    "monitor.checkpoint_every=0.5",
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows of five classes in a table, and the recipe that learns an embedding of them."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    y = np.arange(60) % 5
    x = rng.normal(size=(5, 6))[y] + 0.5 * rng.normal(size=(60, 6))
    columns = [*(f"x{k}" for k in range(6)), "y"]
    lines = [",".join(columns), *(",".join([*(f"{v:.4f}" for v in row), str(label)]) for row, label in zip(x, y, strict=True))]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = f"""# fewshot train rows.yaml
description: an embedding of rows
data: {{name: table, root: {folder / "rows.csv"}, label: y}}
views: {{name: clean, views: 1}}
encoder: {{name: mlp, widths: [8]}}
projector: {{layers: 1, dim: 4}}
order: {{name: classes, per_class: 3}}
method: {{name: metric}}
train: {{batch_size: 12, threads: 1, warmup: 0.1}}
"""
    (folder / "rows.yaml").write_text(text, encoding="utf-8")
    return str(folder / "rows.yaml")


def terms(objective: str, **more: str) -> str:
    further = "".join(f", {key}: {value}" for key, value in more.items())
    return f"terms=[{{objective: {objective}, kin: labels, on: {EMBEDDING}{further}}}]"


def trained_twice(recipe: str, given: str, folder: Path) -> None:
    """Train it through, then once more from its first half: both end alike."""
    loaded = load_recipe(recipe, [given, *QUIET])
    train_recipe(loaded, Options(folder / "whole", quiet=True), lambda text: None)
    points = sorted((folder / "whole/checkpoints").iterdir())
    train_recipe(loaded, Options(folder / "again", str(points[1]), quiet=True), lambda text: None)
    whole, again = (load_checkpoint(folder / name) for name in ("whole", "again"))
    for part in ("encoder", "projector", "training"):
        assert weights_hash(whole.tensors[part]) == weights_hash(again.tensors[part])
    records = [json.loads(line) for line in (folder / "whole/metrics.jsonl").read_text().splitlines()]
    assert all(record["train/loss"] is not None for record in records if "train/loss" in record)
    assert any("train/recall" in record for record in records)


@pytest.mark.parametrize("objective", [*taking("relation"), *taking("proxies")])
def test_every_objective_over_classes_trains_and_goes_on_bit_for_bit(objective: str, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, terms(objective), tmp_path)


@pytest.mark.parametrize("miner", MINERS.names())
def test_every_miner_goes_on_bit_for_bit(miner: str, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, terms("triplet", miner=miner), tmp_path)


@pytest.mark.parametrize("augmenter", AUGMENTERS.names())
def test_every_augmenter_goes_on_bit_for_bit(augmenter: str, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, terms("multi_similarity", augmenter=augmenter), tmp_path)


@pytest.mark.parametrize("objective", taking("proxies"))
@pytest.mark.parametrize("augmenter", [name for name, entry in AUGMENTERS.entries.items() if entry.facts.get("classes")])
def test_rows_made_of_a_class_meet_its_proxies(objective: str, augmenter: str, recipe: str, tmp_path: Path) -> None:
    loaded = load_recipe(recipe, [terms(objective, augmenter=augmenter), *QUIET])
    train_recipe(loaded, Options(tmp_path, quiet=True), lambda text: None)
    assert torch.isfinite(load_checkpoint(tmp_path).tensors["encoder"]["layers.0.weight"]).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["terms=[]"], "method metric has no loss of its own: say in distill.losses or terms"),
        ([terms("triplet"), "method.feature=projecter"], "method metric has no output 'projecter'"),
        ([terms("triplet"), "order.per_class=13", "train.batch_size=26"], "13 of a class need 2 classes, the data has 0, 5 more have"),
        ([terms("triplet"), "data.label="], "metric learns from class labels and the data has none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(given: list[str], words: str, recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        train_recipe(load_recipe(recipe, [*given, *QUIET]), Options(tmp_path, quiet=True), lambda text: None)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_command_trains_an_embedding(recipe: str, tmp_path: Path) -> None:
    done = run(
        "fewshot", "train", recipe, terms("multi_similarity", miner="multi_similarity"), "train.epochs=2", "--out", "run", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "train/recall" in done.stdout + (tmp_path / "run/metrics.jsonl").read_text()
