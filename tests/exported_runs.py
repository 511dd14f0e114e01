"""Untrained runs for tests of exports, real photographs, and a process that has no kinshot."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kinshot
from kinshot.cli import ssl
from kinshot.core.checkpoint import save_checkpoint
from kinshot.recipes.recipe import parse
from kinshot.runs.embedder import build_model
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec

GREY = PixelSpec.square(1, 28, (0.13,), (0.31,))
COLOUR = PixelSpec.square(3, 64, (0.47, 0.45, 0.41), (0.23, 0.22, 0.24))


def write_run(folder: Path, encoder: dict[str, Any], spec: Spec, *, total_steps: int = 1, **sections: Any) -> Path:
    """A checkpoint of an encoder that was never trained, whose statistics of batches are nevertheless not those of a new one."""
    base = {
        "data": {"name": "folder", "root": "/home/ada/my photos"},
        "views": {"name": "warp", "views": 1},
        "projector": {"hidden": 8, "dim": 6},
        "method": {"name": "classifier"},
    }
    recipe = parse({**base, "encoder": encoder, **sections}, "tiny")
    made, projector = build_model(recipe, spec)
    generator = torch.Generator().manual_seed(1)
    for name, value in made.state_dict().items():
        if name.endswith(("running_mean", "running_var")):  # means are moved less: untrained signals are small in deep networks
            value.add_(torch.rand(value.shape, generator=generator).mul(0.1 if name.endswith("var") else 1e-4))
    state = {"step": 1, "epoch": 1, "total_steps": total_steps, "input": spec.to_dict(), "samples": 40}
    parts = {"encoder": made.state_dict(), "projector": projector.state_dict(), "training": {}}
    return save_checkpoint(folder, parts=parts, state=state, config=recipe.to_dict(), fsync=False)


@cache
def photographs(channels: int, size: int) -> Tensor:
    """Twelve squares of two photographs, of other places than `kinshot.exports.samples` takes: uint8 (12, channels, size, size)."""
    from sklearn.datasets import load_sample_images

    spec = PixelSpec.square(channels, size, (0.0,) * channels, (1.0,) * channels)
    found = []
    for photograph in load_sample_images().images:
        pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None]
        for number in range(6):
            side, row, column = 100 + 40 * number, 17 * number, 29 * number
            found.append(spec.fit(pixels[:, :, row : row + side, column : column + side]))
    return torch.cat(found)


def without_kinshot(script: str, folder: Path) -> dict[str, Any]:
    """What a script that runs where no kinshot can be imported leaves in `said`, plain data."""
    code = f"""
import importlib.abc, json, sys
class Nowhere(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "kinshot":
            raise ModuleNotFoundError("no kinshot here", name=name)
sys.meta_path.insert(0, Nowhere())
sys.path = [one for one in sys.path if one not in ("", {str(Path(__file__).resolve().parents[1])!r})]
try:
    import kinshot
    sys.exit("kinshot is here")
except ModuleNotFoundError:
    pass
said = {{}}
{script}
print(json.dumps(said))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def export(capsys: pytest.CaptureFixture[str], *words: str | Path, code: int = 0) -> tuple[Any, str]:
    """The command with --json: what it printed, and what it said."""
    capsys.readouterr()
    done = ssl.main(["export", *map(str, words), "--json"])
    printed = capsys.readouterr()
    assert done == code, printed.err
    return (json.loads(printed.out) if code == 0 else None), printed.err


def left(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()} - {"runs"}


def wanted(run: str, images: torch.Tensor) -> dict[str, torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kinshot.load(run).embed(images)
