"""`ssl nodes`: figures of encoders on published lists of labelled nodes, beside references, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score

from kinshot.cli.ssl import main
from kinshot.core.statistics.areas import macro_auc
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.studies.nodes import PENALTIES
from tests.graph_trees import PAPERS, graph_arrays, write_graph

SMALL = ["data.neighbors=[]", "encoder.dim=6", "projector.dim=5", "method.edge_masks=[0.3]", "monitor.tensorboard=false"]


def trained(file: Path, out: Path, *given: str) -> Path:
    recipe = load_recipe("meow", [f"data.root={file}", *SMALL, "train.epochs=3", *given])
    train_recipe(recipe, Options(out, quiet=True), lambda text: None)
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of each of two arms."""
    folder = tmp_path_factory.mktemp("nodes")
    file = write_graph(folder / "papers.npz")
    for seed in (0, 1):
        trained(file, folder / f"meow-{seed}", f"seed={seed}", "method.clusters=[3, 5]")
        trained(file, folder / f"plain-{seed}", f"seed={seed}", "method.clusters=[]")
    return folder


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["nodes", *words, "--device", "cpu"])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_figures_of_runs_and_references(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    names = [f"{arm.split('-')[0]}={runs / arm}" for arm in ("meow-0", "meow-1", "plain-0", "plain-1")]
    files = ["--results", str(tmp_path / "nodes.json"), "--figures", str(tmp_path / "figures.json")]
    code, out, err = called(capsys, *names, "--draws", "2", "--clusterings", "2", "--json", *files)
    assert code == 0, err
    found = json.loads(out)
    labels = list(dict.fromkeys(row["label"] for row in found["rows"] if "part_of" not in row))
    assert labels[2:] == ["untrained", "features of the nodes", "mean of meta-paths"]
    assert ["meow" in labels[0], "plain" in labels[1]] == [True, True]
    columns = {row["column"] for row in found["rows"]}
    assert columns == {"1 per class, published", "1 per class, drawn", "2 per class, published", "2 per class, drawn", "NMI", "ARI"}
    assert any("plain" in one["label"] + one["against"] and "meow" in one["label"] + one["against"] for one in found["paired"])
    figures = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [(row["arm"], row["seed"]) for row in figures if row["K"] == 1][-4:] == [
        ("untrained", 0),
        ("untrained", 1),
        ("features of the nodes", None),
        ("mean of meta-paths", None),
    ]
    assert len(figures) == 2 * (4 + 4)
    assert set(figures[0]) >= {"arm", "seed", "K", "macro-F1", "micro-F1", "AUC", "NMI", "ARI", "cpu_seconds"}
    assert all(0 <= row[key] <= 100 for row in figures for key in ("macro-F1", "micro-F1", "AUC"))
    assert json.loads((tmp_path / "nodes.json").read_text())["rows"]
    code, out, _ = called(capsys, names[0], "--draws", "0", "--no-reference", "-q")
    assert code == 0
    assert "macro-F1, %" in out


def test_figures_of_raw_features_are_those_of_scikit_learn(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    _, out, _ = called(capsys, str(runs / "meow-0"), "--draws", "0", "--json", "-q")
    given = graph_arrays()
    rows = given["feat_p"] / np.linalg.norm(given["feat_p"], axis=1, keepdims=True)
    y, best = given["labels"], (-1.0, 0.0, 0.0)
    for penalty in PENALTIES:
        head = LogisticRegression(C=penalty, max_iter=5000, tol=1e-10).fit(rows[given["train_2"]], y[given["train_2"]])
        val, test = (head.predict_proba(rows[given[name]]) for name in ("val_2", "test_2"))
        f1 = f1_score(y[given["val_2"]], val.argmax(1), average="macro")
        if f1 > best[0]:
            area = roc_auc_score(y[given["test_2"]], test, multi_class="ovr")
            best = f1, f1_score(y[given["test_2"]], test.argmax(1), average="macro"), area
    own = next(row for row in json.loads(out)["figures"] if row["arm"] == "features of the nodes" and row["K"] == 2)
    assert own["macro-F1"] == pytest.approx(100 * best[1], abs=1e-6)
    assert own["AUC"] == pytest.approx(100 * best[2], abs=1e-6)


def test_macro_auc_is_that_of_scikit_learn_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(1, 4, (40, 3)).astype(float)
    scores /= scores.sum(1, keepdims=True)
    y = rng.integers(0, 3, 40)
    assert macro_auc(scores, y) == pytest.approx(roc_auc_score(y, scores, multi_class="ovr"), abs=1e-12)


def test_what_cannot_be_measured_is_refused(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = trained(write_graph(tmp_path / "bare.npz", labels=None), tmp_path / "bare", "method.clusters=[3]")
    code, _, err = called(capsys, str(bare))
    assert code == 3
    assert "has no labels" in err
    lists = {name: None for name in graph_arrays() if name[:5] in ("train", "val_1", "val_2", "test_")}
    code, _, err = called(capsys, str(trained(write_graph(tmp_path / "free.npz", **lists), tmp_path / "free", "method.clusters=[3]")))
    assert code == 3
    assert "has no lists of labelled nodes" in err
    other = write_graph(tmp_path / "other.npz", edges_ps=np.array([np.arange(PAPERS), np.arange(PAPERS) % 4]))
    code, _, err = called(capsys, str(runs / "meow-0"), "--data", f"hetero_graph:{other}")
    assert code == 3
    assert "is another graph than the encoder was made for" in err
    code, _, err = called(capsys, str(runs / "meow-0"), "--draws", "-1")
    assert code == 2
    assert "--draws must be at least 0" in err


def test_a_list_without_a_class_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_graph(tmp_path / "partly.npz", train_1=graph_arrays()["train_1"][1:])
    code, _, err = called(capsys, str(trained(file, tmp_path / "partly", "method.clusters=[3]")))
    assert code == 3
    assert "train_1 has no node of class 0" in err


def test_other_tools_take_nodes_too(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their features as a table, with the graph's labels."""
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    assert main(["embed", str(runs / "meow-0"), str(tmp_path / "features.npz"), "--device", "cpu", "-q"]) == 0
    capsys.readouterr()
    with np.load(tmp_path / "features.npz") as found:
        assert {len(found[name]) for name in found.files} == {PAPERS}
