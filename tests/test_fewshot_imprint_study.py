"""`fewshot imprint` through the real command, against rows made by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint, save_checkpoint
from kinshot.core.errors import CheckpointError
from kinshot.fewshot.imprinting import append_rows, fine_tune_rows
from kinshot.fewshot.joint import KEPT, hold_out
from kinshot.recipes.recipe import Choice
from kinshot.studies.answers import features_of
from kinshot.studies.base_classifier import base_classifier, feature_width, needed_classifier, network_of
from kinshot.studies.study import load_runs
from tests.study_runs import CPU, DIGITS, NOVEL, VAL, call, cells, draws_of, features, harmonic, joint, rest, source, unit, write_run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("digits") / "run", DIGITS)


STUDY = ["--novel", NOVEL, "--shots", "1,2", "--draws", "2", "--batch", "16", "--views", "2", "-q"]


def test_imprint_agrees_with_rows_made_by_hand(digits, capsys):
    given = [*STUDY, "--starts", "random,imprinted", "--tunings", "none,rows", "--steps", "5", "--lr", "0.5"]
    found = cells(call(capsys, "imprint", digits, *given))
    x, labels = features(digits, "digits", **rest(DIGITS)), source("digits", **rest(DIGITS)).labels
    kept = hold_out(labels, test=0.0, validation=0.1, seed=0) == KEPT
    z, base = features(digits, "glyphs", split="val", variants=4, size=16), features(digits, "digits", split="test", size=16)
    truth, old = source("digits", split="test", size=16).labels, unit(load_checkpoint(digits).tensors["rows"]["weight"])
    for shots in (1, 2):
        plain, tuned = [], []
        for number, draw in enumerate(draws_of("val", 0, 2, 2)):
            new = torch.stack([unit(z[images[:shots]]).mean(0) for images in draw.exemplars])
            rows = append_rows(old, new)
            plain.append(measured(rows, base, truth, z, draw))
            ways = torch.arange(len(new)).repeat_interleave(shots)
            train, right = (
                torch.cat([x[kept], z[draw.exemplars[:, :shots].ravel()]]),
                torch.cat([torch.from_numpy(labels[kept]), 10 + ways]),
            )
            after = fine_tune_rows(rows, 8.0, train, right, steps=5, lr=0.5, batch=16, seed=study_seed(number))
            tuned.append(measured(after.rows, base, truth, z, draw))
        for label, values in (("imprinted", plain), ("imprinted, rows fine-tuned", tuned)):
            for kind, value in zip(("base classes", "novel classes", "all classes"), np.mean(values, axis=0), strict=True):
                assert found[label, f"images of {kind}, %: n = {shots}"] == pytest.approx(value, abs=1e-6)
        assert found["random rows", f"images of novel classes, %: n = {shots}"] < np.mean(plain, axis=0)[1]
        metric = f"harmonic mean of base and novel, %: n = {shots}"
        assert found["imprinted", metric] == pytest.approx(np.mean([harmonic(p[0], p[1]) for p in plain]))
    assert not np.array_equal(plain, tuned)


def study_seed(number: int) -> int:
    from kinshot.core.rng import keyed_seed

    return keyed_seed(0, "imprinting study", number)


def measured(rows: torch.Tensor, base: torch.Tensor, truth: np.ndarray, z: torch.Tensor, draw: Any) -> np.ndarray:
    scores = [(unit(v).double() @ rows.double().T).numpy() for v in (base, z[draw.query])]
    return joint(scores[0], truth, scores[1], draw.query_ways, 10)[:3]


def test_a_network_that_hardly_moves_gives_what_no_tuning_gives(digits, capsys):
    given = [*STUDY, "--shots", "2", "--tunings", "none,network", "--steps", "2", "--lr", "1e-12", "--batch-norm", "frozen"]
    found = cells(call(capsys, "imprint", digits, *given))
    kinds = {metric for _, metric in found}
    assert len(kinds) == 4
    for start in ("random rows", "imprinted", "imprinted from views"):
        for metric in kinds:
            assert found[f"{start}, network fine-tuned", metric] == pytest.approx(found[start, metric], abs=0.3)
    assert found["imprinted", "images of novel classes, %: n = 2"] != found["imprinted from views", "images of novel classes, %: n = 2"]


def test_settings_are_chosen_on_validation_classes_or_given(digits, capsys):
    given = ["--starts", "imprinted", "--tunings", "none,network", "--steps", "4", "--lr", "0.05,1e-9", "--jointly", "4:0.05"]
    result = call(capsys, "imprint", digits, *STUDY, "--shots", "2", "--validation", VAL, *given)
    chosen = result["chosen on validation classes"]["pretrained"]["network, n = 2"]
    assert chosen in ("4 steps at lr 0.05", "4 steps at lr 1e-09")
    assert "chosen for each number of exemplars" in result["protocol"]["fine-tuning"]
    found = cells(result)
    assert "all classes jointly" in {label for label, _ in found}
    again = call(capsys, "imprint", digits, *STUDY, "--shots", "2", "--validation", VAL, *given)
    assert cells(again) == found
    assert "validation classes, and there are none" in call(capsys, "imprint", digits, *STUDY, "--lr", "0.1,0.2", code=2)


def test_a_checkpoint_brings_its_own_rows(tmp_path):
    run = write_run(tmp_path / "run", DIGITS)
    checkpoint = load_checkpoint(run)
    rows = {"weight": torch.ones(10, 4), "scale": torch.tensor(3.0)}
    save_checkpoint(run, parts={**checkpoint.tensors, "rows": rows}, state=checkpoint.state, config=checkpoint.config, fsync=False)
    found = base_classifier(load_runs([run])[0])
    assert found is not None
    assert (found.scale, float(found.weight.sum())) == (3.0, 40.0)


def test_the_classifier_may_stand_on_the_projector(digits):
    run = load_runs([digits])[0]
    assert [feature_width(run, name) for name in ("backbone", "projector")] == [run.model.encoder.dim, 6]
    data = source("digits", split="test", size=16)
    images = run.model.prepare(data.load(torch.arange(32)))
    found = features_of(run.model, data, CPU)
    with torch.no_grad():
        for name in ("backbone", "projector"):
            torch.testing.assert_close(network_of(run.model, name)(images), found[name][:32])
    moved = replace(run, recipe=replace(run.recipe, method=Choice("classifier", {"feature": "projector"})))
    classifier = base_classifier(moved)
    assert classifier is not None
    assert classifier.feature == "projector"
    with pytest.raises(CheckpointError, match=r"expected \(10, 6\)"):
        needed_classifier(moved, 10)
