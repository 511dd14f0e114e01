"""Every method of sensors runs through the real commands: stopped anywhere it goes on bit for bit, and it is evaluated as it is."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kinshot.cli import fewshot
from kinshot.core.checkpoint import load_checkpoint
from kinshot.learn import METHODS
from kinshot.learn.features import weights_hash
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.spec import accepted_kinds
from tests.test_contract_methods import JOINED
from tests.tiny import command, environment

KINDS = ("bundle", "series")
RECIPE = """
data: {name: motion, split: train, subjects: 4, seconds: 1.28, step: 0.64, stretch: 4.0, missing: 0.3}
encoder: {name: fused, each: "series_cnn:widths=[6, 8]:kernels=[4, 4]:strides=[2, 2]"}
projector: {hidden: 16, dim: 8}
train: {epochs: 2, batch_size: 16, threads: 1, warmup: 0.1, lr: 1.0e-3}
monitor: {log_every: 1, checkpoint_every: 0.75, keep: 100, knn_samples: 32, knn_every: 2, projector_points: 0, tensorboard: false}
"""
VIEWS = {"ts_tcc": ["views=weak_strong"], "ts2vec": ["views=crops"], "masked_reconstruction": ["views=hidden_spans"]}
OF_BUNDLES = {"masked_reconstruction": ["views.modality=0.3"], "ts2vec": ["encoder.each=tcn:hidden=6:depth=2:features=8"]}
OF_SERIES = ["encoder=series_cnn", "encoder.widths=[6, 8]", "encoder.kernels=[4, 4]", "encoder.strides=[2, 2]"]
TCN = ["encoder=tcn", "encoder.hidden=6", "encoder.depth=2", "encoder.features=8"]
SMALL = {
    "ts_tcc": ["method.hidden=12", "method.layers=1"],
    "tnc": ["method.length=4"],
    "barlow_x": ["method.intra=0.5"],
    "vicreg_x": ["method.intra=0.5"],
}
KILLED = ("cmc", "tnc")
CASES = [(name, kind) for name in METHODS.names() for kind in KINDS if kind in METHODS.entry(name).flags.get("accepts", ())]


def overrides(name: str, kind: str) -> list[str]:
    """What a method wants of the recipe."""
    part = METHODS.get(name)
    found = [f"method={name}", *SMALL.get(name, []), *VIEWS.get(name, ["views=sensor", f"views.views={part.view_count}"])]
    if part.uses == ():
        found += ["projector.layers=0"]
    if accepted_kinds(part) == ("bundle",) and name not in JOINED:
        found += ["projector.modalities=true"]
    if kind == "bundle":
        return [*found, *OF_BUNDLES.get(name, [])]
    return [*found, "data.sensors=[accelerometer]", *(TCN if name == "ts2vec" else OF_SERIES)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "sensors.yaml"
    path.write_text(RECIPE)
    return path


def hashes(path: Path) -> dict[str, str]:
    """Hashes of everything a run leaves: exported weights and the whole training state."""
    found = load_checkpoint(path)
    return {part: weights_hash(getattr(found, part)) for part in ("encoder", "projector", "training")}


def records(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_run_of_sensors_resumes_bit_for_bit_and_is_evaluated(
    name: str, kind: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = load_recipe(str(recipe), overrides(name, kind))
    train_recipe(wanted, Options(tmp_path / "whole", quiet=True), lambda text: None)
    points = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    # the one of step 3, inside the first epoch
    train_recipe(wanted, Options(tmp_path / "again", str(points[1]), quiet=True), lambda text: None)
    assert hashes(tmp_path / "again") == hashes(tmp_path / "whole")
    found = records(tmp_path / "whole")
    assert {row["step"] for row in found if "train/loss" in row} == set(range(1, load_checkpoint(points[-1]).state["step"] + 1))
    assert all(value is not None and math.isfinite(value) for row in found for value in row.values())
    task = ["--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "4", "--features", "backbone", "--no-reference", "--json"]
    assert fewshot.main(["eval", str(tmp_path / "whole"), *task]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert 0 <= row["mean"] <= 100
    assert row["n"] == 4


@pytest.mark.parametrize("name", KILLED)
def test_a_run_of_sensors_that_is_killed_ends_as_one_that_was_not(name: str, recipe: Path, tmp_path: Path) -> None:
    settings = [*overrides(name, "bundle"), "train.epochs=6"]
    wanted = load_recipe(str(recipe), settings)
    train_recipe(wanted, Options(tmp_path / "whole", quiet=True), lambda text: None)
    line = ["pretrain", recipe, *settings, "--out", "killed", "-q"]
    process = subprocess.Popen(command("ssl", *line), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("checkpoints/step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train_recipe(wanted, Options(tmp_path / "killed", "auto", quiet=True), lambda text: None)
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
