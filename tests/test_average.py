"""Averaged weights: what is averaged is what a checkpoint is read for, and `result.json` says which weights these are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint, save_checkpoint
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.class_validation import ClassValidator
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import TINY, arguments

SHORT = ["train.epochs=1", "train.batch_size=160", "monitor.tensorboard=false", "monitor.keep=100", "monitor.knn_samples=40"]
EPISODES = ["views=clean", "method.ways=5", "method.shots=1", "method.queries=31", "train.lr=0.05", "train.epochs=3"]
VALIDATED = ["validation.split=train", "validation.episodes=20"]
RUNS = {
    "moco": [*arguments("moco")[2:], *SHORT],
    "interclr": [*arguments("interclr")[2:], *SHORT],
    "structure": [*arguments("structure")[2:], *SHORT],
    "classifier": [*SHORT, *VALIDATED, "method=classifier", "views=clean", "train.lr=0.05", "train.epochs=3"],
    "feat": [*SHORT, *VALIDATED, "method=feat", *EPISODES],
}


def train(out: Path, name: str, ema: float, resume: str = "never") -> None:
    recipe = load_recipe(str(TINY), [*RUNS[name], f"train.ema={ema}"])
    train_recipe(recipe, Options(out, resume, quiet=True), lambda text: None)


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("name", RUNS)
def test_a_result_names_the_weights_of_its_checkpoint(name: str, ema: float, tmp_path: Path) -> None:
    train(tmp_path / "run", name, ema)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    checkpoint = load_checkpoint(result["checkpoint"])
    assert result["weights"] == weights_hash(checkpoint.encoder)
    averaged = {key: value for key, value in checkpoint.training.items() if key.startswith("average/")}
    assert bool(averaged) == bool(ema)
    live = {key: value for key, value in checkpoint.training.items() if key.startswith("method/")}
    inside = {key.partition("/")[2].removeprefix("base.").partition(".")[0] for key in averaged}
    assert inside <= {"encoder", "projector", "rows", "network"}
    if ema:
        assert inside == {"encoder", "projector"} | {"feat": {"network"}, "classifier": {"rows"}}.get(name, set())
        assert any(not torch.equal(value, live[key.replace("average/", "method/model.", 1)]) for key, value in averaged.items())


def test_a_result_names_the_weights_of_the_chosen_checkpoint_not_of_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([60.0, 50.0, 40.0])
    monkeypatch.setattr(ClassValidator, "measure", lambda *given: next(accuracies))
    train(tmp_path / "run", "classifier", 0.0)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert load_checkpoint(result["checkpoint"]).step < result["steps"]
    assert result["weights"] == weights_hash(load_checkpoint(result["checkpoint"]).encoder)


@pytest.mark.parametrize("name", ["moco", "interclr"])
def test_averages_of_queues_in_an_older_checkpoint_are_passed_over(name: str, tmp_path: Path) -> None:
    train(tmp_path / "run", name, 0.9)
    points = sorted((tmp_path / "run" / "checkpoints").iterdir())
    assert len(points) > 2
    old = load_checkpoint(points[1])
    live = {key: value for key, value in old.training.items() if key.startswith("method/")}
    surplus = {f"average/{key.removeprefix('method/').removeprefix('model.')}": value.clone() for key, value in live.items()}
    training = {**surplus, **old.training}
    assert len(training) > len(old.training)
    folder = tmp_path / "old" / points[1].name
    save_checkpoint(folder, parts={**old.tensors, "training": training}, state=old.state, config=old.config)
    train(tmp_path / "again", name, 0.9, resume=str(folder))
    whole, again = (load_checkpoint(tmp_path / run) for run in ("run", "again"))
    for part in ("encoder", "projector", "training"):
        assert weights_hash(again.tensors[part]) == weights_hash(whole.tensors[part])
