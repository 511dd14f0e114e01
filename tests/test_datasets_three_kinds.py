"""From a folder with tables, sound and pictures to features, by the commands: three kinds of sensors, each of which somebody lacks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile

import kinshot
from kinshot.datasets import SOURCES
from kinshot.datasets.bundle import as_taken
from tests.tiny import result, run

RECIPE = """
description: two steps on three kinds of sensors
data: {name: recordings, root: rec, split: train, seconds: 2.0, step: 1.0, held_out: [p4], val_share: 0.0}
views: {name: sensor}
encoder: {name: fused, other: ["belt=series_cnn:widths=[8, 8, 8]", "cam=frame_encoder:image='conv4:width=4'"], fusion: concat}
projector: {layers: 2, dim: 8, hidden: 8}
method: {name: simclr}
train: {epochs: 1, batch_size: 20, lr: 1.0e-3, threads: 1}
monitor: {knn_every: 0, keep: 1, tensorboard: false}
"""


def write_filmed(root: Path) -> None:
    """Five people who walk and then sit, for twelve seconds: a belt at 20 Hz, a microphone that p3 lacks, a camera that p1 lacks."""
    root.mkdir()
    belt = {"columns": ["ax", "ay"], "rate": 20}
    sensors = {"belt": belt, "mic": {"wav": "{name}.wav", "mels": 16}, "cam": {"frames": "{name}_frames", "rate": 4, "size": 32}}
    (root / "recordings.json").write_text(json.dumps({"sensors": sensors, "time": "t", "subject": "who", "label": "what"}))
    draws = np.random.default_rng(0)
    for person in range(5):
        rows = [f"{k / 20},{draws.normal():.4f},{draws.normal():.4f},p{person},{'walk' if k < 120 else 'sit'}" for k in range(240)]
        (root / f"r{person}.csv").write_text("\n".join(["t,ax,ay,who,what", *rows]) + "\n")
        if person != 3:
            wavfile.write(root / f"r{person}.wav", 16000, (1000 * draws.normal(size=12 * 16000)).astype(np.int16))
        if person != 1:
            (root / f"r{person}_frames").mkdir()
            for number in range(48):
                pixels = draws.integers(0, 256, (12, 15, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / f"r{person}_frames" / f"{number}.png", compress_level=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings and a run on them."""
    place = tmp_path_factory.mktemp("three kinds")
    write_filmed(place / "rec")
    (place / "recipe.yaml").write_text(RECIPE)
    done = run("ssl", "pretrain", "recipe.yaml", "--out", "run", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "steps: 2" in done.stdout
    assert "10 of 40 windows lack mic" in done.stderr
    assert "10 of 40 windows lack cam" in done.stderr
    return place


def test_features_are_of_what_a_window_has(place: Path) -> None:
    model = kinshot.load(place / "run")
    whole = SOURCES.build("recordings", settings={"root": str(place / "rec"), "split": "all", "seconds": 2.0, "step": 1.0})
    source = as_taken(whole, model.encoder.input)
    assert source.spec.modalities["cam"].shape == (3, 8, 32, 32)
    people = np.array(whole.attribute_names["subject"])[whole.categories["subject"]]
    x = model.encoder.input.prepare(source.load(range(len(source))))
    with torch.no_grad():
        parts, features = model.encoder.features(x), model.encoder(x)
    for name, lacks in (("belt", ""), ("mic", "p3"), ("cam", "p1")):
        assert ((parts[name].abs().amax(1) > 0).numpy() == (people != lacks)).all()
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    with torch.no_grad():  # a camera that fails leaves the others as they were
        blind = model.encoder.features(source.spec.without(x, ["cam"]))
    assert all(torch.equal(blind[name], parts[name]) for name in ("belt", "mic"))


def test_a_table_alone_will_do_for_a_network_of_three(place: Path) -> None:
    """Episodes of a person who was never seen, from windows of the belt alone."""
    data = ["--data", "recordings:rec", "--split", "test", "--set=held_out=[p4]", "--set=sensors=[belt]"]
    data += ["--set=seconds=2.0", "--set=step=1.0", "--features", "backbone", "--ways", "2", "--shots", "1", "--episodes", "10"]
    rows = result(run("fewshot", "eval", "run", *data, "--json", cwd=place))["rows"]
    assert {row["model"] for row in rows} == {"pretrained", "untrained", "hand-made statistics"}
