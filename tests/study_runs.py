"""Cheap runs for tests of studies, and the joint accuracies written out."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinshot.cli.fewshot import main
from kinshot.core.checkpoint import save_checkpoint
from kinshot.datasets import SOURCES
from kinshot.fewshot.joint import novel_draws
from kinshot.learn.model import Model
from kinshot.recipes.loaded import read
from kinshot.recipes.recipe import parse
from kinshot.runs.embedder import build_model, from_checkpoint
from kinshot.samples.spec import input_of
from kinshot.studies.answers import features_of

DIGITS = {"name": "digits", "split": "train", "size": 16}
NOVEL, VAL = "glyphs,split=val,variants=4,size=16", "glyphs,split=test,variants=4,size=16"
CPU = torch.device("cpu")


@cache
def source(name: str, **settings: Any):
    return SOURCES.build(name, settings=settings)


def write_run(folder: Path, data: dict[str, Any], *, method: str = "classifier", seed: int = 0, ema: float = 0.0, **sections: Any) -> Path:
    """A checkpoint whose encoder is untrained and whose rows are the class means of what it gives: base classes are known, cheaply."""
    recipe = parse(
        {
            "data": data,
            "views": {"name": "warp", "views": 1, "rotation": 5.0},
            "encoder": {"name": "conv4", "width": 4},
            "projector": {"hidden": 8, "dim": 6},
            "method": {"name": method},
            "train": {"ema": ema},
            "seed": seed,
            **sections,
        },
        "tiny",
    )
    base = source(data["name"], **recipe.data.settings)
    spec = input_of(base)
    encoder, projector = build_model(recipe, spec)
    z = unit(features_of(Model(encoder, projector, input=spec).eval(), base, CPU)["backbone"])
    rows = torch.stack([z[torch.from_numpy(base.labels == c)].mean(0) for c in range(len(base.class_names))])
    learned = {"rows": {"weight": rows, "scale": torch.tensor(8.0)}} if method == "classifier" else {}
    state = {"step": 1, "epoch": 1, "input": spec.to_dict(), "cpu_seconds": 60.0}
    parts = {"encoder": encoder.state_dict(), "projector": projector.state_dict(), "training": {}, **learned}
    return save_checkpoint(folder, parts=parts, state=state, config=recipe.to_dict(), fsync=False)


def call(capsys: pytest.CaptureFixture[str], *args: str | Path, code: int = 0) -> Any:
    """The JSON of a command that succeeds, or what one that fails says."""
    capsys.readouterr()
    got = main([*map(str, args), "--device", "cpu", *["--json"] * (code == 0)])
    said = capsys.readouterr()
    assert got == code, said.err
    return json.loads(said.out) if code == 0 else said.err


def cells(result: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(row["label"], row["metric"]): row["mean"] for row in result["rows"]}


def unit(z: torch.Tensor) -> torch.Tensor:
    return z / z.norm(dim=1, keepdim=True)


def features(run: Path, name: str, **settings: Any) -> torch.Tensor:
    return features_of(from_checkpoint(read(run)), source(name, **settings), CPU)["backbone"]


def joint(base: np.ndarray, labels: np.ndarray, novel: np.ndarray, ways: np.ndarray, classes: int, offset: float = 0.0):
    """Base, novel, micro, base alone, novel alone in percent, of scores of base images and of novel images, written out."""
    shift = np.where(np.arange(base.shape[1]) < classes, offset, 0.0)
    seen, new = (base - shift).argmax(1) == labels, (novel - shift).argmax(1) == classes + ways
    alone = (base[:, :classes].argmax(1) == labels).mean(), (novel[:, classes:].argmax(1) == ways).mean()
    return 100 * np.array([seen.mean(), new.mean(), np.concatenate([seen, new]).mean(), *alone])


def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def rest(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "name"}


def draws_of(split: str, ways: int, most: int, draws: int):
    return novel_draws(source("glyphs", split=split, variants=4, size=16).labels, ways=ways, most=most, draws=draws, seed=0)
