"""`ssl sweep`, `ssl probe`, `ssl graph inspect` and `fewshot eval --compare`, through the real commands and their functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinshot.core.errors import ConfigError, DataError
from kinshot.learn.knn import leave_one_out
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.diagnose import encode, inspect_graph
from kinshot.runs.sweep import plan_sweep, run_sweep
from kinshot.runs.sweep_folder import runs_of
from kinshot.studies.intervals import Intervals
from kinshot.studies.pooling import compared
from kinshot.studies.probe import Measured, summarize
from kinshot.studies.summaries import Measured as Accuracies
from tests.tiny import TINY, result, run

SMALL = ["train.epochs=1", "monitor.tensorboard=false", "monitor.knn_every=0", "graph=labels"]


def test_leave_one_out_agrees_with_loops():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.integers(-1, 3, 40)
    x[3] = x[7]  # a tie at distance 0
    known = np.flatnonzero(y >= 0)
    votes = np.zeros((len(known), 3))
    for row, i in enumerate(known):
        near = sorted((np.linalg.norm(x[i] - x[j]), j) for j in known if j != i)[:3]
        exact = [(d, j) for d, j in near if d == 0]
        for d, j in exact or near:
            votes[row, y[j]] += 1 / d if d else 1.0
        votes[row] /= votes[row].sum()
    truth = y[known]
    areas = []
    for c in range(3):
        better = [(a > b) + 0.5 * (a == b) for a in votes[truth == c, c] for b in votes[truth != c, c]]
        areas.append(np.mean(better))
    accuracy, auroc = leave_one_out(x, y, k=3)
    assert accuracy == pytest.approx(np.mean(votes.argmax(1) == truth))
    assert auroc == pytest.approx(np.mean(areas))
    with pytest.raises(DataError, match="two labels"):
        leave_one_out(x, np.zeros(40, dtype=int))


def test_a_sweep_plans_every_combination_and_ties_seeds():
    planned = plan_sweep(str(TINY), ("method.temperature=0.1,0.2", "views.crop=[0.5, 1],[1, 1]", "seed=@seed"), [0, 3], Path("runs"))
    assert len(planned) == 8
    assert len({job.out for job in planned}) == 8
    assert {(job.recipe.method.settings["temperature"], job.recipe.seed) for job in planned} == {(t, s) for t in (0.1, 0.2) for s in (0, 3)}
    with pytest.raises(ConfigError, match="given twice"):
        plan_sweep(str(TINY), ("train.lr=1", "train.lr=2"), [0], Path("runs"))
    with pytest.raises(ConfigError, match="key=a,b,c"):
        plan_sweep(str(TINY), ("train.lr",), [0], Path("runs"))
    with pytest.raises(ConfigError, match="temperatur"):
        plan_sweep(str(TINY), ("method.temperatur=1",), [0], Path("runs"))


def measured(seed, weight, value, *, predicted=80.0, **more):
    settings = {"data.name": "d", "structure.weight": weight, "data.seed": seed, **more}
    return Measured(seed, settings, {("role", "auroc"): value}, {"role": predicted})


def test_a_probe_averages_seeds_alone():
    apart = summarize([measured(0, 0.0, 50, step=10), measured(1, 0.0, 60, step=20)])
    assert {row.label: row.n for row in apart if row.metric.startswith("auroc")} == {"step 10": 1, "step 20": 1}
    with pytest.raises(ConfigError, match="same settings"):
        summarize([measured(0, 0.0, 50), measured(0, 0.0, 60)])


def test_summaries_pair_by_seed():
    runs = [measured(s, w, v) for s, w, v in [(0, 0.0, 50), (1, 0.0, 60), (2, 0.0, 70), (0, 0.1, 55), (1, 0.1, 66), (2, 0.1, 77)]]
    rows = {row.label: row for row in summarize(runs, "structure.weight")}
    difference = rows["structure.weight 0.0 to 0.1, paired"]
    assert rows["structure.weight 0.0"].mean == 60
    assert difference.mean == pytest.approx(6)
    assert difference.ci95 == pytest.approx(4.303 * 1 / np.sqrt(3), rel=1e-3)
    assert rows["predicted by the graph"].mean == 80
    assert rows["predicted by the graph"].n == 1  # one graph, which all runs share
    own = [measured(s, w, 50, predicted=80.0 + s) for s in (0, 1, 2) for w in (0.0, 0.1)]
    told = {row.label: row for row in summarize(own, "structure.weight")}["predicted by the graph"]
    assert (told.mean, told.n) == (81, 3)  # the graph of every seed counts once
    assert told.ci95 == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)
    with pytest.raises(ConfigError, match="does not differ"):
        summarize(runs, "train.lr")


def accuracies(name, mean):
    return Accuracies(name, "backbone", "prototype", 5, 1, np.array([mean - 1.0, mean, mean + 1.0]))


def test_checkpoints_that_differ_otherwise_too_are_not_paired():
    lines, recipes = [], {}
    for name, overrides in {
        "a": ["structure.weight=0"],
        "b": ["structure.weight=0.3"],
        "c": ["structure.weight=0.3", "train.lr=0.1"],
    }.items():
        recipes[name] = load_recipe(str(TINY), ["graph=labels", *overrides])
        lines.append(accuracies(name, 50.0))
    with pytest.raises(ConfigError, match=r"several checkpoints have structure\.weight 0\.3 and seed 0"):
        compared(lines, recipes, "structure.weight", Intervals(), [[name] for name in recipes])
    recipes["c"] = load_recipe(str(TINY), ["graph=labels", "structure.weight=0.3", "train.lr=0.1", "seed=1"])
    with pytest.raises(ConfigError, match=r"b, c share structure\.weight 0\.3 but not all else"):
        compared(lines, recipes, "structure.weight", Intervals(), [[name] for name in recipes])


def test_groups_by_two_settings_are_compared_with_the_last(tmp_path):
    lines, recipes = [], {}
    accuracy = {("0", "0"): [50, 51], ("0", "0.3"): [53, 53], ("0.2", "0"): [56, 59], ("0.2", "0.3"): [60, 65]}
    for (warmup, weight), means in accuracy.items():
        for seed, mean in enumerate(means):
            name = f"{warmup} {weight} {seed}"
            given = ["graph=labels", f"structure.weight={weight}", f"train.warmup={warmup}", f"seed={seed}"]
            recipes[name] = load_recipe(str(TINY), given)
            lines.append(accuracies(name, mean))
    siblings = [[name for name in recipes if name.startswith(f"{warmup} {weight} ")] for warmup, weight in accuracy]
    rows = compared(lines, recipes, "train.warmup,structure.weight", Intervals(), siblings)
    found = {row.model: row.mean for row in rows}
    assert len(rows) == 7
    assert found["train.warmup 0.0, structure.weight 0.3"] == 53
    to = "to train.warmup 0.2, structure.weight 0.3, paired"
    assert found[f"train.warmup 0.0, structure.weight 0.0 {to}"] == 12
    assert found[f"train.warmup 0.0, structure.weight 0.3 {to}"] == 9.5
    assert found[f"train.warmup 0.2, structure.weight 0.0 {to}"] == 5
    with pytest.raises(ConfigError, match="two values or more"):
        compared(lines[:2], dict(list(recipes.items())[:2]), "train.warmup", Intervals(), siblings)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    settings = [*SMALL, "structure.weight=0,0.3"]
    done = run("ssl", "sweep", TINY, *settings, "--seeds", "0,1", "--out", "grid", "--json", cwd=folder)
    assert len(result(done)["runs"]) == 4
    return folder, settings


def test_a_sweep_continues_where_it_was_and_a_probe_reads_it(swept):
    folder, settings = swept
    before = {path: path.stat().st_mtime_ns for path in (folder / "grid").rglob("result.json")}
    planned = plan_sweep(str(TINY), tuple(settings), [0, 1], folder / "grid")
    run_sweep(planned, lambda text: None)
    assert {path: path.stat().st_mtime_ns for path in (folder / "grid").rglob("result.json")} == before
    assert len(runs_of([folder / "grid"])) == 4
    found = result(run("ssl", "probe", "grid", "--compare", "structure.weight", "--results", "out.json", "--json", cwd=folder))
    labels = {row["label"] for row in found["rows"]}
    assert {"structure.weight 0", "structure.weight 0.3", "structure.weight 0 to 0.3, paired", "predicted by the graph"} <= {
        label.replace("0.0", "0") for label in labels
    }
    document = json.loads((folder / "out.json").read_text())
    assert document["command"].startswith("ssl sweep ")
    assert "\nssl probe grid --compare structure.weight" in document["command"]
    assert document["seeds"] == [0, 1]


def test_a_probe_measures_retrieval(swept):
    folder, _ = swept
    found = result(run("ssl", "probe", "grid", "--metrics", "map_at_r,recall_at_5,nmi", "--json", cwd=folder))
    rows = {row["metric"]: row["mean"] for row in found["rows"] if row["label"] == "structure.weight 0.3"}
    assert {f"{name} of class, %" for name in ("accuracy", "map_at_r", "recall_at_5", "nmi")} <= rows.keys()
    assert 0 < rows["map_at_r of class, %"] < rows["recall_at_5 of class, %"] <= 100
    assert found["protocol"]["samples alone with their label, left out of metrics"] == {"class": 0}
    refused = run("ssl", "probe", "grid", "--metrics", "recal_at_1", cwd=folder)
    assert refused.returncode == 2
    assert "did you mean" in refused.stderr


def test_fewshot_eval_compares_a_setting(swept):
    folder, _ = swept
    line = ["eval", "grid", "--data", "digits", "--ways", "3", "--shots", "1", "--queries", "3", "--episodes", "5", "--no-reference"]
    found = result(run("fewshot", *line, "--compare", "structure.weight", "--features", "backbone", "--json", cwd=folder))
    models = [row["model"].replace("0.0", "0") for row in found["rows"]][:3]
    assert models == ["structure.weight 0", "structure.weight 0.3", "structure.weight 0 to 0.3, paired"]
    rows = {row["model"]: row for row in found["rows"]}
    each = {name: row["mean"] for name, row in rows.items() if "seed=" in name}
    difference = [each[n] - each[n.replace("weight=0.3", "weight=0")] for n in each if "weight=0.3" in n]
    assert rows[found["rows"][2]["model"]]["mean"] == pytest.approx(np.mean(difference))
    refused = run("fewshot", *line, "--compare", "train.lr", cwd=folder)
    assert refused.returncode == 2
    assert "--compare train.lr: expected two values" in refused.stderr


def test_graph_inspect_prints_and_refuses(tmp_path):
    (tmp_path / "ring.csv").write_text("source,target\n" + "".join(f"{i},{(i + 1) % 10}\n" for i in range(10)))
    (tmp_path / "labels.csv").write_text(
        "half,part\n" + "".join(f"{'a' if i < 5 else 'b'},{'train' if i < 8 else 'test'}\n" for i in range(10))
    )
    done = run("ssl", "graph", "inspect", "ring.csv", "--labels", "labels.csv", "--split", "part", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "10 nodes, 10 links" in done.stdout
    assert "half: local consistency 0.800" in done.stdout  # 6 inner nodes agree, 4 border nodes tie
    assert "part: 2 links between splits, 4 nodes" in done.stdout
    found = inspect_graph(tmp_path / "ring.csv", tmp_path / "labels.csv", "part")
    assert found["labels"]["half"]["homophily"] == pytest.approx(0.8)
    for arguments, words in [
        (["missing.csv"], "missing.csv"),
        (["ring.csv", "--split", "part"], "no column 'part'"),
        (["ring.csv", "--labels", "ring.csv", "--split", "nothing"], "no column 'nothing'"),
    ]:
        refused = run("ssl", "graph", "inspect", *arguments, cwd=tmp_path)
        assert refused.returncode == 3, refused.stderr
        assert words in refused.stderr


def test_label_files_are_checked(tmp_path):
    ring = tmp_path / "ring.csv"
    ring.write_text("0,1\n1,2\n")
    for text, words in [("a,b\n1\n", "line 2"), ("a,a\n1,2\n", "line 1"), ("a\n", "no rows"), ("a\n1\n2\n", "line 2.*not a node")]:
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(DataError, match=words):
            inspect_graph(ring, tmp_path / "labels.csv")
    np.testing.assert_array_equal(encode(["b", "", "a", "b"]), [1, -1, 0, 1])


def test_pretrain_prints_the_diagnostics_before_training(tmp_path):
    done = run("ssl", "pretrain", TINY, *SMALL, "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "graph: " in done.stderr
    assert "class: local consistency 1.000, homophily 1.000" in done.stderr


def test_sections_and_kinds_can_be_looked_up(tmp_path):
    listed = run("ssl", "list", "graph", cwd=tmp_path).stdout
    assert all(f"  {name} " in listed for name in ("edges", "knn", "labels", "own", "time"))
    shown = result(run("ssl", "show", "structure", "--json", cwd=tmp_path))
    assert all(setting["help"] for setting in shown["settings"].values())
    assert "did you mean 'structure'" in run("ssl", "show", "strcture", cwd=tmp_path).stderr
