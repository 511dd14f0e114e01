"""`fewshot retrieve` through the real command, against loops over the features of the same runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_numpy
from kinshot.core.statistics.bootstrap import drawn_again, means_again
from kinshot.datasets.features import FeatureSource
from kinshot.kin.measuring import answered
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.neighbors.found import ByLabel
from kinshot.kin.neighbors.without import camera_rule
from kinshot.kin.verification import auc, eer, tar_at_far
from kinshot.recipes.recipe import Choice
from kinshot.studies.results import result_block
from kinshot.studies.retrieval import sides as sides_module
from kinshot.studies.retrieval.pairs import pairs_of
from kinshot.studies.retrieval.sides import Asked, Part, Sides, sides_of
from tests.study_runs import DIGITS, call, features, source, write_run

TABLE = {"name": "table", "label": "kind", "attributes": ["place", "maker"]}
ROWS = {"views": {"name": "feature_noise"}, "encoder": {"name": "mlp", "widths": [6]}}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder / f"seed{seed}", DIGITS, seed=seed) for seed in range(3)]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of 40 rows of 5 kinds, by 3 makers, at 2 places, of which some are unknown; and a run that was trained on it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kinds = np.arange(40) % 5
    numbers = rng.normal(size=(40, 4)) + kinds[:, None]
    lines = [
        f"{','.join(f'{v:.4f}' for v in row)},k{kind},{('home', 'away', '')[number % 7 // 3]},m{number % 3}"
        for number, (kind, row) in enumerate(zip(kinds, numbers, strict=True))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d,kind,place,maker", *lines]) + "\n")
    write_run(tmp_path / "run", {**TABLE, "root": "t.csv"}, method="simclr", **ROWS)
    return tmp_path


def near(z: np.ndarray, refs: np.ndarray) -> np.ndarray:
    unit, others = (one.astype(float) / np.linalg.norm(one, axis=1, keepdims=True).clip(1e-12) for one in (z, refs))
    return (unit @ others.T).round(10)  # equal ones are equal


def recalls(z: np.ndarray, refs: np.ndarray, kin: np.ndarray, met: np.ndarray, k: int) -> list[float]:
    """Recall at k of each query that has kin, from who is kin and who may be met."""
    found = []
    for i, row in enumerate(near(z, refs)):
        order = sorted(np.flatnonzero(met[i]), key=lambda j: (-row[j], j))[:k]
        if (kin[i] & met[i]).any():
            found.append(float(any(kin[i, j] for j in order)))
    return found


# -- the command


def test_runs_of_several_seeds_are_their_mean_beside_references(
    runs: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    got = call(capsys, "retrieve", *runs, "--metrics", "recall_at_1,recall_at_4,nmi", "--results", tmp_path / "found.json")
    z = [features(run, "digits", split="test", size=16).numpy() for run in runs]
    labels = source("digits", split="test", size=16).labels
    kin, met = labels[:, None] == labels, ~np.eye(len(labels), dtype=bool)
    each = [answered(torch.from_numpy(one), ByLabel(labels), [wanted_metric("recall_at_1")]).values["recall_at_1"] for one in z]
    for one, values in zip(z, each, strict=True):  # in float64 one that is all but equally near may come first
        assert (values != recalls(one, one, kin, met, 1)).sum() <= 2
    rows = {(row["label"], row["metric"]): row for row in got["rows"]}
    mean = rows["mean of 3", "recall_at_1, %"]
    assert mean["mean"] == pytest.approx(100 * np.mean(each))
    assert mean["n"] == 3
    for run, values in zip(runs, each, strict=True):
        row = rows[str(run), "recall_at_1, %"]
        # the bootstrap of one run, written out
        again = keyed_numpy(0, "retrieval/bootstrap", len(labels)).integers(len(labels), size=(1000, len(labels)))
        low, high = np.quantile(np.array(values)[again].mean(axis=1), [0.025, 0.975])
        assert (row["mean"], row["low"], row["high"]) == pytest.approx((100 * np.mean(values), 100 * low, 100 * high))
        assert (row["n"], row["part_of"]) == (len(labels), "mean of 3")
    assert rows["raw pixels", "recall_at_1, %"]["mean"] > 90
    assert got["references"] == ["untrained", "raw pixels"]
    assert {(one["label"], one["against"]) for one in got["paired"]} == {("mean of 3", "untrained"), ("mean of 3", "raw pixels")}
    difference = next(one for one in got["paired"] if one["against"] == "raw pixels" and one["metric"] == "recall_at_1, %")
    assert difference["mean"] == pytest.approx(mean["mean"] - rows["raw pixels", "recall_at_1, %"]["mean"])
    assert (rows["mean of 3", "nmi, %"]["n"], rows["raw pixels", "nmi, %"]["n"], rows["raw pixels", "nmi, %"]["ci95"]) == (3, 1, 0)
    assert all("nmi" not in one["metric"] for one in got["paired"])  # not a mean over queries
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["rows"][0]["label"] == "mean of 3"
    assert "mean of 3 minus untrained" in result_block(tmp_path / "found.json")
    assert (got["data"]["queries"], got["data"]["gallery"], got["data"]["classes"]) == (355, "the other queries", 10)


def test_a_run_alone_and_its_table(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    from kinshot.cli.fewshot import main

    assert main(["retrieve", str(runs[0]), "--device", "cpu", "-q", "--metrics", "recall_at_1,acg_at_5", "--no-reference"]) == 0
    said = capsys.readouterr().out
    assert "kin: of one label" in said
    assert "equally near: in the order of the gallery" in said
    line = next(line for line in said.splitlines() if line.startswith("pretrained"))
    assert "±" in line
    assert float(line.split()[-3]) <= 1  # relevance is no share
    assert "paired" not in said


def test_queries_and_gallery_by_attribute_with_the_camera_rule(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = source("table", root="t.csv", label="kind", attributes=("place", "maker"))
    z = features(Path("run"), "table", root="t.csv", label="kind", attributes=("place", "maker")).numpy()
    kinds, makers, places = table.labels, table.attributes["maker"], table.attributes["place"]
    asked = ["retrieve", "run", "--no-reference", "--metrics", "recall_at_1,recall_at_2"]

    got = call(capsys, *asked, "--query", "place=home", "--gallery", "place=away")
    names = table.attribute_names["place"]
    one, other = (np.flatnonzero(places == names.index(name)) for name in ("home", "away"))
    kin = kinds[one][:, None] == kinds[other]
    expected = [np.mean(recalls(z[one], z[other], kin, np.ones_like(kin), k)) for k in (1, 2)]
    assert [row["mean"] for row in got["rows"]] == pytest.approx([100 * value for value in expected])
    assert (got["data"]["queries"], got["data"]["gallery"]) == (len(one), f"{len(other)} samples of {table.name}")

    got = call(capsys, *asked, "--camera", "maker")
    kin = kinds[:, None] == kinds
    met = ~(kin & (makers[:, None] == makers))
    expected = [np.mean(recalls(z, z, kin, met, k)) for k in (1, 2)]
    assert [row["mean"] for row in got["rows"]] == pytest.approx([100 * value for value in expected])
    assert got["protocol"]["camera rule"].startswith("by maker")

    got = call(capsys, *asked, "--query", "maker=m0|m1", "--camera", "place")  # the gallery holds the queries, and unknown places
    rows = np.flatnonzero(makers < 2)
    kin = kinds[rows][:, None] == kinds
    met = ~(kin & (places[rows][:, None] == places) & (places >= 0)) & (rows[:, None] != np.arange(40))
    expected = [np.mean(recalls(z[rows], z, kin, met, k)) for k in (1, 2)]
    assert [row["mean"] for row in got["rows"]] == pytest.approx([100 * value for value in expected])

    got = call(capsys, *asked, "--kin", "place")
    assert got["data"]["samples of unknown kin, left out"] == int((places < 0).sum())
    assert got["protocol"]["kin"] == "of one place"


def test_another_source_is_the_gallery_and_shared_samples_are_said(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path("t.csv").read_text().splitlines()
    Path("g.csv").write_text("\n".join([lines[0], *lines[31:36], *(line.replace("k1", "new") for line in lines[36:])]) + "\n")
    gallery = "table:g.csv,label=kind,attributes=[place, maker]"
    got = call(capsys, "retrieve", "run", "--gallery", gallery, "--metrics", "recall_at_1", "--no-reference")
    assert got["data"]["queries that are in the gallery, too"] == 10
    assert got["data"]["gallery"].startswith("10 samples")
    assert {"seen in training, queries", "seen in training, gallery"} <= set(got["protocol"])
    assert len(got["seen in training"]) == 2


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        (["--query", "plac=home"], "no attribute 'plac': did you mean 'place'", 2),
        (["--query", "place=hom"], "place of .* is never 'hom': did you mean 'home'", 2),
        (["--query", "place="], "expected ATTRIBUTE=VALUE", 2),
        (["--gallery", "folder:nowhere"], "nowhere", 3),
        (["--kin", "mker"], "--kin: .* no attribute 'mker': did you mean 'maker'", 2),
        (["--camera", "mker"], "--camera: .* no attribute 'mker'", 2),
        (["--metrics", "recal_at_1"], "did you mean", 2),
        (["--metrics", "recall_at_40"], "recall_at_40 looks at 40 neighbours and there are 39", 2),
        (["--metrics", ""], "a name or setting is missing", 2),
        (["--draws", "3"], "at least 100 lists, got 3", 2),
        (["--feature", "backbone,projector"], "--feature takes one", 2),
        (["--feature", "nothing"], "nothing", 2),
        (["--query", "maker=m0", "--gallery", "maker=m1", "--kin", "maker"], "none of the 14 queries has kin among the 13", 3),
    ],
)
def test_what_cannot_be_looked_up_is_refused(
    more: list[str], message: str, code: int, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert re.search(message, " ".join(call(capsys, "retrieve", "run", "--no-reference", *more, code=code).split()))


# -- both sides


def made(monkeypatch: pytest.MonkeyPatch, *sources: FeatureSource) -> list[Choice]:
    """Choices that stand for sources."""
    choices = [Choice(f"s{number}", {}) for number in range(len(sources))]
    known = dict(zip(map(repr, choices), sources, strict=True))
    monkeypatch.setattr(sides_module, "build_source", lambda choice, input: known[repr(choice)])
    return choices


def tagged(tags: Any, *, labels: Any = None, names: Any = (), shift: float = 0.0, tag_names: Any = ()) -> FeatureSource:
    rng = np.random.default_rng(3)
    values = np.asarray(tags)
    extra = {"attributes": {"tag": values}, "attribute_names": {"tag": list(tag_names)} if tag_names else {}}
    rows = rng.normal(size=(len(values), 3)).astype(np.float32) + shift
    return FeatureSource(rows, None if labels is None else np.asarray(labels), list(names), "tagged", **extra)


def of(monkeypatch: pytest.MonkeyPatch, asked: Asked, *sources: FeatureSource) -> Sides:
    choices = made(monkeypatch, *sources)
    gallery = Part(choices[1]) if len(sources) > 1 else asked.gallery
    return sides_of(choices[0], replace(asked, gallery=gallery), sources[0].spec)


def test_several_labels_are_graded_and_named_alike_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tagged(np.array([[1, 1, 0], [0, 0, 1], [0, -1, 1]]), tag_names=["sky", "sea", "cat"])
    theirs = tagged(np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]]), tag_names=["cat", "sky", "sea"], shift=1)
    found = of(monkeypatch, Asked(kin="tag"), mine, theirs)
    assert found.names == ("sky", "sea", "cat")
    assert (found.queries.left_out, found.queries.rows.tolist()) == (1, [0, 1])
    every = np.tile(np.arange(3), (2, 1))
    assert found.kinship.gains(slice(0, 2), every).tolist() == [[1, 2, 1], [1, 0, 0]]  # type: ignore[union-attr]
    values = answered(torch.eye(3)[:2], found.kinship, [wanted_metric("acg_at_3"), wanted_metric("wap")], references=torch.eye(3)).values
    assert values["acg_at_3"].tolist() == pytest.approx([4 / 3, 1 / 3])


def test_values_of_one_label_are_matched_by_name_and_others_are_distractors(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tagged([0, 1, 1], labels=[0, 1, 1], names=["pear", "fig"])
    theirs = tagged([0, 1, 1, 2], labels=[0, 1, 2, 2], names=["fig", "plum", "pear"], shift=1)
    found = of(monkeypatch, Asked(), mine, theirs)
    assert found.kinship.total(slice(0, 3)).tolist() == [2, 1, 1]
    assert not found.shared
    assert found.describe()["classes"] == 2


def test_attributes_that_cannot_say_who_is_kin_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = tagged(np.array([0.5, 1.5]))
    with pytest.raises(ConfigError, match="measured and has no values to share"):
        of(monkeypatch, Asked(kin="tag"), measured)
    with pytest.raises(DataError, match=r"has no labels: say with --kin which attribute to take \(tag"):
        of(monkeypatch, Asked(), measured)
    several = tagged(np.array([[1, 0], [1, 1]]), labels=[0, 0], names=["a"])
    with pytest.raises(ConfigError, match="may have several values of tag"):
        of(monkeypatch, Asked(camera="tag"), several)
    with pytest.raises(DataError, match="--query: tagged has no such sample whose kin are known"):
        of(monkeypatch, Asked(Part(None, "tag", ("1",)), kin="tag"), tagged([-1, -1, 0], tag_names=["0", "1"]))


# -- verification


def test_pairs_are_verified_each_once(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = source("table", root="t.csv", label="kind", attributes=("place", "maker"))
    z = features(Path("run"), "table", root="t.csv", label="kind", attributes=("place", "maker")).numpy()
    asked = ["retrieve", "run", "--no-reference", "--metrics", "recall_at_1", "--verify", "0.01,0.2"]
    one, other = np.triu_indices(40, 1)
    scores, same = near(z, z)[one, other], table.labels[one] == table.labels[other]
    expected = {"tar_at_far_0.01": tar_at_far(scores, same, 0.01), "tar_at_far_0.2": tar_at_far(scores, same, 0.2)}
    expected |= {"eer": eer(scores, same), "auc": auc(scores, same)}
    rows = {row["metric"]: row["mean"] for row in call(capsys, *asked)["rows"]}
    assert {name: rows[f"{name}, %"] for name in expected} == pytest.approx({n: 100 * v for n, v in expected.items()}, abs=0.5)
    assert "expected shares from 0 to 1, got 2" in call(capsys, *asked[:-1], "2", code=2)
    assert "expected shares of strangers" in call(capsys, *asked[:-1], "x", code=2)


def test_pairs_that_are_drawn_are_pairs_of_either_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinshot.studies.retrieval.pairs._HELD", 50)
    labels, cameras = np.arange(20) % 4, np.arange(20) % 3
    kin = camera_rule(ByLabel(labels), labels, cameras)
    every, same = pairs_of(kin, 20, 20, True, 0)
    one, other = np.triu_indices(20, 1)
    alike = labels[one] == labels[other]
    met = ~(alike & (cameras[one] == cameras[other]))
    assert set(map(tuple, every.tolist())) == set(zip(one[met].tolist(), other[met].tolist(), strict=True))
    assert (same == (labels[every[:, 0]] == labels[every[:, 1]])).all()
    some, which = pairs_of(kin, 20, 20, True, 0, most=10)
    assert (which.sum(), (~which).sum()) == (10, 10)
    assert len(set(map(tuple, some.tolist()))) == 20
    assert set(map(tuple, some.tolist())) <= set(map(tuple, every.tolist()))
    assert not np.array_equal(some, pairs_of(kin, 20, 20, True, 1, most=10)[0])
    with pytest.raises(DataError, match="pairs of kin and of strangers, got 190 and 0"):
        pairs_of(ByLabel(np.zeros(20, dtype=np.int64)), 20, 20, True, 0)


# -- lists drawn again


def test_means_again_are_those_of_the_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(2, 9))
    numbers = keyed_numpy(5, "retrieval", 9).integers(9, size=(40, 9))
    expected = values[:, numbers].mean(axis=2)
    assert means_again(values, "retrieval", 5, 40) == pytest.approx(expected)
    monkeypatch.setattr("kinshot.core.statistics.bootstrap._AT_ONCE", 30)
    assert means_again(values, "retrieval", 5, 40) == pytest.approx(expected)
    assert sum(len(times) for times in drawn_again("retrieval", 9, 5, 40)) == 40
