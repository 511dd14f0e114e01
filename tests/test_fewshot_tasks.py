"""`fewshot eval` with every way of drawing episodes, and heads compared on the same ones, through the real command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.fewshot.protocols import variable_episodes
from kinshot.studies.tasks import ALL_WAYS, Drawing, Tasks, make_tasks
from tests.tiny import TINY, result, run

COMMON = ["--data", "digits", "--features", "backbone", "--no-reference", "-q"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    result(run("ssl", "pretrain", TINY, "train.epochs=1", "monitor.tensorboard=false", "--out", "run", "--json", "-q", cwd=folder))
    return folder


def evaluated(folder: Path, *args: str):
    return result(run("fewshot", "eval", "run", *COMMON, "--json", *args, cwd=folder))


def test_saved_episodes_give_the_same_accuracy_again(trained):
    drawn = evaluated(
        trained, "--ways", "3", "--shots", "2", "--queries", "4", "--episodes", "6", "--unbalanced", "2", "--save-episodes", "list.json"
    )
    again = evaluated(trained, "--episode-list", "list.json")
    assert again["rows"][0]["mean"] == drawn["rows"][0]["mean"]
    assert (again["rows"][0]["ways"], again["rows"][0]["shots"]) == (3, 2)
    assert again["protocol"]["episode hashes"] == drawn["protocol"]["episode hashes"]
    assert "Dirichlet(2)" in drawn["protocol"]["queries"]
    balanced = evaluated(trained, "--ways", "3", "--shots", "2", "--queries", "4", "--episodes", "6")
    assert balanced["protocol"]["episode hashes"] != drawn["protocol"]["episode hashes"]


def test_all_ways_asks_for_every_class(trained):
    found = evaluated(trained, "--ways", "all", "--shots", "1", "--queries", "3", "--episodes", "4")
    assert found["rows"][0]["ways"] == found["data"]["classes"] == 10


def test_ranges_draw_episodes_that_differ_in_size(trained):
    arguments = ["--ways", "3-6", "--shots", "1-4", "--queries", "3", "--episodes", "40"]
    heads = ["--heads", "prototype,nearest"]
    found = evaluated(trained, *arguments, *heads, "--save-episodes", "differing.npz")
    assert [(row["ways"], row["shots"], row["n"]) for row in found["rows"]] == [("3-6", "1-4", 40)] * 2
    assert "every class its own number" in found["protocol"]["sizes"]
    assert found["heads paired"][0]["mean"] == pytest.approx(found["rows"][1]["mean"] - found["rows"][0]["mean"])
    again = evaluated(trained, *heads, "--episode-list", "differing.npz")
    assert [row["mean"] for row in again["rows"]] == [row["mean"] for row in found["rows"]]
    assert again["protocol"]["episode hashes"] == found["protocol"]["episode hashes"]
    assert again["heads paired"] == found["heads paired"]
    one = evaluated(trained, "--ways", "3,3-6", "--shots", "2", "--queries", "3", "--episodes", "10")
    assert [(row["ways"], row["shots"]) for row in one["rows"]] == [(3, 2), ("3-6", 2)]
    text = run("fewshot", "eval", "run", *COMMON, *arguments, cwd=trained).stdout
    assert "3-6-way 1-4-shot" in text
    assert "sizes: uniform in their ranges, every class its own number of shots" in text


def test_episodes_that_differ_are_answered_as_one_by_one(trained):
    arguments = ["--ways", "2-5", "--shots", "1-3", "--queries", "2", "--episodes", "30", "--seed", "3"]
    done = run("fewshot", "eval", "run", *arguments, "--data", "digits", "--features", "backbone", "--json", "-q", cwd=trained)
    [pixels] = [row for row in result(done)["rows"] if row["feature"] == "pixels"]
    source = SOURCES.build("digits", settings={"split": "test", "size": 16})
    images = _unit(source.load(np.arange(len(source))).double().flatten(1).numpy())
    drawn = variable_episodes(np.asarray(source.labels), ways=(2, 5), shots=(1, 3), queries=2, episodes=30, seed=3)
    accuracy = np.full(30, np.nan)
    for group, numbers in zip(drawn.groups, drawn.numbers, strict=True):
        for e, number in enumerate(numbers.tolist()):
            support, ways = images[group.support[e].numpy()], group.support_labels[e].numpy()
            means = _unit(np.stack([support[ways == way].mean(0) for way in range(group.ways)]))
            nearest = [int(np.argmax(means @ images[q])) for q in group.query[e].tolist()]
            accuracy[number] = 100 * np.mean(np.array(nearest) == group.query_labels[e].numpy())
    assert pixels["mean"] == pytest.approx(accuracy.mean())
    assert pixels["ci95"] == pytest.approx(scipy.stats.t.ppf(0.975, 29) * accuracy.std(ddof=1) / np.sqrt(30))


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_heads_are_compared_with_the_first_on_the_same_episodes(trained):
    arguments = ["--ways", "3", "--shots", "1", "--queries", "4", "--episodes", "12"]
    heads = "prototype,nearest,prototype:distance=euclidean:transform=cl2n,distribution_calibration:samples=20"
    found = evaluated(trained, *arguments, "--heads", heads, "--base", "digits")
    assert [d["against"] for d in found["heads paired"]] == ["prototype"] * 3
    means = {row["head"]: row["mean"] for row in found["rows"]}
    for d in found["heads paired"]:
        assert d["mean"] == pytest.approx(means[d["head"]] - means["prototype"])
        assert d["wins"] + d["losses"] <= d["n"] == 12
        assert 0 <= d["p"] <= 1
    same = evaluated(trained, *arguments, "--heads", "prototype,prototype:distance=cosine")
    assert (same["heads paired"][0]["mean"], same["heads paired"][0]["p"]) == (0, 1)
    text = run("fewshot", "eval", "run", *COMMON, *arguments, "--heads", "prototype,nearest", cwd=trained).stdout
    assert "paired on the same episodes; Holm" in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--ways", "11"], 3, "10"),
        (["--ways", "all", "--unbalanced", "2"], 2, "number of ways"),
        (["--unbalanced", "-1"], 2, "--unbalanced"),
        (["--unbalanced", "2", "--shots", "5", "--queries", "25"], 3, "lower --queries"),
        (["--shots", "1,5", "--save-episodes", "x.json"], 2, "--save-episodes keeps one task"),
        (["--save-episodes", "x.txt", "--shots", "1"], 2, "x.txt"),
        (["--episode-list", "nothing.json"], 3, "nothing.json"),
        (["--episode-list", "lake"], 3, "one-shot runs"),
        (["--heads", "feat"], 2, "fewshot train"),
        (["--ways", "5-3"], 2, "--ways: expected numbers from 1 or ranges such as 2-10"),
        (["--shots", "1-"], 2, "--shots: expected numbers from 1 or ranges"),
        (["--ways", "9" * 5000], 2, "--ways: expected numbers from 1 or ranges"),
        (["--ways", "1-3"], 2, "ways must be at least 2, got 1"),
        (["--ways", "2-11"], 3, "11-way episodes need 11 classes, got 10"),
        (["--ways", "all", "--shots", "1-5"], 2, "--ways all needs one number at a time, got the range 1-5"),
        (["--ways", "3-5", "--unbalanced", "2"], 2, "--unbalanced needs one number at a time, got the range 3-5"),
        (["--ways", "5", "--shots", "200"], 3, "200"),
    ],
)
def test_what_cannot_be_drawn_is_refused(trained, arguments, code, words):
    done = run("fewshot", "eval", "run", *COMMON, *arguments, cwd=trained)
    assert done.returncode == code, done.stderr
    assert words in done.stderr


def test_episodes_of_other_data_are_refused(trained):
    evaluated(trained, "--ways", "3", "--shots", "1", "--episodes", "3", "--save-episodes", "other.npz")
    done = run("fewshot", "eval", "run", *COMMON, "--split", "train", "--episode-list", "other.npz", cwd=trained)
    assert done.returncode == 3
    assert "other.npz" in done.stderr
    with np.load(trained / "other.npz", allow_pickle=False) as kept:
        assert "support_0" in kept.files


def drawn(counts: list[int], **given: Any) -> tuple[Tasks, str]:
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.arange(len(labels), dtype=np.uint32).view(np.uint8).reshape(-1, 1, 2, 2)  # no two alike
    source = ArraySource(images, labels, list("abcdefg")[: len(counts)])
    drawing = Drawing(**{"ways": None, "shots": [1, 5], "queries": None, "episodes": 4, "seed": 0, **given})
    tasks = make_tasks(source, drawing)
    return tasks, str(drawing.describe(tasks)["queries"])


def test_sizes_that_are_not_given_follow_the_classes() -> None:
    tasks, told = drawn([12, 30, 30])
    assert list(tasks) == [(3, 1), (3, 5)]  # three classes in place of five
    assert [task.query.shape[1] // 3 for task in tasks.values()] == [7, 7]
    assert told == "7 per class, as the smallest class has no more beside 5 shots"
    tasks, told = drawn([40] * 6)
    assert (list(tasks), told) == ([(5, 1), (5, 5)], "15 per class")
    tasks, told = drawn([20] * 6, shots=[2], unbalanced=2.0)
    assert next(iter(tasks.values())).query.shape[1] == 5 * 6
    tasks, told = drawn([9] * 6, ways=[ALL_WAYS], shots=[4])
    assert next(iter(tasks.values())).query.shape[1] == 6 * 5


def test_sizes_that_are_given_are_kept_or_refused() -> None:
    with pytest.raises(DataError, match="needs 16"):
        drawn([12, 30, 30], queries=15)
    with pytest.raises(DataError, match="need 5 classes"):
        drawn([30] * 3, ways=[5])
    with pytest.raises(DataError, match="has 5 images"):
        drawn([5, 30])
