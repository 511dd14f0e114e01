"""`fewshot train` through the real command: learning from base classes, choosing on validation classes, starting from a checkpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.cli import fewshot, ssl
from kinshot.core.checkpoint import latest, load_checkpoint
from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.run_folder import chosen, read_best
from kinshot.fewshot.training_episodes import EpisodeShape, episode_order
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import TINY, command, environment, result, run

DATA = ["data=folder", "data.split=train", "data.size=16", "data.channels=1"]
BASE = ["views=clean", "projector.layers=0", "monitor.projector_points=0", "monitor.knn_every=0", "monitor.tensorboard=false"]
VALIDATION = ["validation.split=val", "validation.ways=5", "validation.queries=3", "validation.episodes=40"]
PROTONET = [*BASE, *VALIDATION, "method=protonet", "method.ways=8", "method.shots=1", "method.queries=3"]
CLASSIFIER = [*BASE, *VALIDATION, "method=classifier"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings of a source of blurred, shaken patterns, one for each class, with a split by classes."""
    root = tmp_path_factory.mktemp("patterns")
    rng = np.random.default_rng(0)
    for split, classes, images in (("train", 12, 16), ("val", 8, 6), ("test", 8, 8)):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            pattern = rng.uniform(0, 1, (4, 4)).repeat(4, 0).repeat(4, 1)
            for image in range(images):
                pixels = np.roll(pattern, rng.integers(-2, 3, 2), (0, 1)) + 0.25 * rng.standard_normal((16, 16))
                Image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8)).save(folder / f"{image}.png")
    return [*DATA, f"data.root={root}"]


@pytest.fixture(scope="module")
def trained(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ProtoNet run of three epochs."""
    folder = tmp_path_factory.mktemp("fewshot")
    done = run("fewshot", "train", TINY, *data, *PROTONET, "train.epochs=3", "--out", "run", "--json", "-q", cwd=folder)
    result(done)
    return folder / "run"


def test_the_chosen_checkpoint_is_the_best_on_validation_classes(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    measured = {line["step"]: line["eval/validation/accuracy"] for line in lines if "eval/validation/accuracy" in line}
    assert len(measured) == 3
    best = read_best(trained)
    assert best is not None
    assert best["step"] == max(measured, key=measured.get)
    assert best["accuracy"] == pytest.approx(max(measured.values()))
    assert load_checkpoint(trained, parts=("encoder",)).step == best["step"]
    found = json.loads((trained / "result.json").read_text())
    assert Path(found["checkpoint"]).name == f"step-{best['step']:08d}"
    assert found["best"]["accuracy"] == best["accuracy"]


def test_validation_measures_what_fewshot_eval_measures(data: list[str], trained: Path) -> None:
    best = read_best(trained)
    source = f"folder:{data[-1].partition('=')[2]}"
    args = ["eval", trained, "--data", source, "--split", "val", "--ways", "5", "--shots", "1", "--queries", "3"]
    found = result(run("fewshot", *args, "--episodes", "40", "--features", "backbone", "--json", "-q", cwd=trained.parent))
    row = next(row for row in found["rows"] if row["model"] == "pretrained")
    assert best is not None
    assert row["mean"] == pytest.approx(best["accuracy"], abs=1e-4)
    assert found["pretrained_by"][0].startswith("fewshot train")


def test_the_best_checkpoint_outlives_pruning_and_a_resumed_run_goes_on_from_the_newest(data: list[str], tmp_path: Path) -> None:
    settings = [*data, *CLASSIFIER, "train.epochs=5", "monitor.keep=1", "train.schedule=constant", "monitor.checkpoint_every=1"]
    recipe = load_recipe(str(TINY), settings)
    train_recipe(recipe, Options(tmp_path / "run", quiet=True), lambda text: None)
    best = read_best(tmp_path / "run")
    assert best is not None
    newest = latest(tmp_path / "run")
    first = sorted((tmp_path / "run" / "checkpoints").iterdir())[0]
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == (1 if first == newest else 2)
    assert chosen(tmp_path / "run") == tmp_path / "run" / "checkpoints" / f"step-{best['step']:08d}"
    assert newest is not None
    assert load_checkpoint(newest, parts=()).step == recipe.train.epochs * load_checkpoint(newest, parts=()).state["steps_per_epoch"]


@pytest.mark.parametrize("settings", [PROTONET, [*CLASSIFIER, "train.ema=0.9"]], ids=["protonet", "classifier-ema"])
def test_resume_from_every_checkpoint_ends_with_the_same_state(settings: list[str], data: list[str], tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), [*data, *settings, "monitor.keep=100", "monitor.checkpoint_every=0.4"])
    train_recipe(recipe, Options(tmp_path / "whole", quiet=True), lambda text: None)
    end = latest(tmp_path / "whole")
    assert end is not None
    expected, best = load_checkpoint(end), read_best(tmp_path / "whole")
    points = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    assert len(points) >= 5
    for point in points[:-1]:
        out = tmp_path / point.name
        train_recipe(recipe, Options(out, str(point), quiet=True), lambda text: None)
        again = latest(out)
        assert again is not None
        for part in ("encoder", "projector", "training"):
            assert weights_hash(load_checkpoint(again).tensors[part]) == weights_hash(expected.tensors[part]), point.name
        if best is not None and int(point.name[5:]) < best["step"]:
            assert read_best(out) == best


def test_kill_then_resume_equals_never_stopped(data: list[str], trained: Path, tmp_path: Path) -> None:
    given = ["train", str(TINY), *data, *PROTONET, "train.epochs=3", "--out", "killed", "-q"]
    process = subprocess.Popen(command("fewshot", *given), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("checkpoints/step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = result(run("fewshot", *given, "--resume", "auto", "--json", cwd=tmp_path))
    whole = json.loads((trained / "result.json").read_text())
    assert again["weights"] == whole["weights"]
    assert again["best"] == whole["best"]


def test_training_starts_from_a_pretrained_encoder(data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ssl.main(["pretrain", str(TINY), *data, "train.epochs=1", "monitor.tensorboard=false", "--out", "ssl", "-q"]) == 0
    given = ["train", str(TINY), *data, *CLASSIFIER, "train.epochs=1", "--init", "ssl", "-q"]
    assert fewshot.main([*given, "train.lr=1e-30", "--out", "run"]) == 0
    before, after = (load_checkpoint(tmp_path / name) for name in ("ssl", "run"))
    weights = [name for name in before.encoder if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert weights
    assert all(torch.equal(before.encoder[name], after.encoder[name]) for name in weights)
    assert after.state["input"] == before.state["input"]
    assert fewshot.main([*given, "train.lr=1e-30", "--out", "run", "--resume", "auto"]) == 0


MISTAKES = {
    "label-free recipe": ("fewshot", [], 2, "ssl pretrain"),
    "recipe with labels": ("ssl", PROTONET, 2, "fewshot train"),
    "batch": ("fewshot", [*PROTONET, "method.ways=9"], 2, "train.batch_size=36"),
    "ways": ("fewshot", [*PROTONET, "train.batch_size=80", "method.ways=20"], 3, "20-way episodes need 20 classes, got 12"),
    "shots": ("fewshot", [*PROTONET, "method.shots=0"], 2, "shots"),
    "images": ("fewshot", [*PROTONET, "method.shots=12", "method.queries=20", "method.ways=1"], 2, "ways"),
    "same split": ("fewshot", [*CLASSIFIER, "validation.split=train"], 2, "never saw"),
    "validation ways": ("fewshot", [*CLASSIFIER, "validation.ways=500"], 3, "500"),
    "typing error": ("fewshot", [*CLASSIFIER, "validation.wayz=5"], 2, "ways"),
    "unknown head": ("fewshot", [*CLASSIFIER, "validation.head=prototip"], 2, "prototype"),
    "unknown feature": ("fewshot", [*CLASSIFIER, "validation.feature=middle"], 2, "middle"),
    "no such split": ("fewshot", [*CLASSIFIER, "validation.split=valid"], 3, "valid"),
    "init of nothing": ("fewshot", [*CLASSIFIER, "--init", "nothing"], 3, "nothing"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_end_at_once_and_write_nothing(
    name: str, data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command_name, given, code, words = MISTAKES[name]
    main, first = (fewshot.main, "train") if command_name == "fewshot" else (ssl.main, "pretrain")
    assert main([first, str(TINY), *data, *given, "--out", "run"]) == code
    error = capsys.readouterr().err
    assert words in error
    assert "internal error" not in error
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_init_of_another_encoder_or_size_is_refused(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ssl.main(["pretrain", str(TINY), *data, "train.epochs=0", "monitor.tensorboard=false", "--out", "ssl", "-q"]) == 0
    given = ["train", str(TINY), *data, *CLASSIFIER, "--init", "ssl", "--out", "other"]
    assert fewshot.main([*given, "encoder.width=9"]) == 2
    assert "width" in capsys.readouterr().err
    assert fewshot.main([*given, "data.size=20"]) == 2
    assert "data.size" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def context(labels: np.ndarray, batch: int, steps: int = 3) -> RunContext:
    return RunContext(len(labels), batch, steps, steps, 0, torch.from_numpy(labels))


def test_training_episodes_have_different_classes_and_images_and_are_keyed_by_epoch() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(9), 7))
    shape = EpisodeShape(ways=4, shots=2, queries=3, tasks=2)
    order = episode_order("test", context(labels, 40), shape)
    first = order(0)
    assert first.shape == (3, 40)
    assert torch.equal(first, order(0))
    assert not torch.equal(first, order(1))
    for episode in first.view(-1, 4, 5):
        classes = labels[episode.numpy()]
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0].tolist())) == 4
        assert len(set(episode.flatten().tolist())) == 20
    support, query = shape.split(first[0])
    assert support.shape == (2, 4, 2)
    assert query.shape == (2, 4, 3)
    s, s_ways, q, q_ways = shape.sets(first[0])
    assert torch.equal(s, support.flatten(1))
    assert s_ways.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2
    assert q_ways.tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]] * 2
    assert torch.equal(q, query.flatten(1))


def test_every_class_is_drawn_about_equally_often() -> None:
    labels = np.repeat(np.arange(10), [5, 50, 5, 5, 100, 5, 5, 5, 5, 5])
    order = episode_order("test", context(labels, 20, steps=500), EpisodeShape(5, 1, 3))
    classes = labels[order(0).view(-1, 4)[:, 0].numpy()]
    assert np.bincount(classes) == pytest.approx(np.full(10, 250), abs=50)


def test_errors_of_training_episodes_name_the_counts() -> None:
    labels = np.repeat(np.arange(4), 6)
    with pytest.raises(ConfigError, match=r"train\.batch_size=40"):
        episode_order("test", context(labels, 32), EpisodeShape(4, 2, 3, tasks=2))
    with pytest.raises(DataError, match="5-way episodes need 5 classes, got 4"):
        episode_order("test", context(labels, 20), EpisodeShape(5, 1, 3))
    with pytest.raises(DataError, match="has 6 images"):
        episode_order("test", context(labels, 28), EpisodeShape(4, 3, 4))
    unlabelled = RunContext(24, 16, 1, 1, 0)
    with pytest.raises(ConfigError, match="the data has none"):
        episode_order("test", unlabelled, EpisodeShape(4, 1, 3))


def test_protonet_recipe_is_what_its_paper_trains() -> None:
    recipe = load_recipe("omniglot_protonet")
    assert recipe.method.settings["ways"] * (recipe.method.settings["shots"] + recipe.method.settings["queries"]) == recipe.train.batch_size
    assert recipe.validation.split == "val"
    assert recipe.data.settings["rotations"] is True
