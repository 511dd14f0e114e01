"""What stands around a projector in metric learning: layer normalisation before its last layer, and a batch-norm neck behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import kinshot
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.encoders.neck import BatchNormNeck
from kinshot.encoders.projector import mlp_projector
from kinshot.learn.model import Model
from kinshot.recipes.check import checked_recipe
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import run

QUIET = ["train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0", "monitor.log_every=1", "train.threads=1"]


def recipe(folder: Path) -> str:
    """Conv-4 with GeM and BNNeck on drawings made here: triplet before the normalisation, class rows behind it."""
    text = """# fewshot train neck.yaml
description: drawings, embedded by GeM and BNNeck
data: {name: glyphs, split: val, variants: 4}
views: {name: clean, views: 1}
encoder: {name: pooled, of: "conv4:width=8", pool: gem}
projector: {layers: 0, neck: batch}
order: {name: classes, per_class: 4}
method: {name: metric}
terms:
  - {objective: triplet, kin: labels, on: before, miner: hard}
  - {objective: normalized_softmax, kin: labels, on: after}
train: {batch_size: 16, lr: 0.003}
"""
    (folder / "neck.yaml").write_text(text, encoding="utf-8")
    return str(folder / "neck.yaml")


def test_layer_normalisation_stands_before_the_last_layer_and_changes_no_draw() -> None:
    torch.manual_seed(0)
    plain = mlp_projector(6, 5, 3, 2, last_norm=False)
    torch.manual_seed(0)
    normed = mlp_projector(6, 5, 3, 2, last_norm=False, norm="layer")
    assert [type(part).__name__ for part in normed] == ["Linear", "BatchNorm1d", "ReLU", "LayerNorm", "Linear"]  # type: ignore[attr-defined]
    assert [*map(torch.equal, plain.parameters(), normed.parameters())] == [True] * 5
    one = mlp_projector(6, 5, 3, 1, last_norm=False, norm="layer").double()
    x = torch.randn(4, 6, dtype=torch.float64)
    weight, bias = (part.detach().numpy() for part in one.parameters())
    rows = [(row - row.mean()) / np.sqrt(row.var() + 1e-5) @ weight.T + bias for row in x.numpy()]
    assert_close(one(x).detach(), torch.from_numpy(np.stack(rows)))


@pytest.mark.parametrize(("given", "words"), [({"layers": 0, "norm": "layer"}, "layers is 0"), ({"norm": "batch"}, "norm")])
def test_a_normalisation_without_a_layer_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mlp_projector(**{"dim": 6, "hidden": 5, "out": 3, "layers": 1, **given}, last_norm=False)


def test_a_neck_has_an_output_on_either_side_and_is_the_one_behind() -> None:
    encoder: Any = nn.Identity()
    encoder.dim, encoder.stages = 4, ()
    model = Model(encoder, BatchNormNeck(nn.Identity(), 4))
    x = torch.randn(8, 4, dtype=torch.float64)
    model = model.double()
    assert model.vectors() == ("backbone", "projector", "before", "after")
    found = model.outputs(x, ("projector", "before", "after"))
    expected = (x.numpy() - x.numpy().mean(0)) / np.sqrt(x.numpy().var(0) + 1e-5)
    assert_close(found["after"].detach(), torch.from_numpy(expected))
    assert torch.equal(found["before"], x)
    assert torch.equal(found["projector"], found["after"])
    found["after"].square().sum().backward()
    norm: Any = model.projector.norm  # type: ignore[union-attr]
    assert norm.bias.grad is None
    assert norm.weight.grad is not None


def test_terms_train_on_either_side_of_a_neck_and_the_checkpoint_gives_both(tmp_path: Path) -> None:
    done = run("fewshot", "train", recipe(tmp_path), *QUIET, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert any("train/loss" in record for record in records)
    weights = load_checkpoint(tmp_path / "run").tensors
    assert weights["encoder"]["levels.0.power"] != 3.0
    assert weights["projector"]["norm.bias"].abs().max() == 0
    assert weights["projector"]["norm.weight"].ne(1).any()
    model = kinshot.load(tmp_path / "run")
    found = model.embed(model.input.noise(4, torch.Generator().manual_seed(0)).clamp(0, 1))
    assert torch.equal(found["projector"], found["after"])
    assert torch.equal(found["before"], found["backbone"])


@pytest.mark.parametrize("side", ["before", "after"])
def test_either_side_of_a_neck_may_validate(side: str, tmp_path: Path) -> None:
    given = ("validation.split=test", "validation.episodes=2", f"validation.feature={side}")
    assert checked_recipe(recipe(tmp_path), given).projector.outputs == ("before", "after")
    with pytest.raises(ConfigError, match=f"no feature '{side}'"):
        checked_recipe(recipe(tmp_path), (*given, "projector.neck=none"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["projector.norm=layer"], "projector.norm"),
        (["projector.paths=[one, two]"], "projector.neck: it stands behind a single network"),
        (["projector.modalities=true"], "projector.modalities makes several"),
    ],
)
def test_what_does_not_go_together_is_refused(given: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        train_recipe(load_recipe(recipe(tmp_path), [*QUIET, *given]), Options(tmp_path / "run", quiet=True), lambda text: None)
    with pytest.raises(ConfigError, match=words):
        checked_recipe(recipe(tmp_path), (*QUIET, *given))
