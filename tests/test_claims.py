"""The audit of claims: its files say what they mean, verdicts are those of a paired t-test, and a run is trained and measured once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.claims.measures import MEASURES
from benchmarks.claims.page import page
from benchmarks.claims.plan import Claim, Task, read_tasks, task_of
from benchmarks.claims.runs import Job, run
from benchmarks.claims.verdicts import Verdict, judged, rows_of
from kinshot.recipes.recipe import load_recipe

ROOT = Path(__file__).resolve().parent.parent
CLAIM = Claim("better", "Somebody 2020", "One is better.", arm="one", over="other", metric="map_at_r")
TINY = """
description: letters, for a second
seed: 0
data: {name: glyphs, split: train, variants: 4}
views: {name: clean, views: 1}
encoder: {name: conv4, width: 4}
projector: {layers: 1, dim: 4}
order: {name: classes, per_class: 4}
method: {name: metric}
terms: [{objective: multi_similarity, kin: labels, on: projector}]
train: {epochs: 1, batch_size: 64, lr: 2.0e-3, threads: 1}
monitor: {knn_every: 0}
"""


def a_task(*claims: Claim, seeds: tuple[int, ...] = (0, 1, 2)) -> Task:
    measure = [
        {"by": "retrieve", "options": "--data glyphs --split {split} --set variants=4 --feature projector --metrics recall_at_1,map_at_r"}
    ]
    arms = {"one": (), "other": ("train.lr=1.0e-4",)}
    return Task("letters", "Made-up.", (), measure, arms, claims, inline=TINY, seeds=seeds)


def verdict(one: list[float], other: list[float], claim: Claim = CLAIM) -> Verdict:
    figures = {name: {seed: {"map_at_r": value} for seed, value in enumerate(values)} for name, values in (("one", one), ("other", other))}
    found = judged(claim, a_task(claim, seeds=tuple(range(len(one)))), figures, {name: dict.fromkeys(range(9), 0.5) for name in figures})
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("one", "other", "word"),
    [
        ([3.0, 4.1, 5.0], [1.0, 2.0, 3.1], "seen"),
        ([1.0, 2.0, 3.1], [3.0, 4.1, 5.0], "opposite"),
        ([1.0, 5.0, 3.0], [2.0, 3.0, 3.0], "not seen"),
    ],
)
def test_a_verdict_is_that_of_the_paired_t_interval(one: list[float], other: list[float], word: str) -> None:
    found, differences = verdict(one, other), np.subtract(one, other)
    low, high = stats.t.interval(0.95, len(one) - 1, differences.mean(), stats.sem(differences))
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    assert found.word == word
    assert found.difference.p == pytest.approx(stats.ttest_rel(one, other).pvalue)
    assert found.cpu_minutes == pytest.approx(0.5 * 2 * len(one))
    (row,) = rows_of([found])
    assert (row["verdict"], row["p_holm"]) == (word, row["p"])


def test_a_smaller_figure_may_be_the_better_one_and_a_constant_the_other_side() -> None:
    lower = Claim("", "", "", arm="one", over="other", metric="map_at_r", lower=True)
    assert verdict([1.0, 2.0, 3.1], [3.0, 4.1, 5.0], lower).word == "seen"
    constant = Claim("", "", "", arm="one", metric="map_at_r", above=50.0)
    found = verdict([60.0, 61.0, 62.5], [0.0, 0.0, 0.0], constant)
    assert (found.word, found.over) == ("seen", 50.0)


def test_what_either_side_loses_is_compared_where_a_claim_says_since() -> None:
    claim = Claim("", "", "", arm="one", over="other", metric="map_at_r", since=("before", "also_before"))
    values = {"before": [9.0, 9.0, 9.0], "one": [8.0, 8.1, 8.0], "also_before": [5.0, 5.0, 5.0], "other": [1.0, 1.0, 1.2]}
    figures = {name: {seed: {"map_at_r": value} for seed, value in enumerate(one)} for name, one in values.items()}
    found = judged(claim, a_task(claim), figures, {name: dict.fromkeys(range(3), 0.0) for name in values})
    assert found is not None
    assert found.word == "seen"
    assert (found.arm, found.over) == pytest.approx((-29 / 30, -59 / 15))


def test_fewer_than_three_seeds_judge_nothing() -> None:
    figures = {name: {seed: {"map_at_r": 1.0} for seed in (0, 1)} for name in ("one", "other")}
    assert judged(CLAIM, a_task(CLAIM), figures, {name: dict.fromkeys(range(3), 0.0) for name in figures}) is None


def test_every_task_reads_and_every_arm_is_a_recipe(tmp_path: Path) -> None:
    for task in read_tasks():
        assert task.says, task.name
        assert all(ask["by"] in MEASURES for ask in task.measure), task.name
        assert len({claim.name for claim in task.claims}) == len(task.claims), task.name
        used = {arm for claim in task.claims for arm in claim.arms}
        assert not task.claims or used == set(task.arms), f"{task.name}: no claim needs {set(task.arms) - used}"
        recipe = task.recipe
        if task.inline:
            (tmp_path / "recipe.yaml").write_text(task.inline)
            recipe = str(tmp_path / "recipe.yaml")
        for arm in task.arms:
            load_recipe(recipe, Job(task, arm, 0, Path("data"), tmp_path).settings)
    with pytest.raises(SystemExit, match="no task"):
        read_tasks(["nothing"])


def test_a_claim_about_an_arm_that_is_not_there_is_refused() -> None:
    given: dict[str, Any] = {"task": "t", "says": "s", "recipe": "glyphs_metric", "measure": {"by": "retrieve"}, "arms": {"one": []}}
    claim = {"name": "n", "paper": "p", "says": "s", "arm": "one", "over": "two", "metric": "m"}
    with pytest.raises(SystemExit, match="two"):
        task_of({**given, "claims": [claim]})


def test_a_run_is_trained_once_and_anew_when_it_is_another(tmp_path: Path) -> None:
    task = a_task(CLAIM)
    job = Job(task, "one", 0, tmp_path, tmp_path)
    found = run(job)
    assert set(found["figures"]) == {"recall_at_1", "map_at_r"}
    assert 0 < found["figures"]["map_at_r"] <= 100
    begun = job.result.stat().st_mtime_ns
    assert run(job) == found
    assert job.result.stat().st_mtime_ns == begun
    other = Job(Task(**{**task.__dict__, "common": ("projector.dim=8",)}), "one", 0, tmp_path, tmp_path)
    assert other.known() is None
    assert run(other)["figures"] != found["figures"]
    assert job.known() is None


def test_the_page_says_what_the_rows_say() -> None:
    rows = rows_of([verdict([3.0, 4.1, 5.0], [1.0, 2.0, 3.1])])
    document = {"rows": rows, "data": {"runs": 6}, "cpu_minutes": 3.0, "command": "python"}
    text = page(document, [a_task(CLAIM)])
    assert "**1 claims: 1 seen, 0 not seen, 0 opposite.**" in text
    assert "One is better. *Somebody 2020* | **seen** | +2 ± " in text


def test_the_committed_page_is_that_of_the_committed_result() -> None:
    document = json.loads((ROOT / "docs" / "results" / "claims.json").read_text(encoding="utf-8"))
    tasks = [task for task in read_tasks() if task.name in document["data"]["tasks"]]
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == page(document, tasks)
    claims = {f"{claim.name}, {task.name}" for task in tasks for claim in task.claims}
    assert {row["label"].partition(" (")[0] for row in document["rows"]} == claims
