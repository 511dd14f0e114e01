"""What two views say of each other: formulas against numpy, collapsed embeddings, and the records of a run without labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.core.errors import DataError
from kinshot.learn.gauges import neighbor_agreement, view_retrieval
from kinshot.recipes.fit import fit
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.test_fit import pixels
from tests.tiny import TINY


def reference(x: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float]:
    """Retrieval and agreement in float64, sample by sample."""
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x.astype(np.float64), y.astype(np.float64)))
    own = np.mean([np.argmax(y @ row) == i for i, row in enumerate(x)])
    shared = []
    for i in range(len(x)):
        near = [set(sorted((j for j in range(len(x)) if j != i), key=lambda j, z=z: -float(z[i] @ z[j]))[:k]) for z in (x, y)]
        shared.append(len(near[0] & near[1]) / k)
    return float(own), float(np.mean(shared))


def test_gauges_equal_their_definitions() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=generator)
    y = x + torch.randn(40, 6, generator=generator)
    own, shared = reference(x.numpy(), y.numpy(), 5)
    assert 0.1 < own < 0.9
    assert view_retrieval(x, y).item() == pytest.approx(own)
    assert neighbor_agreement(x, y).item() == pytest.approx(shared)
    assert (view_retrieval(x, x).item(), neighbor_agreement(x, x, k=100).item()) == (1.0, 1.0)


def test_collapsed_embeddings_agree_on_nothing() -> None:
    constant = torch.ones(30, 4)
    assert (view_retrieval(constant, constant).item(), neighbor_agreement(constant, constant).item()) == (0.0, 0.0)
    with pytest.raises(DataError, match="two views"):
        neighbor_agreement(constant, constant[:7])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 colour pictures without labels, each of a colour and a wave of its own."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    y, x = np.mgrid[:24, :24]
    for number in range(64):
        wave = np.sin(x * rng.uniform(0.1, 1) + y * rng.uniform(0.1, 1))[..., None] * rng.uniform(20, 60, 3)
        Image.fromarray((rng.uniform(60, 190, 3) + wave).clip(0, 255).astype(np.uint8)).save(root / f"{number}.png")
    return root


def records(run: Path) -> list[dict[str, float]]:
    return [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "eval/views/agreement/backbone" in row]


def test_a_run_without_labels_records_them_and_they_tell_a_good_one_from_a_broken_one(photographs: Path, tmp_path: Path) -> None:
    overrides = [f"data.root={photographs}", "data.size=20", "encoder.width=16", "projector.hidden=32", "monitor.tensorboard=false"]
    overrides += [
        "train.epochs=10",
        "method.warmup_epochs=10",
        "train.threads=1",
        "monitor.knn_every=5",
        "train.precision=fp32",
        "train.batch_size=32",
    ]
    found = {}
    for rate in (3e-3, 1e-9):
        recipe = load_recipe("photos", ["encoder=conv4", *overrides, f"train.lr={rate}"])
        train_recipe(recipe, Options(tmp_path / str(rate), quiet=True), lambda text: None)
        rows = records(tmp_path / str(rate))
        assert [row["step"] for row in rows] == [0, 10, 20]
        found[rate] = {name: [row[f"eval/views/{name}/projector"] for row in rows] for name in ("retrieval", "agreement")}
    good, broken = found[3e-3], found[1e-9]
    for name in ("retrieval", "agreement"):
        assert good[name][0] == broken[name][0]  # both begin at the untrained encoder
        assert good[name][-1] > 1.3 * max(broken[name])


def test_labelled_runs_are_probed_by_knn_alone(tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), ["train.epochs=1", "monitor.tensorboard=false"])
    train_recipe(recipe, Options(tmp_path / "run", quiet=True), lambda text: None)
    assert records(tmp_path / "run") == []


@pytest.mark.parametrize(("size", "encoder"), [(32, "conv4"), (64, "resnet18"), (224, "resnet18")])
def test_the_recipe_for_photographs_takes_every_size(size: int, encoder: str) -> None:
    recipe = load_recipe("photos", [f"data.size={size}"])
    fitted = fit(recipe, pixels(size), 300)
    assert (fitted.encoder.name, fitted.train.threads) == (encoder, 0)
    assert 0 < fitted.method.settings["clusters"] <= 300
    assert 0 < fitted.method.settings["queue"] <= 300
