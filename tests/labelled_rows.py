"""Labelled rows in a table, the recipe that learns an embedding of them, and a run of it that is taken up in its middle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from kinshot.core.checkpoint import load_checkpoint
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe

EMBEDDING = "projector"
QUIET = [
    "train.epochs=1",
    "monitor.tensorboard=false",
    "monitor.knn_every=0",
    "monitor.keep=99",
    "monitor.log_every=1",
    "monitor.checkpoint_every=0.5",
]


def write_rows(folder: Path) -> str:
    """Rows of five classes, which are three coarse ones, in a table, and the recipe that learns an embedding of them: its path."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 5
    x = rng.normal(size=(5, 6))[y] + 0.5 * rng.normal(size=(60, 6))
    columns = [*(f"x{k}" for k in range(6)), "y", "coarse"]
    values = zip(x, y, strict=True)
    lines = [",".join(columns), *(",".join([*(f"{v:.4f}" for v in row), str(label), str(label // 2)]) for row, label in values)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = f"""# fewshot train rows.yaml
description: an embedding of rows
data: {{name: table, root: {folder / "rows.csv"}, label: y, attributes: [coarse]}}
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


def trained_twice(recipe: str, folder: Path, *given: str, point: int = 1) -> None:
    """Train it through, then once more from a checkpoint in its middle, by number: both end alike."""
    loaded = load_recipe(recipe, [*QUIET, *given])
    train_recipe(loaded, Options(folder / "whole", quiet=True), lambda text: None)
    points = sorted((folder / "whole/checkpoints").iterdir())
    train_recipe(loaded, Options(folder / "again", str(points[point]), quiet=True), lambda text: None)
    whole, again = (load_checkpoint(folder / name) for name in ("whole", "again"))
    for part in ("encoder", "projector", "training"):
        assert weights_hash(whole.tensors[part]) == weights_hash(again.tensors[part])
    records = [json.loads(line) for line in (folder / "whole/metrics.jsonl").read_text().splitlines()]
    assert all(record["train/loss"] is not None for record in records if "train/loss" in record)
    assert any("train/recall" in record for record in records)
