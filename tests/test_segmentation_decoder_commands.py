"""A decoder from `segmentation train` to `eval` and `predict`: trained, kept, taken by default, and what it learned is what answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from kinshot.cli.segmentation import main
from kinshot.core.checkpoint import save_checkpoint
from kinshot.datasets import SOURCES
from kinshot.recipes.loaded import read
from tests.segmentation_runs import SCENES, write_run

RECIPE = {
    "description": "a decoder of a few steps",
    "data": {**SCENES, "split": "train"},
    "views": {"name": "clean"},
    "encoder": {"name": "conv4", "width": 8},
    "projector": {"layers": 0},
    "train": {"epochs": 1, "batch_size": 6, "threads": 1, "lr": 0.01},
    "monitor": {"log_every": 1, "knn_every": 0, "projector_points": 0, "tensorboard": False},
    "validation": {"split": "val", "ways": 1, "shots": 1, "queries": 1, "episodes": 4, "head": "pfenet"},
}
MEASURED = ["--episodes", "8", "--shots", "1", "--queries", "2", "--outlines", "0", "-q", "--json"]


@pytest.fixture(scope="module", params=[False, True], ids=["decoder", "with base learner"])
def run(request, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("run")
    method = {"name": "pfenet", "shots": 2, "tasks": 2, "width": 8, "base": request.param}
    (place / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "method": method}))
    assert main(["train", str(place / "recipe.yaml"), "--out", str(place / "run"), "-q"]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    """Three scenes of other classes as files, all of which show class 1."""
    settings = {**{key: value for key, value in SCENES.items() if key != "name"}, "split": "test"}
    source, place = SOURCES.build("glyph_scenes", settings=settings), tmp_path_factory.mktemp("scenes")
    for name, row in zip("abq", np.flatnonzero(source.contains[:, 0])[:3].tolist(), strict=True):
        Image.fromarray(source.native_image(row).permute(1, 2, 0).numpy()).save(place / f"{name}.png")
        Image.fromarray((source.native_mask(row).numpy() == 1).astype(np.uint8)).save(place / f"{name}_mask.png")
    return place


def measured(capsys, run: Path, *args: str) -> list[dict]:
    capsys.readouterr()
    assert main(["eval", str(run), *MEASURED, *args]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)["rows"]


def figures(rows: list[dict], model: str) -> dict[tuple[str, str], float]:
    return {(one["head"], one["rule"]): one["mean"] for one in rows if one["model"] == model}


def scored(run: Path, scenes: Path, out: Path, *args: str) -> np.ndarray:
    """Scores of the query by the two shots."""
    shots = ",".join(f"{scenes / name}.png:{scenes / name}_mask.png" for name in "ab")
    assert main(["predict", str(run), str(scenes / "q.png"), "--support", shots, "-o", str(out), "-q", *args]) == 0
    return np.load(out / "q_scores.npz")["scores"]


def altered(run: Path, to: Path, odds: float) -> Path:
    """A copy of a run's checkpoint whose decoder says the same log odds everywhere, and which is else the same."""
    found = read(run).checkpoint
    network = dict(found.optional("network"))
    for part, value in (("weight", 0.0), ("bias", odds)):
        name = f"enrichment.head.2.{part}"
        network[name] = torch.full_like(network[name], value)
    parts = {"encoder": found.encoder, "projector": found.projector, "training": found.training, "network": network}
    return save_checkpoint(to, parts=parts, state=found.state, config=found.config, fsync=False)


def test_what_was_trained_is_what_is_measured_and_what_predicts(run, scenes, capsys, tmp_path):
    rows = measured(capsys, run)
    assert {head for head, _ in figures(rows, "pretrained")} == {"pfenet"}
    assert figures(rows, "untrained") == {}  # without training there is no decoder
    encoder = figures(measured(capsys, run, "--heads", "cosine"), "pretrained")
    ours = scored(run, scenes, tmp_path / "ours")
    for odds, everywhere, wanted in ((-9.0, 0, 0.0), (9.0, 1, figures(rows, "all_foreground")["", "miou"])):
        other = altered(run, tmp_path / f"altered{everywhere}", odds)
        found = figures(measured(capsys, other, "--heads", "pfenet,cosine"), "pretrained")
        assert found["pfenet", "miou"] == pytest.approx(wanted, abs=1e-6)
        assert found["cosine", "miou"] == encoder["cosine", "miou"]  # the encoder is the same
        scores = scored(other, scenes, tmp_path / f"out{everywhere}")
        assert scores.shape == ours.shape == (2, 32, 32)
        assert (scores.argmax(0) == everywhere).all()
        assert np.abs(scores - ours).max() > 1
    assert np.abs(scored(run, scenes, tmp_path / "cosine", "--head", "cosine") - ours).max() > 1e-3


def test_a_base_learner_takes_part_where_one_was_trained(run, scenes, tmp_path, capsys):
    plain = scored(run, scenes, tmp_path / "plain", "--head", "pfenet:base_weight=0")
    whole = scored(run, scenes, tmp_path / "whole")
    learned = yaml.safe_load((run / "config.yaml").read_text())["method"]["base"]
    assert (np.abs(plain - whole).max() > 1e-6) == learned
    if not learned:
        shots = f"{scenes / 'a.png'}:{scenes / 'a_mask.png'}"
        args = [
            "predict",
            str(run),
            str(scenes / "q.png"),
            "--support",
            shots,
            "-o",
            str(tmp_path / "no"),
            "--head",
            "pfenet:base_weight=1",
        ]
        assert main(args) == 2
        assert "trained without a base learner" in capsys.readouterr().err


def test_a_checkpoint_without_a_decoder_is_refused_with_what_trains_one(scenes, tmp_path, capsys):
    plain = write_run(tmp_path / "plain")
    told = "segmenter pfenet needs the network that `segmentation train` with the method pfenet learns for it"
    assert main(["eval", str(plain), *MEASURED, "--heads", "pfenet"]) == 2
    assert told in capsys.readouterr().err
    shots = f"{scenes / 'a.png'}:{scenes / 'a_mask.png'}"
    args = ["predict", str(plain), str(scenes / "q.png"), "--support", shots, "-o", str(tmp_path / "out"), "--head", "pfenet"]
    assert main(args) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
