"""`fewshot generalized`, `crossdomain`, `lowshot` and `imprint` through the real commands, against direct computations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kinshot.cli.fewshot import main
from kinshot.core.checkpoint import load_checkpoint
from kinshot.fewshot.joint import KEPT, VALIDATION, hold_out
from kinshot.fewshot.protocols import all_way_episodes
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import own_split
from kinshot.studies.joint_data import own_test_images
from kinshot.studies.results import result_block
from tests.study_runs import DIGITS, NOVEL, VAL, call, cells, draws_of, features, harmonic, joint, rest, source, unit, write_run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("digits") / "run", DIGITS)


def scores_of(run: Path, head: str, split: str, shots: int, draw: Any) -> list[np.ndarray]:
    """Scores of all images of digits' `split` part and of a draw's queries, for one head, in float64 numpy."""
    x = features(run, "digits", **rest(DIGITS)).double().numpy()
    labels = source("digits", **rest(DIGITS)).labels
    kept = hold_out(labels, test=0.0, validation=0.1, seed=0)
    base = x[kept == VALIDATION] if split == "held" else features(run, "digits", split="test", size=16).double().numpy()
    z = features(run, "glyphs", split="test" if split == "held" else "val", variants=4, size=16).double().numpy()
    x, base, z = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, base, z))
    rows = np.stack([x[(kept == KEPT) & (labels == c)].mean(0) for c in range(10)])
    if head == "rows":
        rows = load_checkpoint(run).tensors["rows"]["weight"].double().numpy()
    new = np.stack([z[images[:shots]].mean(0) for images in draw.exemplars])
    rows = np.concatenate([rows, new])
    if head == "prototype":
        return [-((v[:, None] - rows[None]) ** 2).sum(-1) for v in (base, z[draw.query])]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return [(8.0 if head == "rows" else 1.0) * v @ rows.T for v in (base, z[draw.query])]


@pytest.mark.parametrize("head", ["prototype", "imprinted", "rows"])
def test_generalized_agrees_with_whole_scores(digits, capsys, head):
    given = ["--novel", NOVEL, "--validation", VAL, "--heads", head, "--shots", "1,2", "--ways", "6", "--draws", "3", "-q"]
    result = call(capsys, "generalized", digits, *given)
    found, truth = cells(result), source("digits", split="test", size=16).labels
    draws = draws_of("val", 6, 2, 3)
    for shots in (1, 2):
        name, block = f"pretrained, backbone, {head}", f"{shots}-shot, %: "
        each = [(scores_of(digits, head, "test", shots, draw), draw.query_ways) for draw in draws]
        expected = np.array([joint(b, truth, n, ways, 10) for (b, n), ways in each])
        for measure, value in zip(("base", "novel", "micro", "base alone", "novel alone"), expected.mean(0), strict=True):
            assert found[name, block + measure] == pytest.approx(value, abs=1e-9)
        assert found[name, block + "harmonic"] == pytest.approx(np.mean([harmonic(*e[:2]) for e in expected]))
        assert found[name, block + "arithmetic"] == pytest.approx(expected[:, :2].mean())
        assert found[name, block + "base delta"] == pytest.approx((expected[:, 3] - expected[:, 0]).mean())
        assert found[name, block + "AUSUC"] == pytest.approx(np.mean([area(b, truth, n, ways) for (b, n), ways in each]), abs=1e-6)
        offset = found[f"{name}, calibrated", f"{shots}-shot: offset"]
        calibrated = np.mean([joint(b, truth, n, ways, 10, offset) for (b, n), ways in each], axis=0)
        assert found[f"{name}, calibrated", block + "base"] == pytest.approx(calibrated[0])
        assert found[f"{name}, calibrated", block + "novel"] == pytest.approx(calibrated[1])
        check_offset(digits, head, shots, offset)
    assert 0 < found[name, "2-shot, %: base"] <= 100
    assert result["data"]["base test images"] == "355 of digits/test"
    assert "6 validation classes" in result["protocol"]["offset"]


def area(base: np.ndarray, labels: np.ndarray, novel: np.ndarray, ways: np.ndarray) -> float:
    """Area under novel over base accuracy, in percent, by trapezoids between all offsets that matter."""
    margins = np.concatenate([s[:, :10].max(1) - s[:, 10:].max(1) for s in (base, novel)])
    points = np.unique(margins)
    offsets = [points[0] - 1, *((points[1:] + points[:-1]) / 2), points[-1] + 1]
    curve = np.array([joint(base, labels, novel, ways, 10, g)[:2] for g in offsets]) / 100
    return 100 * float(np.sum(-np.diff(curve[:, 0]) * (curve[1:, 1] + curve[:-1, 1]) / 2))


def check_offset(run: Path, head: str, shots: int, offset: float) -> None:
    """No offset of a fine grid has a larger harmonic mean on validation classes than the one that was chosen."""
    labels = source("digits", **rest(DIGITS)).labels
    labels = labels[hold_out(labels, test=0.0, validation=0.1, seed=0) == VALIDATION]
    each = [(scores_of(run, head, "held", shots, draw), draw.query_ways) for draw in draws_of("test", 6, 2, 3)]

    def value(g: float) -> float:
        return harmonic(*np.mean([joint(b, labels, n, ways, 10, g)[:2] for (b, n), ways in each], axis=0))

    assert value(offset) >= max(value(g) for g in np.linspace(-1, 1, 81)) - 1e-6


def test_generalized_holds_base_images_out_where_it_must_and_says_so(tmp_path, capsys):
    run = write_run(tmp_path / "run", {"name": "glyphs", "split": "val", "variants": 6, "size": 16})
    common = ["generalized", run, "--shots", "1", "--ways", "5", "--draws", "2"]
    capsys.readouterr()
    assert main([*map(str, common), "--results", str(tmp_path / "out.json"), "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "training saw them" in said.err
    assert "training saw them" in said.out
    assert "1-shot, %" in said.out
    document = json.loads((tmp_path / "out.json").read_text())
    labels = [row["label"] for row in document["rows"]]
    assert any("rows" in label for label in labels)
    assert not any("calibrated" in label for label in labels)
    assert all(row.keys() == {"label", "metric", "mean", "ci95", "n"} and row["n"] == 2 for row in document["rows"])
    assert document["data"]["base classes"] == 86
    assert document["data"]["novel"] == "glyphs/test"
    assert document["data"]["offset"].startswith("none")
    assert "## out" in result_block(tmp_path / "out.json")


def test_own_data_gives_test_images_of_its_classes_where_it_can():
    grocery = Choice("grocery_store", {"root": "x", "split": "train", "part": "train"})
    assert own_test_images(grocery) == Choice("grocery_store", {"root": "x", "split": "train", "part": "test"})
    assert own_test_images(Choice("grocery_store", {"root": "x", "split": "train"})) is None
    assert own_split(grocery, "test") == Choice("grocery_store", {"root": "x", "split": "test"})
    assert own_split(Choice("digits", {"split": "test"}), "test") is None
    assert own_split(Choice("digits", {"split": "train"}), "val") is None


def test_crossdomain_is_eval_of_every_source_and_averages_seeds(digits, tmp_path, capsys):
    other = write_run(tmp_path / "other", DIGITS, seed=1)
    task = ["--ways", "3", "--shots", "1,2", "--queries", "2", "--episodes", "6", "--features", "backbone", "-q"]
    sources = ["--data", NOVEL, "--data", "digits"]
    alone = call(capsys, "crossdomain", digits, *sources, *task)
    for name, data in (
        ("glyphs/val", ["--data", "glyphs", "--split", "val", "--set", "variants=4"]),
        ("digits/test", ["--data", "digits"]),
    ):
        expected = call(capsys, "eval", digits, *data, *task)
        for row in expected["rows"]:
            model = {"pretrained": "digits/train"}.get(row["model"], row["model"])
            key = f"{model}, {row['feature']}, prototype", f"{row['ways']}-way {row['shots']}-shot, %: {name}"
            mine = next(r for r in alone["rows"] if (r["label"], r["metric"]) == key)
            assert (mine["mean"], mine["ci95"], mine["n"]) == (row["mean"], row["ci95"], row["n"])
    assert len(alone["rows"]) == 3 * 2 * 2
    both = call(capsys, "crossdomain", digits, other, *sources, *task, "--no-reference")
    second = call(capsys, "crossdomain", other, *sources, *task, "--no-reference")
    for row in both["rows"]:
        assert row["n"] == 2
        assert row["mean"] == pytest.approx(np.mean([cells(r)[row["label"], row["metric"]] for r in (alone, second)]))
    assert {row["label"] for row in both["rows"]} == {"digits/train, backbone, prototype"}


def test_crossdomain_tells_runs_apart_that_differ_by_more_than_the_seed(digits, tmp_path, capsys):
    other = write_run(tmp_path / "other", DIGITS, method="simclr")
    result = call(
        capsys, "crossdomain", digits, other, "--data", "digits", "--ways", "2", "--shots", "1", "--episodes", "3", "--no-reference", "-q"
    )
    assert {row["label"] for row in result["rows"]} == {f"digits/train ({run}), backbone, prototype" for run in (digits, other)}


def test_lowshot_is_logistic_regression_on_a_few_images_of_every_class(digits, capsys):
    result = call(capsys, "lowshot", digits, "--shots", "1,3,99", "--draws", "2", "-q")
    x, labels = unit(features(digits, "digits", split="test", size=16)).double().numpy(), source("digits", split="test", size=16).labels
    for shots in (1, 3):
        episodes = all_way_episodes(labels, shots=shots, episodes=2, seed=0)
        accuracy = []
        for support, query in zip(episodes.support.numpy(), episodes.query.numpy(), strict=True):
            model = LogisticRegression(C=1.0, tol=1e-8, max_iter=2000).fit(x[support], labels[support])
            accuracy.append(100 * np.mean(model.predict(x[query]) == labels[query]))
        metric = f"accuracy over images, %: {shots} per class"
        assert cells(result)["pretrained, backbone, logistic", metric] == pytest.approx(np.mean(accuracy), abs=0.3)
    assert result["protocol"]["labelled images of each class"] == "1, 3"
    assert {row["label"].split(",")[0] for row in result["rows"]} == {"pretrained", "untrained", "raw pixels"}


def test_lowshot_tests_on_other_images_when_told(digits, tmp_path, capsys):
    given = [
        "--data",
        "digits,split=train",
        "--test",
        "digits",
        "--shots",
        "2",
        "--draws",
        "2",
        "--heads",
        "prototype",
        "--no-reference",
        "-q",
    ]
    result = call(capsys, "lowshot", digits, write_run(tmp_path / "other", DIGITS, seed=1), *given)
    assert result["protocol"]["tested on"] == "355 images of digits/test"
    by_label = {row["label"]: row["mean"] for row in result["rows"] if row["metric"].startswith("accuracy over images")}
    mean, *each = by_label.values()
    assert next(iter(by_label)) == "mean of 2, backbone, prototype"
    assert mean == pytest.approx(np.mean(each))
    same = ["--data", "digits", "--test", "digits", "--shots", "2"]
    assert "labelled images" in call(capsys, "lowshot", digits, *same, code=2)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["generalized"], 2, "give --novel"),
        (["generalized", "--novel", "glyfs"], 2, "glyphs"),
        (["generalized", "--novel", "glyphs,split=vla"], 2, "split"),
        (["generalized", "--novel", NOVEL, "--heads", "protoype"], 2, "prototype"),
        (["generalized", "--novel", NOVEL, "--features", "backbon"], 2, "backbone"),
        (["generalized", "--novel", NOVEL, "--shots", "4"], 3, "smallest class has 4 images"),
        (["generalized", "--novel", NOVEL, "--ways", "87"], 3, "87 classes, got 86"),
        (["generalized", "--novel", NOVEL, "--validation", NOVEL], 2, "must not be novel"),
        (["generalized", "--novel", NOVEL, "--base-test", "digits,split=train,size=16"], 2, "base images themselves"),
        (["generalized", "--novel", NOVEL, "--base-test", NOVEL], 3, "no image of a class of digits"),
        (["generalized", "--novel", NOVEL, "--draws", "0"], 2, "--draws"),
        (["generalized", "--novel", NOVEL, "--heads", "rows", "--base", "digits"], 2, "leave --base out"),
        (["crossdomain"], 2, "--data"),
        (["crossdomain", "--data", "digits", "--ways", "11"], 3, "11"),
        (["lowshot", "--shots", "50"], 3, "50 shots and 1 test image"),
        (["lowshot", "--heads", "distribution_calibration"], 2, "base classes"),
        (["imprint", "--novel", NOVEL, "--starts", "randon"], 2, "random"),
        (["imprint", "--novel", NOVEL, "--lr", "fast"], 2, "--lr"),
        (["imprint", "--novel", NOVEL, "--jointly", "20"], 2, "STEPS:LR"),
    ],
)
def test_mistakes_are_told_with_the_exit_code(digits, capsys, args, code, words):
    assert words in call(capsys, args[0], digits, *args[1:], "-q", code=code)


def test_a_run_without_a_cosine_classifier_cannot_be_imprinted_but_measured(tmp_path, capsys):
    run = write_run(tmp_path / "run", DIGITS, method="simclr")
    assert "no cosine classifier" in call(capsys, "imprint", run, "--novel", NOVEL, code=2)
    assert "no cosine classifier" in call(capsys, "generalized", run, "--novel", NOVEL, "--heads", "rows", code=2)
    result = call(capsys, "generalized", run, "--novel", NOVEL, "--shots", "1", "--draws", "2", "-q")
    assert {row["label"] for row in result["rows"]} == {"pretrained, backbone, prototype", "pretrained, backbone, imprinted"}
