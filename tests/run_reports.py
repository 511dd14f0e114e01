"""Tiny runs and the pages that `ssl report` makes of them."""

from __future__ import annotations

import io
import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kinshot.cli import ssl
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.tiny import METHODS, TINY

NAMES = ["<script>alert(1)</script>", "a&b \"c\" 'd'", "ελληνικά", "$x^$"]
CPU = torch.device("cpu")
QUICK = ["monitor.tensorboard=false", "train.epochs=2"]


def trained(out: Path, *settings: str) -> Path:
    """A finished run in this process."""
    train_recipe(load_recipe(str(TINY), [*QUICK, *settings]), Options(out, quiet=True), lambda text: None)
    return out


def clustered(out: Path, data: Path) -> Path:
    """A run of InterCLR on the images of `write_hostile`."""
    small = ["method.clusters=5", "method.min_cluster=2", "method.queue=32", "method.negatives=4", "method.pool=8"]
    folder = ["data=folder", f"data.root={data}", "data.size=16", "data.channels=1", "train.batch_size=16"]
    return trained(out, *METHODS["interclr"][:1], *folder, *small)


def write_hostile(data: Path) -> None:
    """Twelve images in each of four folders whose names are hostile, and a copy of one of them."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        folder = data / name.replace("/", "\u2215")
        folder.mkdir(parents=True)
        prototype = rng.uniform(0, 255, (7, 7))
        for i in range(12):
            pixels = np.clip(prototype + rng.normal(0, 60, (7, 7)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((18, 18), Image.Resampling.BILINEAR).save(folder / f"{i}.png")
    first = min(data.iterdir())
    shutil.copy(first / "0.png", first / "copy.png")


@dataclass(frozen=True)
class Made:
    """A page that the command made, and what it printed with --json."""

    file: Path
    numbers: dict[str, Any]

    @property
    def text(self) -> str:
        return self.file.read_text(encoding="utf-8")


def made(run: Path, out: Path, *more: str) -> Made:
    """The page of a run, in a folder."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert ssl.main(["report", str(run), "--out", str(out), "-q", "--device", "cpu", "--json", *more]) == 0
    return Made(out / "report.html", json.loads(printed.getvalue()))
