"""Labels made wrong on purpose: which, how many, and what a run does with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.datasets.wrong_labels import wrong_labels
from kinshot.learn.knn import knn_accuracy
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.job import build
from kinshot.runs.knn_probe import KnnProbe
from kinshot.runs.train import Options, train_recipe
from tests.tiny import TINY

TRUTH = np.random.default_rng(0).integers(0, 7, 4000)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4])
def test_exactly_a_share_is_wrong(share):
    given, wrong = wrong_labels(TRUTH, 7, share, 3)
    assert wrong.sum() == round(share * 4000)
    assert ((given != TRUTH) == wrong).all()
    assert given.dtype == np.int64
    assert not given.size or (given.min() >= 0 and given.max() < 7)


def test_every_other_class_is_as_likely_and_so_is_every_sample():
    given, wrong = wrong_labels(TRUTH, 7, 0.5, 0)
    counts = np.bincount(7 * TRUTH[wrong] + given[wrong], minlength=49).reshape(7, 7)
    assert (np.diag(counts) == 0).all()
    expected = 2000 / 42
    assert np.abs(counts[~np.eye(7, dtype=bool)] - expected).max() < 5 * expected**0.5
    assert abs(np.bincount(TRUTH[wrong]) / np.bincount(TRUTH) - 0.5).max() < 0.12


def test_the_draw_is_the_seed_s_and_larger_shares_hold_smaller_ones():
    few, many = wrong_labels(TRUTH, 7, 0.2, 3), wrong_labels(TRUTH, 7, 0.4, 3)
    assert (many[0][few[1]] == few[0][few[1]]).all()
    assert (wrong_labels(TRUTH, 7, 0.2, 3)[0] == few[0]).all()
    assert (wrong_labels(TRUTH, 7, 0.2, 4)[0] != few[0]).any()


def test_shares_and_classes_that_cannot_be_are_refused():
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="a share from 0 to below 1"):
            wrong_labels(TRUTH, 7, share, 0)
    with pytest.raises(ConfigError, match="there is 1 class: choose data with more"):
        wrong_labels(np.zeros(5, np.int64), 1, 0.2, 0)
    with pytest.raises(ConfigError, match=r"train\.wrong_labels"):
        load_recipe(str(TINY), ["train.wrong_labels=1"])


def test_a_relabelled_source_is_the_same_but_for_its_labels():
    source = SOURCES.build("digits", settings={"split": "test", "size": 8})
    before = source.fingerprint(), source.labels.copy()
    other = source.relabelled((source.labels + 1) % 10)
    assert torch.equal(other.load([3, 4]), source.load([3, 4]))
    assert other.fingerprint() != source.fingerprint() == before[0]
    assert (source.labels == before[1]).all()
    assert other.relabelled(source.labels).fingerprint() == before[0]


def recipe(*more):
    return load_recipe(str(TINY), ["train.wrong_labels=0.4", "terms=[{objective: triplet, kin: labels}]", *more])


def test_a_run_learns_from_them_and_its_checkpoint_knows_the_data_as_it_is(tmp_path: Path):
    source = SOURCES.build("digits", settings={"split": "test", "size": 16})
    job = build(recipe("seed=5"), source)
    expected, wrong = wrong_labels(source.labels, 10, 0.4, 5)
    assert (job.source.labels == expected).all()
    assert any(f"{wrong.sum()} of {len(source)} are wrong, as train.wrong_labels=0.4 asks" in note for note in job.notes)
    assert job.data.whole.fingerprint() == source.fingerprint()
    (term,) = job.run.learner.terms
    assert (term.kin.labels.numpy() == expected).all()
    supervised = build(load_recipe(str(TINY), ["method=classifier", "views.views=1", "train.wrong_labels=0.4", "seed=5"]), source)
    assert (supervised.run.learner.method.labels.cpu().numpy() == expected).all()
    options = Options(tmp_path / "run", quiet=True)
    train_recipe(recipe("train.epochs=1"), options, lambda line: None)
    (path,) = list((tmp_path / "run" / "checkpoints").iterdir())[-1:]
    assert load_checkpoint(path).state["source"] == source.fingerprint()


def test_the_knn_probe_of_a_run_keeps_the_labels_that_the_data_has():
    source = SOURCES.build("digits", settings={"split": "test", "size": 16})
    wrong, right = build(recipe("seed=5"), source), build(load_recipe(str(TINY), ["seed=5"]), source)
    assert (wrong.source.labels != source.labels).any()
    probes = KnnProbe(wrong), KnnProbe(right)
    assert (probes[0].labels == source.labels).all()
    assert (probes[0].query_rows == probes[1].query_rows).all()
    assert probes[0](wrong) == probes[1](right)  # the same first weights, by the same labels


def test_the_knn_probe_asks_another_split_and_training_is_the_same(tmp_path: Path):
    results = []
    for name, more in (("own", []), ("other", ["monitor.knn_split=test"])):
        settings = ["data.split=train", "train.epochs=1", "monitor.tensorboard=false", "data.size=8", "encoder.width=4", *more]
        results.append(train_recipe(load_recipe(str(TINY), settings), Options(tmp_path / name, quiet=True), lambda line: None))
    assert results[0]["weights"] == results[1]["weights"]
    assert "eval/knn/backbone" in results[1]["metrics"]
    source = SOURCES.build("digits", settings={"split": "train", "size": 8})
    job = build(load_recipe(str(TINY), ["data.split=train", "data.size=8", "monitor.knn_split=test"]), source)
    probe = KnnProbe(job)
    others = SOURCES.build("digits", settings={"split": "test", "size": 8})
    assert (probe.query_labels == others.labels[probe.query_rows]).all()
    bank, queries = job.extract(torch.nn.Identity(), probe.bank_rows), job.embed_source(others, probe.query_rows)["backbone"]
    labels = torch.as_tensor(source.labels[probe.bank_rows]), torch.as_tensor(probe.query_labels)
    assert probe(job)["backbone"] == knn_accuracy(bank, labels[0], queries, labels[1], k=20, temperature=0.1)
    with pytest.raises(ConfigError, match=r"monitor\.knn_split: digits has no other split 'val'"):
        KnnProbe(build(load_recipe(str(TINY), ["data.split=train", "data.size=8", "monitor.knn_split=val"]), source))


def test_wrong_labels_that_nobody_learns_from_are_refused():
    images = np.random.default_rng(0).integers(0, 256, (64, 1, 16, 16), dtype=np.uint8)
    with pytest.raises(ConfigError, match="neither method nor terms of this run learn from labels"):
        build(load_recipe(str(TINY), ["train.wrong_labels=0.4"]), ArraySource(images, np.arange(64) % 4))
    with pytest.raises(ConfigError, match="has no label of each sample"):
        build(recipe(), ArraySource(images))
