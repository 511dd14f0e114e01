"""Frames of a camera beside recordings: images in order, windows of them with gaps, and every way in which they are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.bundle import Bundle
from kinshot.datasets.images import load_image
from kinshot.datasets.recording import Recording, Track
from kinshot.datasets.videos import FramesSource
from kinshot.datasets.windows import Cut, WindowSource
from kinshot.samples.spec import input_of


def folder(root: Path, cam: dict[str, Any] | None = None) -> None:
    """Two recordings of four seconds, one of them filmed in four frames a second, numbered without zeros: grey of 10 times the number."""
    sensors = {"belt": {"columns": ["x"], "rate": 20}, "cam": cam or {"frames": "{name}_frames", "rate": 4, "size": 8}}
    (root / "recordings.json").write_text(json.dumps({"sensors": sensors, "label": "what"}))
    for name in "ab":
        rows = [f"{k},{'walk' if k < 40 else 'sit'}" for k in range(80)]
        (root / f"{name}.csv").write_text("\n".join(["x,what", *rows]) + "\n")
    (root / "a_frames").mkdir()
    for number in range(16):
        Image.new("RGB", (20, 12), (10 * number,) * 3).save(root / "a_frames" / f"frame {number}.png")
    (root / "a_frames" / "notes.txt").write_text("none of it")


def build(root: Path, **settings: Any):
    return SOURCES.build("recordings", settings={"root": str(root), "seconds": 1.0, "step": 1.0, "split": "all", **settings})


def test_a_camera_is_a_field_of_frames_beside_the_other_sensors(tmp_path):
    folder(tmp_path)
    source = build(tmp_path)
    assert {name: (spec.kind, spec.shape, spec.rate) for name, spec in source.fields.items()} == {
        "belt": ("series", (1, 20), 20.0),
        "cam": ("frames", (3, 4, 8, 8), 4.0),
    }
    found = source.load([0, 2, 5], source.fields)
    assert found["cam"].dtype == torch.float32
    assert (found["cam"][:2, 0, :, 3, 3] * 255).round().tolist() == [[0, 10, 20, 30], [80, 90, 100, 110]]
    assert found["cam"][2].isnan().all()
    assert source.present["cam"].tolist() == [True] * 4 + [False] * 4
    assert {"1 files are left out, which end in none of .csv, .tsv, .npz", "4 of 8 windows lack cam"} <= set(source.notes)
    bundle = Bundle(source)
    assert bundle.shape == (20 + 3 * 4 * 8 * 8,)
    assert torch.equal(bundle.spec.split(bundle.load([2]))["cam"], found["cam"][1:2])
    assert input_of(bundle).modalities["cam"].mean == pytest.approx((75 / 255,) * 3)


def test_frames_are_what_the_houses_images_are(tmp_path):
    folder(tmp_path, {"frames": "{name}_frames", "rate": 4, "size": 6, "channels": 1})
    noise = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a_frames" / "frame 5.png")
    found = build(tmp_path).load([1], ("cam",))["cam"]
    assert found.shape == (1, 1, 4, 6, 6)
    assert np.array_equal((found[0, :, 1].numpy() * 255).round(), load_image(tmp_path / "a_frames" / "frame 5.png", 6, 1))


def test_frames_that_end_early_or_lack_are_nan():
    shown = np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 3), np.uint8)
    tracks = {"cam": Track(shown, 4.0, start=0.5), "belt": Track(np.zeros((60, 1), np.float32), 20.0)}
    recordings = [Recording("one", tracks), Recording("two", {"belt": tracks["belt"]})]
    source = WindowSource(recordings, Cut(1.0, 1.0, "none", measured=0.5))
    assert source.fields["cam"].shape == (1, 4, 2, 3)
    there = (source.load(range(6), ("cam",))["cam"][:, 0, :, 0, 0] * 255).round()
    nan = float("nan")
    expected = [[nan, nan, 0, 1], [2, 3, 4, 5], [6, 7, 8, 9]] + [[nan] * 4] * 3
    torch.testing.assert_close(there, torch.tensor(expected), equal_nan=True)
    other = Recording("two", {"belt": tracks["belt"], "cam": Track(np.zeros((12, 3, 2, 3), np.uint8), 4.0)})
    with pytest.raises(DataError, match="cam has frames of 1 x 2 x 3 in one and frames of 3 x 2 x 3 in two"):
        WindowSource([recordings[0], other], Cut(1.0, 1.0, "none"))
    with pytest.raises(DataError, match=r"expected float32 .* or uint8 .* got float64"):
        WindowSource([Recording("one", {"cam": Track(shown.astype(float), 4.0)})], Cut(1.0, 1.0, "none"))


def test_content_counts_and_not_its_file(tmp_path):
    folder(tmp_path)
    before = build(tmp_path).fingerprint()
    Image.open(tmp_path / "a_frames" / "frame 3.png").save(tmp_path / "a_frames" / "frame 3.bmp")
    (tmp_path / "a_frames" / "frame 3.png").unlink()
    assert build(tmp_path).fingerprint() == before
    Image.new("RGB", (20, 12), (7, 7, 7)).save(tmp_path / "a_frames" / "frame 3.bmp")
    assert build(tmp_path).fingerprint() != before


def test_folders_that_do_not_fit_are_named(tmp_path):
    folder(tmp_path)
    (tmp_path / "b_frames").mkdir()
    assert "b.csv: cam is empty, and counts as missing" in build(tmp_path).notes
    (tmp_path / "b_frames" / "1.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read image .*1\.jpg"):
        build(tmp_path)
    (tmp_path / "b_frames" / "1.jpg").unlink()
    (tmp_path / "b_frames").rmdir()
    (tmp_path / "b_frames").write_text("")
    with pytest.raises(DataError, match="b_frames is no folder, and the images of cam are looked for in it"):
        build(tmp_path)
    (tmp_path / "b_frames").unlink()
    (tmp_path / "a_frames" / "frame 15.png").unlink()
    (tmp_path / "a_frames" / "frame 14.png").unlink()
    with pytest.raises(DataError, match=r"by their rates they last belt 4 s, cam 3\.5 s"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("cam", "message"),
    [
        ({"frames": "{name}"}, "sensors.cam lacks 'rate'"),
        ({"frames": "pictures", "rate": 4}, "sensors.cam.frames must be a name relative to a table's folder"),
        ({"frames": "{name}", "rate": -4}, "rate must be a number of Hz above 0, got -4"),
        ({"frames": "{name}", "rate": 4, "size": 0}, "size must be a whole number of pixels from 1 to 4096, got 0"),
        ({"frames": "{name}", "rate": 4, "channels": 2}, "channels must be 1 for gray or 3 for colour, got 2"),
        ({"frames": "{name}", "rate": 4, "colour": True}, "unknown key 'colour'"),
    ],
)
def test_a_schema_of_frames_that_is_none_is_named(tmp_path, cam, message):
    folder(tmp_path, cam)
    with pytest.raises(DataError, match=message):
        build(tmp_path)


def test_frames_in_memory_are_bytes_or_floats(tmp_path):
    shown = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 5, 6), dtype=np.uint8)
    floats = (shown / 255).astype(np.float32)
    floats[1, :, 2:] = np.nan
    source, other = FramesSource(shown, 5), FramesSource(floats, 5)
    assert torch.equal(source.load([0, 2]), other.load([0, 2]))
    assert other.load([1])[:, :, 2:].isnan().all()
    assert source.fingerprint() != other.fingerprint()
    for wrong, message in (
        (shown[0], "expected windows"),
        (shown.astype(int), "expected windows"),
        (floats * 255, r"floats must lie in \[0, 1\]"),
    ):
        with pytest.raises(DataError, match=message):
            FramesSource(wrong, 5)
    with pytest.raises(DataError, match="expected a rate in Hz above 0"):
        FramesSource(shown, 0)
