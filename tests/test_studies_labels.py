"""`ssl labels` through the real command: encoders, references and networks trained from scratch on the same few labels."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kinshot.cli.ssl import main
from kinshot.core.errors import ConfigError, DataError, DivergedError
from kinshot.core.statistics.agreement import accuracy, accuracy_by, macro_f1
from kinshot.datasets import SOURCES
from kinshot.datasets.bundle import Bundle
from kinshot.fewshot.draws import pool_of
from kinshot.fewshot.linear_probe import Scaling, label_draws, probe_predictions
from kinshot.learn.model import LOGITS
from kinshot.recipes.amounts import parse_amounts
from kinshot.recipes.loaded import read
from kinshot.runs.embedder import from_checkpoint
from kinshot.studies.answers import features_of
from kinshot.studies.labels import supervised
from kinshot.studies.labels.arms import Arm, Member, differences, rows_of, verdicts
from kinshot.studies.labels.curve import ACCURACY, F1, POINTS, SPREAD, WORST
from kinshot.studies.labels.parts import Parts
from kinshot.studies.labels.supervised import Training
from kinshot.studies.results import result_block
from tests.study_runs import CPU, DIGITS, write_run

MOTION = {"classes": "base", "subjects": 5, "stretch": 5.2, "seed": 1, "held_out": ["person 000", "person 001"]}
RECIPE = """
data: {{name: motion, split: train, {data}}}
views: {{name: clean, views: 2}}
encoder: {{name: fused, each: "series_cnn:widths=[4, 8]:kernels=[8, 4]:strides=[4, 2]"}}
projector: {{hidden: 8, dim: 6}}
method: {{name: simclr}}
train: {{epochs: 1, batch_size: 32, threads: 1}}
"""
FEW = ["--counts", "1,2,full", "--draws", "3", "--supervised-draws", "2", "--supervised", "steps=3,epochs=1,batch=16"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of an encoder of bundles that was trained for a few steps, by the real command."""
    folder = tmp_path_factory.mktemp("motion")
    recipe = folder / "motion.yaml"
    recipe.write_text(RECIPE.format(data=", ".join(f"{key}: {value}" for key, value in MOTION.items())))
    found = [folder / f"seed{seed}" for seed in (0, 1)]
    for seed, out in enumerate(found):
        assert main(["pretrain", str(recipe), "--seed", str(seed), "--out", str(out), "-q"]) == 0
    return found


def motion(split: str) -> Bundle:
    return Bundle(SOURCES.build("motion", settings={**MOTION, "split": split}))


def call(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> Any:
    capsys.readouterr()
    got = main(["labels", *map(str, args), "--device", "cpu", *["--json"] * (code == 0)])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out) if code == 0 else said.err


def means(result: dict[str, Any], block: str) -> dict[tuple[str, str], float]:
    return {(row["label"], row["column"]): row["mean"] for row in result["rows"] if row["block"] == block}


def test_agreement_equals_loops_and_scikit_learn():
    draws = np.random.default_rng(0)
    labels, predicted, people = draws.integers(0, 4, 60), draws.integers(0, 5, (7, 60)), draws.integers(0, 3, 60)
    predicted[0] = labels
    assert accuracy(predicted, labels) == pytest.approx([np.mean([p == t for p, t in zip(one, labels, strict=True)]) for one in predicted])
    expected = [f1_score(labels, one, labels=range(4), average="macro") for one in predicted]  # class 4 is none of the labels'
    assert macro_f1(predicted, labels, 5) == pytest.approx(expected)
    assert macro_f1(predicted, labels, 5)[0] == 1
    by = accuracy_by(predicted, labels, people)
    assert by == pytest.approx(np.array([[(one == labels)[people == who].mean() for who in range(3)] for one in predicted]))


def test_draws_are_the_same_for_all_and_larger_ones_extend_smaller_ones():
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [7, 20, 11]))
    pool = pool_of(labels)
    few, more = label_draws(pool, 2, 5, seed=3), label_draws(pool, 6, 5, seed=3)
    assert (few.shape, more.shape) == ((5, 6), (5, 18))
    for small, large in zip(few, more, strict=True):
        assert len(set(large)) == 18
        assert set(small) < set(large)
        assert np.bincount(labels[small]).tolist() == [2, 2, 2]
        assert np.bincount(labels[large]).tolist() == [6, 6, 6]
    assert np.array_equal(few, label_draws(pool, np.array([2, 2, 2]), 5, seed=3))
    assert not np.array_equal(few, label_draws(pool, 2, 5, seed=4))
    assert len({tuple(sorted(row)) for row in few}) > 1
    shares = label_draws(pool, np.array([1, 4, 2]), 5, seed=3)
    assert all(np.bincount(labels[row]).tolist() == [1, 4, 2] for row in shares)
    with pytest.raises(DataError, match=r"class 0 has 7 samples, 8 .* at most 7"):
        label_draws(pool, 8, 2, seed=0)
    with pytest.raises(ConfigError, match="at least 1"):
        label_draws(pool, 0, 2, seed=0)


def test_amounts_are_numbers_shares_and_full():
    counts = np.array([100, 8, 3])
    found = {amount.text: amount.of(counts).tolist() for amount in parse_amounts("5,10%,full,1,5", "--counts")}
    assert found == {"5 per class": [5, 5, 5], "10 %": [10, 1, 1], "full": [100, 8, 3], "1 per class": [1, 1, 1]}
    for wrong in ("", "0", "1,x", "0%", "101%", "-1", "1;2", "all"):
        with pytest.raises(ConfigError, match="--counts"):
            parse_amounts(wrong, "--counts")


def test_a_probe_is_scikit_learn_on_standardised_features():
    draws = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], 20)
    x = draws.normal(size=(60, 5)) + labels[:, None] * [0.5, -0.2, 0, 0.1, 0]
    x[:, 3], x[:, 4] = 7.0, x[:, 4] * 1000 + 5
    queries = draws.normal(size=(40, 5)) * [1, 1, 1, 0, 1000] + [0, 0, 0, 7, 5]
    rows = label_draws(pool_of(labels), 6, 3, seed=0)
    scaling = Scaling.of(torch.from_numpy(x))
    found = probe_predictions(scaling(torch.from_numpy(x)), labels, rows, scaling(torch.from_numpy(queries)), 0.5)
    scaler = StandardScaler().fit(x)
    for said, row in zip(found, rows, strict=True):
        model = LogisticRegression(C=0.5, max_iter=3000).fit(scaler.transform(x)[row], labels[row])
        assert np.array_equal(said, model.predict(scaler.transform(queries)))
    assert torch.equal(scaling(torch.from_numpy(x))[:, 3], torch.zeros(60, dtype=torch.float64))  # constant


def test_a_row_is_a_probe_on_the_drawn_labels_written_out(runs, capsys):
    result = call(capsys, runs[0], *FEW, "-q")
    train, test = motion("train"), motion("test")
    x, q = (features_of(from_checkpoint(read(runs[0])), source, CPU)["backbone"].double().numpy() for source in (train, test))
    scaler = StandardScaler().fit(x)
    for count, column in ((1, "1 per class"), (2, "2 per class")):
        right, f1, worst, spread = [], [], [], []
        for row in label_draws(pool_of(train.labels), count, 3, seed=0):
            model = LogisticRegression(max_iter=3000).fit(scaler.transform(x)[row], train.labels[row])
            said = model.predict(scaler.transform(q))
            right.append(100 * np.mean(said == test.labels))
            f1.append(100 * f1_score(test.labels, said, average="macro", labels=np.unique(test.labels)))
            people = test.attributes["subject"]
            each = [100 * np.mean((said == test.labels)[people == who]) for who in np.unique(people)]
            worst, spread = [*worst, min(each)], [*spread, np.std(each, ddof=1)]
        assert means(result, ACCURACY)["pretrained", column] == pytest.approx(np.mean(right))
        assert means(result, F1)["pretrained", column] == pytest.approx(np.mean(f1))
        row = next(row for row in result["rows"] if (row["label"], row["column"], row["block"]) == ("pretrained", column, F1))
        assert row["sd"] == pytest.approx(np.std(f1, ddof=1))
        assert row["n"] == 3
        assert means(result, WORST)["pretrained", column] == pytest.approx(np.mean(worst))
        assert means(result, SPREAD)["pretrained", column] == pytest.approx(np.mean(spread))
    hand = make_pipeline(StandardScaler(), LogisticRegression(max_iter=3000)).fit(
        train.spec.raw(train.load(range(len(train)))), train.labels
    )
    expected = 100 * hand.score(test.spec.raw(test.load(range(len(test)))), test.labels)
    assert means(result, ACCURACY)["hand-made statistics", "full"] == pytest.approx(expected)
    labels = dict.fromkeys(row["label"] for row in result["rows"])
    assert list(labels) == ["pretrained", "untrained", "hand-made statistics", "supervised from scratch"]
    assert result["data"]["people of both parts"] == "none"
    assert "2 of 3 draws" in result["protocol"]["supervised from scratch"]
    assert "not tuned" in result["protocol"]["classifier"]


def test_seeds_are_averaged_and_rows_are_paired_with_their_references(runs, capsys, tmp_path):
    figure, file = tmp_path / "curve.png", tmp_path / "labels.json"
    capsys.readouterr()
    given = [f"mine={runs[0]}", f"mine={runs[1]}", *FEW, "--plot", figure, "--results", file, "--device", "cpu"]
    assert main(["labels", *map(str, given)]) == 0
    table = capsys.readouterr()
    assert figure.read_bytes().startswith(b"\x89PNG")
    for said in ("mine (mean of 2) minus untrained", "paired on the same draws", "1 per class: the best row", "± half of the interval"):
        assert said in table.out
    assert "measured untrained, seed 1" in table.err
    result = call(capsys, *given[:2], *FEW, "-q")
    rows = [row for row in result["rows"] if row["label"].startswith("untrained, seed")]
    assert {row["part_of"] for row in rows} == {"untrained"}
    found = means(result, F1)
    for one in result["paired"]:
        if one["block"] == POINTS[F1] and one["against"] in ("untrained", "hand-made statistics"):
            expected = found["mine (mean of 2)", one["column"]] - found[one["against"], one["column"]]
            assert one["mean"] == pytest.approx(expected)
    document = json.loads(file.read_text())
    assert {row["label"] for row in document["rows"]} >= {"mine (mean of 2)", "mine (mean of 2) minus supervised from scratch"}
    assert "## labels" in result_block(file)


def test_differences_pair_seeds_and_draws_and_verdicts_need_disjoint_intervals():
    draws = np.random.default_rng(3)
    cell = (F1, "1 per class")

    def members(center: float, seeds: list[int | None], count: int) -> tuple[Member, ...]:
        return tuple(Member(f"{center} {seed}", seed, {cell: center + draws.normal(size=count)}) for seed in seeds)

    ours, same, single = members(60, [0, 1, 2], 6), members(50, [0, 1, 2], 6), members(55, [None], 4)
    beside = ("untrained", "scratch")
    arms = [Arm("mine", ours, beside), Arm("untrained", same, reference=True), Arm("scratch", single, reference=True)]
    found = {one.against: one for one in differences(arms, POINTS)}
    by_seed = np.stack([a.values[cell] - b.values[cell] for a, b in zip(ours, same, strict=True)])
    assert found["untrained"].mean == pytest.approx(by_seed.mean())
    assert found["untrained"].n == 3
    shared = np.stack([a.values[cell][:4] - single[0].values[cell] for a in ours])
    assert found["scratch"].mean == pytest.approx(shared.mean())
    assert found["scratch"].p_holm >= found["scratch"].p > 0
    unpaired = differences([arms[0], Arm("untrained", members(50, [7, 8], 6), reference=True), arms[2]], POINTS)[0]
    assert unpaired.mean == pytest.approx(10, abs=2)
    (verdict,) = verdicts(arms, rows_of(arms), F1)
    assert (verdict["best"], verdict["reference"], verdict["above"]) == ("mine", "scratch", True)
    close = [arms[0], Arm("untrained", members(60, [0, 1, 2], 6), reference=True), arms[2]]
    assert verdicts(close, rows_of(close), F1)[0]["above"] is False
    known = Arm("hand", (Member("hand", None, {cell: np.array([50.0])}),), reference=True)
    assert verdicts([arms[0], known], rows_of([arms[0], known]), F1)[0]["above"] is None
    known = replace(known, fixed=True)  # what is not drawn has no interval and needs none
    assert verdicts([arms[0], known], rows_of([arms[0], known]), F1)[0]["above"] is True
    once = [Arm("mine", members(60, [0], 1), beside), *arms[1:]]
    assert verdicts(once, rows_of(once), F1)[0]["above"] is None


def test_a_study_that_was_stopped_goes_on(runs, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "whole"))
    whole = call(capsys, runs[0], *FEW, "-q")
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "stopped"))
    train, trained = supervised._train, []

    def stopping(*given: Any) -> None:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(given)
        train(*given)

    monkeypatch.setattr(supervised, "_train", stopping)
    assert main(["labels", str(runs[0]), *FEW, "-q", "--device", "cpu"]) == 130
    monkeypatch.setattr(supervised, "_train", lambda *given: (trained.append(given), train(*given)))
    again = call(capsys, runs[0], *FEW, "-q")
    assert len(trained) == 2 + 2 + 1  # two draws of two amounts, and all labels once: none of them twice
    assert again["rows"] == whole["rows"]
    assert again["paired"] == whole["paired"]


def test_the_network_from_scratch_learns_what_it_is_given(runs):
    run, train = read(runs[0]), motion("train")
    rows = np.arange(len(train))
    parts = Parts(train, train.labels, train, rows, train.labels, tuple(train.class_names))
    given = run, supervised.encoder_of(run), parts, rows, 0
    found = supervised.supervised_predictions(*given, Training(steps=60, lr=0.02, batch=48), 0, CPU)
    assert np.mean(found == train.labels) > 0.7
    once = supervised.supervised_predictions(*given, Training(steps=1, epochs=0, lr=1e-9), 0, CPU)
    assert np.mean(once == train.labels) < 0.5
    assert Training(steps=10, epochs=5, batch=64).length(6) == 10
    assert Training(steps=10, epochs=5, batch=64).length(1000) == 75
    with pytest.raises(DivergedError, match="lower lr"):
        supervised.supervised_predictions(*given, Training(steps=6, lr=1e30), 0, CPU)


def test_draws_of_a_training_differ_and_a_seed_gives_the_same_weights(runs):
    run, train = read(runs[0]), motion("train")
    rows = label_draws(pool_of(train.labels), 1, 1, seed=0)[0]
    parts = Parts(train, train.labels, train, np.arange(40), train.labels[:40], tuple(train.class_names))
    found = {}
    original = supervised._train

    def keep(model: Any, *given: Any) -> None:
        original(model, *given)
        found.setdefault(given[-1], []).append(model.outputs(model.prepare(train.load(range(4))), (LOGITS,))[LOGITS].detach())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised, "_train", keep)
        for number in (0, 1):
            for passes in (4, 5):  # another setting, which is not in the cache, of as many steps
                supervised.supervised_predictions(
                    run, supervised.encoder_of(run), parts, rows, number, Training(6, epochs=passes - 4), 0, CPU
                )
    first, second = found.values()
    assert torch.equal(*first)
    assert torch.equal(*second)
    assert not torch.equal(first[0], second[0])


def test_images_have_the_curve_too(tmp_path, capsys):
    run = write_run(tmp_path / "run", DIGITS, method="simclr")
    result = call(capsys, run, "--counts", "1,10%", "--draws", "2", "--supervised-draws", "0", "-q")
    assert list(dict.fromkeys(row["label"] for row in result["rows"])) == ["pretrained", "untrained", "raw pixels"]
    assert not any(row["block"] == WORST for row in result["rows"])
    assert result["labels per class"].keys() == {"1 per class", "10 %"}


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--counts", "1000"], 3, r"class '.*' has \d+ samples, and 1000 per class were asked for: lower --counts"),
        (["--counts", "1,zwei"], 2, "--counts: expected numbers"),
        (["--draws", "0"], 2, "--draws must be at least 1"),
        (["--c", "0"], 2, "--c above 0"),
        (["--plot", "curve.svg"], 2, "--plot writes a PNG file"),
        (["--feature", "backbone,joint"], 2, "--feature takes one"),
        (["--feature", "logits"], 2, "logits"),
        (["--supervised", "step=3"], 2, "unknown setting 'step': did you mean 'steps'"),
        (["--supervised", "steps=many"], 2, "steps must be a whole number"),
        (["--supervised", "batch=0"], 2, "batch and lr must be above 0"),
        (["--test", "motion,classes=novel,split=test,subjects=3"], 3, "has no class of motion/train .* say with --test"),
        (["--data", "motion,split=all,subjects=3,stretch=5,classes=base"], 3, "all samples to test on are among those that are learned"),
        (["--data", "manifold"], 2, "manifold has no split test beside what is learned from: say with --test"),
        (["--data", "digits"], 3, "but the encoder was made for"),
    ],
)
def test_what_cannot_be_measured_is_named(runs, capsys, given, code, message):
    error = call(capsys, runs[0], *given, code=code)
    assert re.search(message, error), error


def test_amounts_that_a_class_cannot_give_are_left_out_with_a_word(runs, capsys):
    capsys.readouterr()
    assert main(["labels", str(runs[0]), "--counts", "1,1000", "--draws", "2", "--supervised-draws", "0", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "1000 per class left out" in said.err
    assert "measured once" not in said.out


def test_people_of_both_parts_are_named(runs, capsys):
    everyone = "motion,split=all,classes=base,subjects=5,stretch=5.2,seed=1"
    capsys.readouterr()
    given = ["--test", everyone, "--counts", "1", "--draws", "2", "--supervised-draws", "0", "--no-reference", "--device", "cpu"]
    assert main(["labels", str(runs[0]), *given]) == 0
    said = capsys.readouterr()
    assert "warning: motion/train and motion/all have people in common (person" in said.err
    assert "people of both parts: person" in said.out
    assert re.search(r"warning: \d+ of \d+ samples of motion/all are among those of motion/train", said.err)
    assert "test samples that are learned from, too" in said.out
