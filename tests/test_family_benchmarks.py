"""Benchmarks of label-free pretraining: every recipe of the family runs, nothing is made twice, differences are paired by seed."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from benchmarks import interclr_ablation, interclr_vs_moco, omniglot_switches, ssl_family
from benchmarks.label_free import Exam, Run
from kinshot.core.small_files import read_json
from kinshot.datasets import omniglot
from kinshot.recipes.recipe import load_recipe, recipe_names

FEW = ["train.epochs=1", "train.batch_size=96", "projector.hidden=8", "projector.dim=8", "monitor.tensorboard=false"]
LETTERS = [*FEW, "train.batch_size=16", "views.small_epochs=0", "method.clusters=6", "method.warmup_epochs=0", "method.queue=32"]
LETTERS += ["method.min_cluster=2", "method.negatives=8", "method.pool=32"]


def write_clothes(root: Path) -> None:
    """Ten kinds, each a bright band at its own height: more images to train than the recipes have clusters, 30 to test."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, (prefix, count) in enumerate((("train", 480), ("t10k", 30))):
        images = np.random.default_rng(seed).integers(0, 120, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for image, label in zip(images, labels, strict=True):
            image[2 * label + 2 : 2 * label + 6] = 255
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, count) + labels.tobytes())


def write_letters(root: Path) -> None:
    """The characters of train and val, sixteen drawings each, a bar whose place tells the character."""
    for split in ("train", "val"):
        for number, (part, name) in enumerate(omniglot._classes("vinyals", split)):
            place = root / f"images_{part}" / name
            place.mkdir(parents=True)
            for drawing in range(16):
                ink = np.random.default_rng(1000 * number + drawing).random((105, 105)) < 0.05
                ink[12 * number : 12 * number + 9] = True
                Image.fromarray(~ink).save(place / f"{number:04d}_{drawing:02d}.png", compress_level=1)


def called(monkeypatch: pytest.MonkeyPatch, module: Any, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["", *map(str, words)])
    found: int = module.main() if module is ssl_family else module.COMPARISON.run()
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))


def test_every_fashion_recipe_is_a_method_of_the_family_and_they_differ_in_what_is_theirs() -> None:
    assert {f"fashion_{name}" for name in ssl_family.RECIPES} == {name for name in recipe_names() if name.startswith("fashion_")}
    recipes = [load_recipe(f"fashion_{name}") for name in ssl_family.RECIPES if name != "mae"]  # which needs patches
    assert len({json.dumps([r.encoder.settings, r.data.settings, r.train.batch_size, r.seed], sort_keys=True) for r in recipes}) == 1
    views = {json.dumps({key: value for key, value in r.views.settings.items() if key != "views"}) for r in recipes}
    assert len(views) == 1
    assert all(r.train.threads == 1 and r.monitor.knn_every == 0 for r in recipes)  # what CPU minutes are counted by


def test_all_methods_are_trained_and_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    write_clothes(tmp_path)
    out, table = tmp_path / "runs", tmp_path / "ssl_family.json"
    monkeypatch.setattr(ssl_family, "Exam", lambda: Exam(ks=(5, 20)))
    words = ["--data", tmp_path, "--out", out, "--json", table, "--set", *FEW]
    assert called(monkeypatch, ssl_family, "simclr", "npid", *words) == 0
    found = read_json(table)
    assert "BYOL" in found["data"]["not measured yet"]
    assert "SimCLR" not in found["data"]["not measured yet"]
    before = (out / "fashion_simclr.json").stat().st_mtime_ns
    weights = (out / "fashion_simclr" / "result.json").stat().st_mtime_ns
    assert called(monkeypatch, ssl_family, *words) == 0
    found = read_json(table)
    assert found["data"]["not measured yet"] == "none"
    assert (out / "fashion_simclr.json").stat().st_mtime_ns == before
    assert (out / "fashion_simclr" / "result.json").stat().st_mtime_ns == weights
    labels = {row["label"] for row in found["rows"]}
    assert labels == {*ssl_family.RECIPES.values(), "raw pixels", "untrained"}
    figures = {(row["label"], row["metric"]): row["mean"] for row in found["rows"]}
    for label in labels:
        for metric in ("kNN accuracy (k=5), %", "kNN accuracy (k=20), %", "linear accuracy, %"):
            assert 0 <= figures[label, metric] <= 100
    assert figures["raw pixels", "linear accuracy, %"] > 80
    assert "AVX" in found["versions"]["training"] or "DEFAULT" in found["versions"]["training"] or "thread" in found["versions"]["training"]
    assert "kNN accuracy" in capsys.readouterr().out


def test_a_result_of_other_settings_is_made_anew_and_a_failed_run_is_said(tmp_path: Path, monkeypatch, capsys) -> None:
    write_clothes(tmp_path)
    monkeypatch.setattr(ssl_family, "Exam", lambda: Exam(ks=(5,)))
    words = ["simclr", "--data", tmp_path, "--out", tmp_path / "runs", "--set", *FEW]
    assert called(monkeypatch, ssl_family, *words) == 0
    first = read_json(tmp_path / "runs" / "fashion_simclr.json")
    assert called(monkeypatch, ssl_family, *words, "train.lr=0.001") == 0
    again = read_json(tmp_path / "runs" / "fashion_simclr.json")
    assert first["key"] != again["key"]
    monkeypatch.setattr(ssl_family, "Exam", lambda: Exam(ks=(3,)))
    stamp = (tmp_path / "runs" / "fashion_simclr" / "result.json").stat().st_mtime_ns
    assert called(monkeypatch, ssl_family, *words, "train.lr=0.001") == 0  # measured again, not trained again
    assert (tmp_path / "runs" / "fashion_simclr" / "result.json").stat().st_mtime_ns == stamp
    assert list(read_json(tmp_path / "runs" / "fashion_simclr.json")["figures"]) == ["kNN accuracy (k=3), %", "linear accuracy, %"]
    shutil.rmtree(tmp_path / "FashionMNIST")
    capsys.readouterr()
    assert called(monkeypatch, ssl_family, "byol", *words[1:]) == 1
    assert "BYOL, seed 0 failed: no file" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no method simsiam_2"):
        called(monkeypatch, ssl_family, "simsiam_2", *words[1:])


def test_arms_are_paired_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = omniglot._classes
    monkeypatch.setattr(omniglot, "_classes", lambda scheme, split: every(scheme, split)[:7])
    write_letters(tmp_path / "data")
    out, table = tmp_path / "runs", tmp_path / "ablation.json"
    words = ["--omniglot", tmp_path / "data", "--out", out, "--json", table, "--split", "val", "--arms", "released", "random"]
    assert called(monkeypatch, interclr_ablation, *words, "--seeds", "0", "1", "--set", *LETTERS) == 0
    found = read_json(table)
    assert found["seeds"] == [0, 1]
    assert "margin_0 seed 0" in found["data"]["not measured yet"]
    one, other = ([read_json(out / arm / f"seed={seed}.json")["figures"] for seed in (0, 1)] for arm in ("released", "random"))
    (row,) = [r for r in found["rows"] if "random negatives, paired" in r["label"] and r["metric"] == "5-way 2-shot accuracy, %"]
    differences = [a[row["metric"]] - b[row["metric"]] for a, b in zip(one, other, strict=True)]
    assert row["mean"] == pytest.approx(np.mean(differences), abs=1e-3)
    half = stats.t.ppf(0.975, 1) * np.std(differences, ddof=1) / np.sqrt(2)
    assert row["ci95"] == pytest.approx(half, abs=1e-3)
    assert row["n"] == 2


def test_switches_are_measured_on_the_projector_in_both_numbers_of_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = omniglot._classes
    monkeypatch.setattr(omniglot, "_classes", lambda scheme, split: every(scheme, split)[:7])
    monkeypatch.setattr(omniglot_switches, "EXAM", Exam(ks=(5,), bank_share=0.5, shots=(1,), ways=(2, 5), queries=5, feature="projector"))
    arms = {name: replace(arm, exam=omniglot_switches.EXAM) for name, arm in omniglot_switches.ARMS.items()}
    monkeypatch.setattr(omniglot_switches, "COMPARISON", replace(omniglot_switches.COMPARISON, arms=arms))
    write_letters(tmp_path / "data")
    out, table = tmp_path / "runs", tmp_path / "switches.json"
    words = ["--omniglot", tmp_path / "data", "--out", out, "--json", table, "--split", "val", "--arms", "all", "simclr", "--seeds", "0"]
    small = [*FEW, "views.small_epochs=0", "train.epochs=8", "train.batch_size=16"]
    assert called(monkeypatch, omniglot_switches, *words, "--set", *small) == 0
    rows = {(row["label"], row["metric"]): row["mean"] for row in read_json(table)["rows"]}
    for metric in ("2-way 1-shot accuracy, %", "5-way 1-shot accuracy, %"):
        difference = rows["all switches", metric] - rows["no pseudo-classes", metric]
        assert rows["all switches minus no pseudo-classes, paired", metric] == pytest.approx(difference, abs=2e-3)


def test_every_arm_of_both_comparisons_is_a_recipe_and_says_one_difference() -> None:
    for module in (interclr_ablation, interclr_vs_moco, omniglot_switches):
        for one, other, _ in module.COMPARISON.pairs:
            assert {one, other} <= module.ARMS.keys()
        for arm in module.ARMS.values():
            Run(arm.label, arm.recipe, arm.settings, 0, Path("data"), Path("out"), arm.exam).read()
    base = load_recipe("omniglot_simclr", interclr_ablation.ARMS["released"].settings).to_dict()
    for name, arm in interclr_ablation.ARMS.items():
        settings = load_recipe("omniglot_simclr", arm.settings).to_dict()
        changed = [key for key in base["method"] if base["method"][key] != settings["method"][key]]
        assert len(changed) == (name != "released")
        assert {**settings, "method": 0} == {**base, "method": 0}
