"""`ssl missing` through the real command: every subset of modalities, against features encoded anew and heads written out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from kinshot.cli.fewshot import main as fewshot
from kinshot.cli.missing import HEADS as OFFERED
from kinshot.cli.missing import shortened
from kinshot.cli.ssl import main
from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_seed
from kinshot.datasets import SOURCES
from kinshot.datasets.bundle import Bundle
from kinshot.encoders.build import build_encoder
from kinshot.fewshot.subset_dropout import subset_dropout
from kinshot.learn.model import Model
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import Choice
from kinshot.runs.embedder import from_checkpoint
from kinshot.samples.spec import input_of
from kinshot.studies.answers import build_source, features_of
from kinshot.studies.labels.curve import ACCURACY, F1
from kinshot.studies.labels.missing import HEADS, INCOMPLETE, LENGTHS
from kinshot.studies.labels.modalities import Masked, of_encoder, of_lengths, of_statistics, scalings_of, subsets_of
from kinshot.studies.results import result_block
from tests.study_runs import CPU, DIGITS, write_run

MOTION = {"classes": "base", "subjects": 6, "stretch": 5.2, "seed": 4, "missing": 0.3, "held_out": ["person 000", "person 001"]}
RECIPE = """
data: {{{data}}}
views: {{name: clean, views: 2}}
encoder: {{name: fused, each: "series_cnn:widths=[4, 6]:kernels=[8, 4]:strides=[4, 2]"}}
projector: {{hidden: 8, dim: 6}}
method: {{name: simclr}}
train: {{epochs: 1, batch_size: 16, threads: 1}}
"""
EPISODES = {"subjects": 5, "stretch": 6.0}
NAMES = ("accelerometer", "gyroscope", "barometer")


def pretrained(folder: Path, data: dict[str, Any], seed: int = 0) -> Path:
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(data=", ".join(f"{key}: {value}" for key, value in data.items())))
    out = folder / f"seed{seed}"
    assert main(["pretrain", str(recipe), "--seed", str(seed), "--out", str(out), "-q"]) == 0
    return out


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of an encoder of bundles some of whose sensors some people lack, trained for a few steps by the real command."""
    folder = tmp_path_factory.mktemp("motion")
    return [pretrained(folder, {"name": "motion", "split": "train", **MOTION}, seed) for seed in (0, 1)]


def motion(split: str) -> Bundle:
    return Bundle(SOURCES.build("motion", settings={**MOTION, "split": split}))


def call(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> Any:
    capsys.readouterr()
    got = main(["missing", *map(str, args), "--device", "cpu", *["--json"] * (code == 0)])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out) if code == 0 else said.err


def means(result: dict[str, Any], block: str) -> dict[tuple[str, str], float]:
    return {(row["label"], row["column"]): row["mean"] for row in result["rows"] if row["block"] == block}


def test_every_subset_that_is_not_empty_is_as_likely_and_depends_on_its_sample_alone():
    samples = np.arange(7000)
    kept = subset_dropout(samples, 3, 0.5, seed=0)
    codes, counts = np.unique(kept @ [1, 2, 4], return_counts=True)
    assert codes.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert (np.abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    some = np.array([3, 6999, 17])
    assert np.array_equal(subset_dropout(some, 3, 0.5, seed=0), kept[some])
    assert not np.array_equal(subset_dropout(samples, 3, 0.5, seed=1), kept)
    present = np.array([[True, False, True], [False, True, False]])[samples % 2]
    there = subset_dropout(samples, 3, 0.8, seed=0, present=present)
    assert there.any(axis=1).all()
    assert not (there & ~present).any()
    assert subset_dropout(samples, 3, 0.0, seed=0).all()
    rare = subset_dropout(samples, 3, 0.2, seed=0).sum(axis=1)
    expected = 3 * 0.8 / (1 - 0.2**3)  # kept modalities, given that there is one
    assert rare.mean() == pytest.approx(expected, abs=0.03)
    for p in (1.0, -0.1):
        with pytest.raises(ConfigError, match="from 0 to below 1"):
            subset_dropout(samples, 3, p, seed=0)
    with pytest.raises(DataError, match="sample 1 has none of the 3"):
        subset_dropout(samples[:2], 3, 0.5, seed=0, present=np.array([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize("fusion", ["concat", "mean", "attention"])
def test_a_subset_is_what_the_encoder_says_without_the_others(fusion):
    source = motion("train")
    spec = input_of(source)
    settings = {"each": "series_cnn:widths=[4, 6]:kernels=[8, 4]:strides=[4, 2]", "fusion": fusion}
    model = Model(build_encoder("fused", settings, spec, seed=3), input=spec).eval()
    known = of_encoder(model, source, "it", CPU)
    batch = source.load(range(len(source)))
    there = np.stack([rows.numpy() for rows in source.spec.present(batch).values()], axis=1)
    assert np.array_equal(known.present, there)
    assert not there.all()
    for name, subset in subsets_of(NAMES).items():
        rows = np.flatnonzero((there & subset).any(axis=1))
        without = spec.without(batch[rows], [other for other, kept in zip(NAMES, subset, strict=True) if not kept])
        with torch.no_grad():
            expected = model.encoder(model.prepare(without))
        assert known.fused(rows, subset) == pytest.approx(expected, abs=2e-6), name


def test_statistics_of_a_subset_are_those_of_samples_without_the_others():
    source = motion("train")
    known, batch = of_statistics(source), source.load(range(len(source)))
    for subset in subsets_of(NAMES).values():
        rows = np.flatnonzero((known.present & subset).any(axis=1))
        without = source.spec.without(batch[rows], [other for other, kept in zip(NAMES, subset, strict=True) if not kept])
        assert torch.equal(known.fused(rows, subset), source.spec.raw(without))


def test_masks_are_loops_over_what_is_there():
    source = motion("train")
    known = of_lengths(source)
    draws = torch.Generator().manual_seed(0)
    features = {name: torch.randn(len(source), 2, generator=draws) * k for k, name in enumerate(NAMES, 1)}
    known = type(known)(features, known.present, known.fuse)
    scalings = scalings_of(known)
    rows = np.array([5, 0, 30])
    there = known.present[rows]
    standard = [StandardScaler().fit(values.double().numpy()[known.present[:, m]]) for m, values in enumerate(features.values())]
    for mean in (True, False):
        found = Masked.of(known, scalings, mean)(rows, there).numpy()
        for place, row in enumerate(rows):
            parts = [s.transform(values.double().numpy()[[row]])[0] for s, values in zip(standard, features.values(), strict=True)]
            held = [part if there[place, m] else 0 * part for m, part in enumerate(parts)]
            expected = sum(held) / there[place].sum() if mean else np.concatenate(held)
            assert found[place] == pytest.approx(expected)


def test_rows_are_heads_on_features_encoded_anew_written_out(runs, capsys):
    result = call(capsys, runs[0], "--copies", "2", "-q")
    assert result["modalities"] == list(NAMES)
    assert list(result["subsets"]) == list(subsets_of(NAMES))
    train, test = motion("train"), motion("test")
    model = from_checkpoint(read(runs[0]))
    batch, asked = (source.load(range(len(source))) for source in (train, test))

    def encoded(x: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return model.encoder(model.prepare(x)).double().numpy()

    scaler = StandardScaler().fit(encoded(batch))
    head = LogisticRegression(max_iter=3000).fit(scaler.transform(encoded(batch)), train.labels)
    found, incomplete = means(result, F1), []
    for name, kept in result["subsets"].items():
        others = [other for other in NAMES if other not in kept]
        without = test.spec.without(asked, others)
        rows = np.flatnonzero(~without.isnan().all(dim=1).numpy())
        assert result["left out"][name] == len(test) - len(rows)
        said = head.predict(scaler.transform(encoded(without[rows])))
        expected = 100 * f1_score(test.labels[rows], said, average="macro", labels=np.unique(test.labels[rows]))
        assert found["pretrained, as fused", name] == pytest.approx(expected, abs=1.5), name  # a tie may fall the other way
        incomplete += [found["pretrained, as fused", name]] * (len(kept) < 3)
    assert found["pretrained, as fused", INCOMPLETE] == pytest.approx(np.mean(incomplete))
    assert sum(result["left out"].values()) > 0
    assert "left out" in result["protocol"]["a subset is tested on"]

    known, other = (of_encoder(model, source, "it", CPU) for source in (train, test))
    scalings = [StandardScaler().fit(v.double().numpy()[known.present[:, m]]) for m, v in enumerate(known.features.values())]

    def concat(of: Any, rows: np.ndarray, there: np.ndarray) -> np.ndarray:
        parts = [s.transform(v.double().numpy()[rows]) for s, v in zip(scalings, of.features.values(), strict=True)]
        return np.concatenate([part * there[:, [m]] for m, part in enumerate(parts)], axis=1)

    rows = np.tile(np.arange(len(train)), 2)
    there = subset_dropout(np.arange(2 * len(train)), 3, 0.5, keyed_seed(0, "head on subsets", 0), known.present[rows])
    head = LogisticRegression(C=0.5, max_iter=3000).fit(concat(known, rows, there), train.labels[rows])
    complete = LogisticRegression(max_iter=3000).fit(concat(known, np.arange(len(train)), known.present), train.labels)
    name, kept = "accelerometer+gyroscope", np.array([True, True, False])
    rows = np.flatnonzero((other.present & kept).any(axis=1))
    x = concat(other, rows, other.present[rows] & kept)
    for title, model in (("masked concat, head on subsets", head), ("masked concat", complete)):
        assert means(result, ACCURACY)[f"pretrained, {title}", name] == pytest.approx(100 * model.score(x, test.labels[rows])), title


def test_single_modalities_stand_beside_all_and_references_beside_runs(runs, capsys, tmp_path):
    file = tmp_path / "missing.json"
    capsys.readouterr()
    given = [f"mine={runs[0]}", f"mine={runs[1]}", "--labels", "2", "--draws", "3", "--results", file, "--device", "cpu"]
    assert main(["missing", *map(str, given)]) == 0
    said = capsys.readouterr()
    header = next(line for line in said.out.splitlines() if line.startswith("macro-F1, %"))
    assert header.split()[2:] == ["a", "g", "b", "a+g", "a+b", "g+b", "a+g+b", *INCOMPLETE.split()]
    for row in (
        "mine (mean of 2), masked mean, head on subsets",
        "untrained, as fused",
        "hand-made statistics, masked concat, head on subsets",
    ):
        assert f"\n{row} " in said.out
    assert "hand-made statistics, masked mean" not in said.out
    assert "modalities have features of different widths" in said.err
    assert "mine (mean of 2), masked concat, head on subsets minus mine (mean of 2), as fused" in said.out
    assert "accelerometer+gyroscope+barometer" in result_block(file)
    result = call(capsys, *given[:-4], "-q")
    assert result == {**call(capsys, *given[:-4], "-q"), "cpu_minutes": result["cpu_minutes"]}  # the same draws, the same figures
    row = next(row for row in result["rows"] if row["label"] == "hand-made statistics, as fused")
    assert row["n"] == 3
    assert result["protocol"]["labelled samples"] == "2 per class"
    assert not any(row["label"] == LENGTHS for row in result["rows"])  # all windows are of one length


def test_lengths_that_tell_the_classes_are_shown(tmp_path, capsys):
    """Walking lasts three seconds and sitting two: padding gives the label away, and a row says so."""
    root, draws = tmp_path / "recordings", np.random.default_rng(0)
    root.mkdir()
    sensors = {"belt": {"columns": ["ax"], "rate": 20}, "wrist": {"columns": ["wx"], "rate": 20}}
    (root / "recordings.json").write_text(json.dumps({"sensors": sensors, "time": "t", "subject": "who", "label": "what"}))
    for person in range(5):
        what = (["walk"] * 60 + ["sit"] * 40) * 3
        lines = [f"{k / 20},{draws.normal():.4f},{draws.normal():.4f},p{person},{now}" for k, now in enumerate(what)]
        (root / f"r{person}.csv").write_text("\n".join(["t,ax,wx,who,what", *lines]) + "\n")
    run = pretrained(
        tmp_path,
        {
            "name": "recordings",
            "root": root,
            "split": "train",
            "seconds": 4,
            "step": 4,
            "grid": "stretches",
            "labels": "pure",
            "short": "pad",
        },
    )
    result = call(capsys, run, "-q", "--heads", "fused,own")
    found = means(result, ACCURACY)
    assert {found[LENGTHS, column] for column in ("belt", "wrist", "belt+wrist", INCOMPLETE)} == {100.0}
    assert LENGTHS in result["references"]


def test_episodes_of_a_source_with_fewer_sensors_are_those_without_the_others(runs, capsys):
    """`fewshot eval` takes data that lack some modalities of an encoder, as absent, and says so."""
    some = ["--data", "motion", "--set", "sensors=[gyroscope]", *(f"--set={key}={value}" for key, value in EPISODES.items())]
    capsys.readouterr()
    assert fewshot(["eval", str(runs[0]), *some, "--shots", "1", "--episodes", "4", "--no-reference", "--device", "cpu", "--json"]) == 0
    said = capsys.readouterr()
    assert "motion/test has no accelerometer, barometer: absent in every sample" in said.err
    assert "absent in every sample" in json.loads(said.out)["data"]["of the data"]
    model = from_checkpoint(read(runs[0]))
    found = features_of(model, build_source(Choice("motion", {**EPISODES, "split": "test", "sensors": ("gyroscope",)}), model.input), CPU)
    whole = Bundle(SOURCES.build("motion", settings={**EPISODES, "split": "test"}), model.input)
    without = whole.spec.without(whole.load(range(len(whole))), ["accelerometer", "barometer"])
    with torch.no_grad():
        expected = model.encoder(model.prepare(without))
    assert found["backbone"] == pytest.approx(expected, abs=2e-6)


def test_names_are_shortened_to_what_tells_them_apart():
    assert shortened(["body_acc", "body_gyro", "total_acc"]) == {"body_acc": "body_a", "body_gyro": "body_g", "total_acc": "t"}
    assert shortened(["a", "ab"]) == {"a": "a", "ab": "ab"}
    assert (*OFFERED.split(","), "own") == tuple(HEADS)
    with pytest.raises(ConfigError, match="7 modalities have 127 subsets"):
        subsets_of("abcdefg")


def test_images_have_no_modalities_to_miss(tmp_path, capsys):
    run = write_run(tmp_path / "run", DIGITS, method="simclr")
    assert "have one modality, so that none can be missing: give runs whose encoder is fused" in call(capsys, run, code=2)


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--heads", "fused,meen"], 2, "--heads: there is no 'meen': did you mean 'mean'"),
        (["--labels", "1,2"], 2, "--labels takes one amount"),
        (["--labels", "1000"], 3, "1000 per class were asked for"),
        (["--subset-dropout", "1"], 2, "--subset-dropout from 0 to below 1"),
        (["--copies", "0"], 2, "--copies must be at least 1"),
        (["--data", "digits"], 3, "but the encoder was made for"),
    ],
)
def test_what_cannot_be_measured_is_named(runs, capsys, given, code, message):
    assert message in call(capsys, runs[0], *given, code=code)
