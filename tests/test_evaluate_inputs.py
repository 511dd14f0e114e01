"""Checkpoints that were made for different samples, side by side: each sees the data as it was made for, whatever the order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kinshot.cli.fewshot import main as fewshot
from kinshot.cli.ssl import main as ssl
from tests.study_runs import call, write_run

GLYPHS = {"name": "glyphs", "split": "val", "variants": 6}
FEW = ["--ways", "3", "--shots", "1", "--queries", "4", "--episodes", "12", "-q"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, of gray images of 16 and of 28 pixels and of colour photographs of 32, and a folder of coloured pictures."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name in "abcde":
        (folder / "pictures" / name).mkdir(parents=True)
        colour, pattern = rng.uniform(60, 200, 3), rng.uniform(-50, 50, (40, 40, 1))
        for i in range(8):
            pixels = np.clip(colour + pattern + rng.normal(0, 60, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{i}.png")
    write_run(folder / "small", {**GLYPHS, "size": 16}, method="simclr")
    write_run(folder / "large", {**GLYPHS, "size": 28}, method="simclr", seed=1)
    photos = {"name": "folder", "root": str(folder / "pictures"), "size": 32, "channels": 3}
    write_run(folder / "photos", photos, method="simclr")
    return folder


def figures(result: dict[str, Any]) -> dict[tuple[str, ...], float]:
    names = ("model", "feature", "head", "ways", "shots") if "model" in result["rows"][0] else ("label", "metric")
    return {tuple(str(row[name]) for name in names): row["mean"] for row in result["rows"]}


@pytest.mark.parametrize("command", [["eval"], ["crossdomain"], ["lowshot"]])
def test_the_order_of_checkpoints_changes_no_figure(place, capsys, command):
    data = ["--data", f"folder:{place}/pictures"]
    few = ["--shots", "1", "--draws", "2", "-q"] if command == ["lowshot"] else FEW
    runs = [place / name for name in ("small", "large", "photos")]
    one, other = (figures(call(capsys, *command, *order, *data, *few)) for order in (runs, runs[::-1]))
    assert {key for key in one if "raw pixels" in key[0]}
    assert one.keys() == other.keys()
    assert one == pytest.approx(other, abs=1e-9)


def test_each_checkpoint_has_the_figures_and_references_that_it_has_alone(place, capsys):
    data, runs = ["--data", f"folder:{place}/pictures"], [place / "small", place / "photos"]
    together = figures(call(capsys, "eval", *runs, *data, *FEW))
    for run in runs:
        for (model, *rest), mean in figures(call(capsys, "eval", run, *data, *FEW)).items():
            name = str(run) if model == "pretrained" else f"{model} ({run})"
            assert together[name, *rest] == pytest.approx(mean, abs=1e-9)
    assert len({mean for key, mean in together.items() if key[0].startswith("raw pixels")}) == 2


def test_the_untrained_reference_of_seeds_is_that_of_the_lowest(tmp_path, capsys):
    runs = [write_run(tmp_path / f"s{seed}", {**GLYPHS, "size": 16}, method="simclr", seed=seed) for seed in (3, 1)]
    one, other = (figures(call(capsys, "eval", *order, "--data", "digits", *FEW)) for order in (runs, runs[::-1]))
    assert one == other
    lowest = figures(call(capsys, "eval", runs[1], "--data", "digits", *FEW))
    key = ("untrained", "backbone", "prototype", "3", "1")
    assert one[key] == lowest[key]


def test_runs_of_one_data_at_two_sizes_see_their_own_data_by_default(place, capsys):
    runs = [place / "small", place / "large"]
    one, other = (figures(call(capsys, "eval", *order, *FEW)) for order in (runs, runs[::-1]))
    assert one == pytest.approx(other, abs=1e-9)
    alone = figures(call(capsys, "eval", place / "large", *FEW))
    assert one[str(place / "large"), "backbone", "prototype", "3", "1"] == alone["pretrained", "backbone", "prototype", "3", "1"]
    refused = call(capsys, "eval", place / "small", place / "photos", *FEW, code=2)
    assert "was trained on" in refused
    assert "--data" in refused


def test_a_report_has_the_figures_of_eval_in_any_order(place, tmp_path, capsys):
    data, runs = ["--data", f"folder:{place}/pictures"], [place / "small", place / "photos"]
    found = figures(call(capsys, "eval", *runs[::-1], *data, *FEW, "--features", "backbone"))
    given = [*map(str, [*runs, *data, *FEW]), "--heads", "prototype", "--out", str(tmp_path / "report"), "--device", "cpu", "--json"]
    assert fewshot(["report", *given]) == 0
    numbers = json.loads((tmp_path / "report" / "report.json").read_text())
    assert numbers["rows"]
    assert figures(numbers) == pytest.approx(found, abs=1e-9)


def test_saved_episodes_are_found_again_by_runs_of_other_sizes(place, tmp_path, capsys):
    episodes, runs = tmp_path / "episodes.npz", [place / "small", place / "large"]
    alone = figures(call(capsys, "eval", place / "large", *FEW, "--save-episodes", episodes))
    together = figures(call(capsys, "eval", *runs, "-q", "--episode-list", episodes))
    assert together[str(place / "large"), "backbone", "prototype", "3", "1"] == alone["pretrained", "backbone", "prototype", "3", "1"]


def test_a_probe_renders_data_for_the_run(place, capsys):
    found = []
    for size in ([], ["--set", "size=16"]):
        capsys.readouterr()
        assert ssl(["probe", str(place / "small"), "--data", "digits", "--split", "test", *size, "--device", "cpu", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["rows"])
    assert found[0] == found[1]
