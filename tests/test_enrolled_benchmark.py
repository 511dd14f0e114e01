"""The benchmark on Grocery Store's layout, with made-up photographs and a small encoder."""

from __future__ import annotations

import sys

from benchmarks import enroll_grocery
from kinshot.core.small_files import read_json
from tests.enrolled_tools import COLOURS, photos, small_encoder


def test_every_figure_is_there(tmp_path, monkeypatch):
    for label in COLOURS:
        photos(tmp_path / "set" / "train", label, range(7))
        photos(tmp_path / "set" / "test", label, range(20, 23))
    monkeypatch.setenv("KINSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(enroll_grocery, "open_encoder", lambda name: small_encoder())
    monkeypatch.setattr(sys, "argv", ["", "--data", str(tmp_path / "set"), "--json", str(tmp_path / "out.json"), "--draws", "2"])
    assert enroll_grocery.main() == 0
    found = read_json(tmp_path / "out.json")
    rows = {row["label"]: row for row in found["rows"]}
    assert rows["pixels, imprint: accuracy"]["n"] == 2
    assert rows["pixels, imprint: accuracy"]["mean"] > 60  # colours alone tell most of the five apart
    assert {"efficientnet_lite0, logistic: ece", "efficientnet_lite0, imprint: auroc"} <= rows.keys()
    assert all(0 <= row["mean"] <= 100 for row in found["rows"])
    for row in found["draws"]:
        assert row["accuracy"] <= 100
