"""Training an embedding by any objective over classes: one command each, resumed bit for bit, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.kin.miners import MINERS
from kinshot.objectives import taking
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.labelled_rows import QUIET, terms, trained_twice, write_rows
from tests.tiny import run


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_rows(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("objective", [*taking("relation"), *taking("proxies")])
def test_every_objective_over_classes_trains_and_goes_on_bit_for_bit(objective: str, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, tmp_path, terms(objective))


@pytest.mark.parametrize("miner", MINERS.names())
def test_every_miner_goes_on_bit_for_bit(miner: str, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, tmp_path, terms("triplet", miner=miner))


@pytest.mark.parametrize("augmenter", AUGMENTERS.names())
def test_every_augmenter_goes_on_bit_for_bit(augmenter: str, recipe: str, tmp_path: Path) -> None:
    trained_twice(recipe, tmp_path, terms("multi_similarity", augmenter=augmenter))


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
