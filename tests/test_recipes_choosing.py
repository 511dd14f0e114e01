"""`fewshot eval --choose val`: settings and features are chosen on validation classes, and only those are measured on the test classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinshot.cli import fewshot
from kinshot.core.errors import ConfigError
from kinshot.fewshot.specs import GRIDS, alternatives, parse_head
from tests.study_runs import call, write_run

GLYPHS = {"name": "glyphs", "split": "train", "variants": 4, "size": 16}
TASK = ["--ways", "3", "--shots", "1,2", "--queries", "2", "--episodes", "8", "-q"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("choosing")
    return [write_run(place / f"seed={seed}", GLYPHS, method="simclr", seed=seed) for seed in (0, 1)]


def means(result: dict[str, Any], models: list[str]) -> dict[tuple[str, str], float]:
    """Mean over tasks and models of every head and feature."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in result["rows"]:
        if row["model"] in models:
            found.setdefault((row["head"], row["feature"]), []).append(row["mean"])
    return {key: float(np.mean(values)) for key, values in found.items()}


def test_alternatives_are_products_and_every_one_of_them_is_a_head() -> None:
    assert alternatives("logistic:C=0.1|1") == ["logistic:C=0.1", "logistic:C=1"]
    assert alternatives("prototype:distance=cosine|euclidean:transform=none|l2n") == [
        f"prototype:distance={d}:transform={t}" for d in ("cosine", "euclidean") for t in ("none", "l2n")
    ]
    assert alternatives("nearest") == ["nearest"]
    assert alternatives("logistic:C=1") == ["logistic:C=1"]
    for name, grid in GRIDS.items():
        found = [parse_head(text)[1] for text in alternatives(name)]
        assert len(found) == np.prod([len(values) for values in grid.values()])
    for text, words in (("logistic:C=1|x", "C"), ("logistic:D=1|2", "C"), ("logistc:C=1|2", "logistic"), ("logistic:C=1||2", "missing")):
        with pytest.raises(ConfigError, match=words):
            alternatives(text)


def test_what_is_best_on_validation_classes_is_measured_on_test_classes_and_nothing_else(runs: list[Path], capsys) -> None:
    heads = ["prototype", "logistic:C=0.01", "logistic:C=10"]
    every = ["--heads", ",".join(heads), "--features", "backbone,projector"]
    data = ["--data", "glyphs", "--set", "variants=4"]
    validation = call(capsys, "eval", *runs, *data, "--split", "val", *TASK, *every, "--no-reference")
    test = call(capsys, "eval", *runs, *data, *TASK, *every)
    models = [str(run) for run in runs]
    expected = means(validation, models)
    chosen = call(
        capsys,
        "eval",
        *runs,
        *data,
        *TASK,
        "--choose",
        "val",
        "--heads",
        "prototype:transform=l2n,logistic:C=0.01|10",
        "--features",
        "backbone,projector",
    )
    account = chosen["chosen on validation"]
    tried = {(one["head"], one["feature"]): one["accuracy"] for one in account["tried"]}
    assert {(head.replace(":transform=l2n", ""), feature): value for (head, feature), value in tried.items()} == pytest.approx(expected)
    best = {max((key for key in tried if key[0].startswith(name)), key=lambda key: tried[key]) for name in ("prototype", "logistic")}
    assert {(one["head"], one["feature"]) for one in account["chosen"]} == best
    assert account["data"]["name"] == "glyphs/val"
    rows = [row for row in chosen["rows"] if row["model"] in models]
    assert {(row["head"], row["feature"]) for row in rows} == best
    told = {(r["model"], r["head"], r["feature"], r["shots"]): r["mean"] for r in test["rows"]}
    for row in rows:
        assert row["mean"] == told[row["model"], row["head"].replace(":transform=l2n", ""), row["feature"], row["shots"]]
    assert {row["feature"] for row in chosen["rows"] if row["model"].startswith("untrained")} == {feature for _, feature in best}
    text = chosen["protocol"]["chosen on validation"]
    assert text.startswith("on glyphs/val (")
    assert all(f"{head} on {feature} {value:.2f}" in text for (head, feature), value in tried.items())
    assert "seen in training, validation" in chosen["protocol"]


def test_the_table_tells_it_and_results_keep_it(runs: list[Path], tmp_path: Path, capsys) -> None:
    line = ["eval", runs[0], *TASK, "--choose", "val", "--heads", "prototype", "--features", "backbone", "--no-reference"]
    assert fewshot.main([*map(str, line), "--device", "cpu", "--results", str(tmp_path / "r.json")]) == 0
    text = capsys.readouterr().out
    assert "chosen on glyphs/val: 86 classes, 8 episodes (seed 0)" in text
    told = [line.split() for line in text.splitlines() if line.startswith("prototype:distance=")]
    assert [len(words) for words in told] == [4, 3]  # best first, the best one marked
    assert told[0][3] == "chosen"
    assert float(told[0][2]) >= float(told[1][2])
    assert "also tried" in json.loads((tmp_path / "r.json").read_text())["data"]["chosen on validation"]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--heads", "logistic:C=1|2"], 2, "add --choose val"),
        (["--validation", "digits"], 2, "add --choose val"),
        (["--choose", "test"], 2, "val"),
        (["--choose", "val", "--episode-list", "lake"], 2, "--episode-list"),
        (
            ["--choose", "val", "--validation", "glyphs,split=test,variants=4"],
            2,
            "must not be test classes: glyphs/test and glyphs/test share",
        ),
        (["--choose", "val", "--validation", "digits", "--ways", "11"], 3, "11"),
        (["--per-episode"], 2, "--json"),
    ],
)
def test_mistakes_are_told(runs: list[Path], capsys, args: list[str], code: int, words: str) -> None:
    assert words in call(capsys, "eval", runs[0], *TASK, *args, "--no-reference", code=code)


def test_a_run_without_validation_classes_needs_them_named(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", {"name": "digits", "split": "train", "size": 16}, method="simclr")
    line = ["eval", run, *TASK, "--choose", "val", "--no-reference"]
    assert "no split val to choose on" in call(capsys, *line, code=2)
    found = call(capsys, *line, "--validation", "glyphs,variants=4", "--features", "backbone")
    assert found["chosen on validation"]["data"]["name"] == "glyphs/val"


def test_accuracies_of_single_episodes_are_those_that_the_rows_are_means_of(runs: list[Path], capsys) -> None:
    line = ["eval", *runs, *TASK, "--heads", "prototype,nearest", "--features", "backbone"]
    assert "per episode" not in call(capsys, *line)
    found = call(capsys, *line, "--per-episode")
    rows = {tuple(r[k] for k in ("model", "feature", "head", "ways", "shots")): r for r in found["rows"]}
    assert len(found["per episode"]) == (2 + 1 + 1) * 2 * 2
    for one in found["per episode"]:
        row = rows[tuple(one[k] for k in ("model", "feature", "head", "ways", "shots"))]
        assert len(one["accuracy"]) == 8
        assert np.mean(one["accuracy"]) == pytest.approx(row["mean"], abs=1e-3)


def test_a_folder_beside_the_training_folder_holds_validation_classes(tmp_path: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    for split, names in (("train", "ab"), ("val", "cde"), ("test", "fgh")):
        for name in names:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for number in range(4):
                Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / "data" / split / name / f"{number}.png")
    data = {"name": "folder", "root": str(tmp_path / "data"), "split": "train", "size": 16, "channels": 1}
    run = write_run(tmp_path / "run", data, method="simclr")
    found = call(capsys, "eval", run, *TASK, "--choose", "val", "--no-reference", "--features", "backbone")
    assert found["chosen on validation"]["data"]["name"] == "folder/val"
    assert found["data"]["name"] == "folder/test"
