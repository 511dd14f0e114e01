"""`ssl probe --protocol`: weighted kNN, linear probe, low-shot and geometry against slow references, and through the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightly.utils.benchmarking.knn import knn_predict
from sklearn.linear_model import LogisticRegression

from kinshot.cli.ssl import main
from kinshot.core.errors import ConfigError, DataError
from kinshot.learn.knn import knn_accuracies, knn_answers
from kinshot.studies.frozen import linear
from kinshot.studies.frozen.geometry import all_uniformity, class_alignment
from kinshot.studies.frozen.linear import PENALTIES, Classifier, choose_penalty
from kinshot.studies.frozen.parts import stratified
from tests.study_runs import DIGITS, features, rest, source, unit, write_run


def blobs(n: int, dim: int = 12, classes: int = 7, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centers = np.random.default_rng(99).normal(size=(classes, dim))
    return torch.from_numpy(centers[labels] + 1.5 * rng.normal(size=(n, dim))).float(), labels


def slow_knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, t: float) -> np.ndarray:
    """The formula, one query at a time, in float64."""
    b = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    answers = []
    for q in queries:
        cosine = b @ (q / np.linalg.norm(q))
        near = np.argsort(-cosine, kind="stable")[:k]
        scores = np.zeros(labels.max() + 1)
        for i in near:
            scores[labels[i]] += np.exp(cosine[i] / t)
        answers.append(int(scores.argmax()))
    return np.array(answers)


def test_a_penalty_whose_minimum_is_not_found_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = blobs(200)
    every = linear._fitted

    def fails_from(weakest: float):
        def fitted(x, labels, penalty, start, tolerance):
            if penalty <= weakest:
                raise DataError("did not converge")
            return every(x, labels, penalty, start, tolerance)

        return fitted

    monkeypatch.setattr(linear, "_fitted", fails_from(PENALTIES[2]))
    assert list(choose_penalty(z, labels, seed=3).tried) == list(PENALTIES[:2])
    monkeypatch.setattr(linear, "_fitted", fails_from(PENALTIES[0]))
    with pytest.raises(DataError, match="did not converge"):
        choose_penalty(z, labels, seed=3)


@pytest.mark.parametrize("t", [0.07, 0.1, 1.0])
def test_knn_is_the_formula_and_lightly_s(t: float) -> None:
    (bank, labels), (queries, truth) = blobs(900), blobs(300, seed=1)
    found = knn_accuracies(bank, torch.from_numpy(labels), queries, torch.from_numpy(truth), ks=(1, 20, 200, 900), temperature=t)
    for k in (1, 20, 200, 900):
        ours = knn_answers(bank, torch.from_numpy(labels), queries, k=k, temperature=t).predictions
        assert (ours == slow_knn(bank.double().numpy(), labels, queries.double().numpy(), k, t)).all()
        theirs = knn_predict(unit(queries.double()), unit(bank.double()).T, torch.from_numpy(labels), 7, knn_k=k, knn_t=t)[:, 0]
        assert (ours == theirs.numpy()).all()
        assert found[k] == (ours == truth).mean()


def test_more_neighbours_than_the_bank_has_are_refused() -> None:
    z, labels = blobs(30)
    with pytest.raises(ConfigError, match="k must be from 1 to 30"):
        knn_accuracies(z, torch.from_numpy(labels), z, torch.from_numpy(labels), ks=(20, 31))


@pytest.mark.parametrize("penalty", [1e-1, 1e-3])
def test_the_linear_probe_is_scikit_learn_s_regression_on_standardised_features(penalty: float) -> None:
    (bank, labels), (queries, truth) = blobs(400), blobs(400, seed=1)
    x, q = bank.double().numpy(), queries.double().numpy()
    mean, spread = x.mean(0), x.std(0)
    model = LogisticRegression(C=1 / (penalty * 400), tol=1e-8, max_iter=5000).fit((x - mean) / spread, labels)
    expected = (model.predict((q - mean) / spread) == truth).mean()
    assert Classifier.fit(bank, labels, penalty, tolerance=1e-8).accuracy(queries, truth) == pytest.approx(expected, abs=1e-12)


def test_the_penalty_is_the_best_on_a_keyed_part_of_each_class() -> None:
    z, labels = blobs(500, dim=60)
    choice = choose_penalty(z, labels, seed=3)
    tried = choice.tried
    assert tried[choice.penalty] == max(tried.values())
    assert choice.penalty == next(
        one for one in PENALTIES if one in tried and tried[one] == tried[choice.penalty]
    )  # of equals the strongest
    assert choose_penalty(z, labels, seed=3).tried == tried
    held = stratified(labels, 0.1, 3, "probe/validation")
    rest_of_them = torch.from_numpy(np.flatnonzero(~held))
    alone = Classifier.fit(z[rest_of_them], labels[~held], choice.penalty, tolerance=1e-8)
    assert tried[choice.penalty] == pytest.approx(alone.accuracy(z[torch.from_numpy(np.flatnonzero(held))], labels[held]), abs=0.021)


def test_a_fit_that_begins_elsewhere_ends_where_every_fit_ends() -> None:
    for n, dim in ((400, 12), (30, 60)):  # more rows than features, and fewer
        z, labels = blobs(n, dim)
        first = Classifier.fit(z, labels, 1e-1, tolerance=1e-9)
        cold, warm = (Classifier.fit(z, labels, 1e-3, start=start, tolerance=1e-9) for start in (None, first.weights))
        for a, b in zip(cold.weights, warm.weights, strict=True):
            assert torch.allclose(a, b, atol=1e-4)


def test_a_stratified_draw_takes_its_share_of_each_class_and_never_all_of_one() -> None:
    labels = np.repeat(np.arange(5), [1, 2, 10, 50, 101])
    inside = stratified(labels, 0.1, 0, "x")
    assert np.bincount(labels[inside], minlength=5).tolist() == [0, 1, 1, 5, 10]
    assert np.bincount(labels[stratified(labels, 0.99, 0, "x")], minlength=5).tolist() == [0, 1, 9, 49, 100]
    assert (inside == stratified(labels, 0.1, 0, "x")).all()
    assert (inside != stratified(labels, 0.1, 1, "x")).any()
    with pytest.raises(DataError, match="none of 4 classes has two samples"):
        stratified(np.arange(4), 0.5, 0, "x")


def test_alignment_and_uniformity_are_means_over_all_pairs() -> None:
    z, labels = blobs(60)
    u = unit(z.double()).numpy()
    pairs = [(i, j) for i in range(60) for j in range(i)]
    squared = {pair: float(((u[pair[0]] - u[pair[1]]) ** 2).sum()) for pair in pairs}
    of_one = [value for (i, j), value in squared.items() if labels[i] == labels[j]]
    assert class_alignment(z, labels) == pytest.approx(np.mean(of_one), rel=1e-9)
    assert all_uniformity(z) == pytest.approx(np.log(np.mean([np.exp(-2 * value) for value in squared.values()])), rel=1e-5)
    with pytest.raises(DataError, match="none of 60 classes has two"):
        class_alignment(z, np.arange(60))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    place = tmp_path_factory.mktemp("frozen runs é")
    return [write_run(place / f"seed={seed}", DIGITS, method="simclr", seed=seed) for seed in (0, 1)]


def probe(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> Any:
    capsys.readouterr()
    got = main(["probe", *map(str, args), "--device", "cpu", *["--json"] * (code == 0)])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out) if code == 0 else said.err


def cells(result: dict[str, Any], label: str) -> dict[str, float]:
    return {row["metric"]: row["mean"] for row in result["rows"] if row["label"] == label}


def test_the_command_measures_runs_beside_references_and_says_how(runs: list[Path], capsys: Any, tmp_path: Path) -> None:
    out = tmp_path / "probe.json"
    every = "knn,linear,low_shot,geometry"
    found = probe(capsys, *runs, "--protocol", every, "--k", "5,20", "--shots", "1,4", "--draws", 3, "--results", out)
    first = cells(found, str(runs[0]))
    train, test = (source("digits", **{**rest(DIGITS), "split": split}) for split in ("train", "test"))
    settings = {**rest(DIGITS), "split": "test"}
    bank, asked = features(runs[0], "digits", **rest(DIGITS)), features(runs[0], "digits", **settings)
    for k in (5, 20):
        expected = slow_knn(bank.double().numpy(), train.labels, asked.double().numpy(), k, 0.1) == test.labels
        assert first[f"kNN accuracy (k={k}), %"] == pytest.approx(100 * expected.mean(), abs=1e-3)
    penalty = float(found["protocol"]["linear"]["penalty chosen"][str(runs[0])].partition(",")[0])
    expected_linear = 100 * Classifier.fit(bank, train.labels, penalty, tolerance=1e-6).accuracy(asked, test.labels)
    assert first["linear accuracy, %"] == pytest.approx(expected_linear, abs=0.6)  # two of 355 samples
    assert [row["label"] for row in found["rows"] if row["metric"] == "linear accuracy, %"] == [
        "mean of 2", str(runs[0]), str(runs[1]), "untrained", "raw pixels",
    ]  # fmt: skip
    for metric, mean in cells(found, "mean of 2").items():
        assert mean == pytest.approx((first[metric] + cells(found, str(runs[1]))[metric]) / 2, abs=2e-3)
    assert {f"low-shot {head} accuracy (k={k}), %" for head in ("svm", "logistic") for k in (1, 4)} < set(first)
    document = json.loads(out.read_text())
    data = document["data"]
    assert data["bank"] == "1442 samples of digits/train"
    assert data["queries"] == "355 samples of digits/test"
    assert data["knn"] == {"k": "5, 20", "temperature": 0.1, "votes": "exp(cosine / temperature)", "features": "at unit length"}
    assert (data["feature"], data["checkpoint"]) == ("backbone", "the one that was named")
    assert {"knn", "linear", "low_shot", "geometry", "interval", "training"} < set(data)
    assert document["rows"] == found["rows"]
    assert all(row["part_of"] == "mean of 2" for row in document["rows"] if row["label"] == str(runs[0]))


def test_a_bank_is_drawn_where_classes_have_no_other_split(runs: list[Path], capsys: Any) -> None:
    glyphs = ("--data", "glyphs", "--split", "test", "--set", "variants=4", "--protocol", "knn", "--k", "2", "--no-reference")
    refused = probe(capsys, runs[0], *glyphs, code=3)
    assert "no sample of" in refused
    assert "--bank-share 0.5" in refused
    found = probe(capsys, runs[0], *glyphs, "--bank-share", "0.5")
    assert found["data"]["bank drawn"].startswith("a share of 0.5 of each class (seed 0)")
    assert [row["metric"] for row in found["rows"]] == ["kNN accuracy (k=2), %"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--protocol", "kn"), "did you mean"),
        (("--protocol", "knn", "--k", "5000"), "the bank has 1442 samples, fewer than k=5000"),
        (("--protocol", "knn", "--temperature", "0"), "--temperature: expected a number above 0"),
        (("--protocol", "knn", "--data", "digits", "--split", "test", "--bank-split", "test"), "bank and queries are the same samples"),
        (("--protocol", "knn", "--bank", "digits", "--bank-share", "0.5"), "give one of them"),
        (("--protocol", "knn", "--bank-share", "1.5"), "between 0 and 1"),
        (("--protocol", "knn", "--labels", "class"), "--labels belongs to leaving one out"),
        (("--bank", "digits"), "--bank belongs to a --protocol"),
        (("--k", "3,5"), "one number of neighbours"),
        (("--protocol", "knn", "--k", "x"), "--k: expected whole numbers"),
        (("--protocol", "low_shot", "--draws", "0"), "--draws must be at least 1"),
        (("--protocol", "knn", "--feature", "head"), "this encoder has no feature"),
    ],
)
def test_mistakes_are_named(runs: list[Path], capsys: Any, args: tuple[str, ...], told: str) -> None:
    assert told in probe(capsys, runs[0], *args, code=2)


def test_people_see_metrics_beside_what_was_measured(runs: list[Path], capsys: Any) -> None:
    assert main(["probe", *map(str, runs), "--protocol", "knn,geometry", "--k", "5", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "temperature: 0.1" in shown
    assert "kNN accuracy (k=5), %" in shown
    assert "effective rank" in shown
