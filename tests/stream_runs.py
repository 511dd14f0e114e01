"""Tiny runs on simulated sensors and their lines, for tests of `ssl stream`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.cli import ssl
from kinshot.datasets import SOURCES
from kinshot.datasets.recording import Recording
from kinshot.datasets.windows import Cut, WindowSource

DATA = {"name": "motion", "split": "train", "subjects": 3, "stretch": 4.0}
SMALL = {"epochs": 1, "batch_size": 8, "threads": 1}
FUSED = {
    "data": DATA,
    "views": {"name": "clean"},
    "encoder": {"name": "fused", "each": "tcn:causal=true:hidden=8:depth=3:features=12", "other": [
        "gyroscope=conv_gru:widths=[8]:kernels=[3]:strides=[2]:hidden=12"
    ]},
    "projector": {"layers": 2, "hidden": 16, "dim": 8, "modalities": True},
    "method": {"name": "cmc"},
    "train": SMALL,
    "monitor": {"knn_samples": 16, "projector_points": 8},
}  # fmt: skip
ONE = {
    "data": {**DATA, "sensors": ["accelerometer"]},
    "views": {"name": "clean"},
    "encoder": {"name": "conv_gru", "widths": [8], "kernels": [3], "strides": [2], "hidden": 12},
    "projector": {"layers": 0},
    "method": {"name": "classifier"},
    "train": SMALL,
}
LOOKS_AHEAD = {**FUSED, "encoder": {"name": "fused", "each": "series_cnn:widths=[8]:kernels=[3]:strides=[2]"}}
Stream = Callable[..., tuple[int, list[dict[str, Any]], str]]


def trained(folder: Path, command: Any, name: str, recipe: dict[str, Any]) -> Path:
    file = folder / "recipe.json"
    file.write_text(json.dumps({"description": "small enough for end-to-end tests", **recipe}))
    file = file.rename(folder / "recipe.yaml")
    assert command.main([name, str(file), "--out", str(folder / "run"), "-q"]) == 0
    return folder / "run"


def caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Stream:
    """Calls the command on lines, from standard input or a file; gives its exit code, records and messages."""

    def call(run: Path, lines: list[Any] | str | None, *args: object, file: bool = False) -> tuple[int, list[dict[str, Any]], str]:
        text = lines if isinstance(lines, str) else "".join(json.dumps(line) + "\n" for line in lines or ())
        place: list[str] = []
        if file:
            (tmp_path / "lines").write_text(text)
            place = [str(tmp_path / "lines")]
        else:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        capsys.readouterr()
        code = ssl.main(["stream", str(run), *place, *map(str, args)])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return call


def someone() -> Recording:
    """A person of no training, doing one thing after the other, whose gyroscope misses a burst."""
    settings = {key: value for key, value in DATA.items() if key != "name"}
    (found,) = SOURCES.build("motion", settings={**settings, "split": "test"}).recordings
    found.tracks["gyroscope"].values[130:170] = np.nan
    return found


def plain(values: np.ndarray) -> Any:
    """Rows as JSON has them."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def steps(recording: Recording, sensors: list[str] | None = None, timed: bool = True) -> list[dict[str, Any]]:
    """A line to every instant at which something is measured."""
    at: dict[float, dict[str, Any]] = {}
    for name in sensors or recording.tracks:
        track = recording.tracks[name]
        for step, row in enumerate(plain(track.values)):
            at.setdefault(round(step / track.rate, 6), {})[name] = row
    return [{**({"t": time} if timed else {}), **what} for time, what in sorted(at.items())]


def windows(recording: Recording, sensors: list[str] | None = None, seconds: float = 2.56, step: float = 1.28) -> dict[str, torch.Tensor]:
    """The recording's windows by sensor."""
    source = WindowSource([recording], Cut(seconds, step, "none"), sensors=sensors or list(recording.tracks))
    found = source.load(np.arange(len(source)), list(source.fields))
    return found if isinstance(found, dict) else {source.field: found}


def embeddings(records: list[dict[str, Any]]) -> torch.Tensor:
    return torch.tensor([record["embedding"] for record in records])


def endless(recording: Recording) -> Iterator[bytes]:
    rows = recording.tracks["accelerometer"].values.tolist()
    for step in count():
        yield json.dumps({"t": step / 50, "accelerometer": rows[step % len(rows)]}).encode() + b"\n"
