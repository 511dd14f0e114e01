"""Cheap runs for tests of segmentation: checkpoints of small networks that were not trained, on scenes of glyphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import save_checkpoint
from kinshot.datasets import SOURCES
from kinshot.recipes.recipe import parse
from kinshot.runs.embedder import build_model
from kinshot.samples.spec import input_of

SCENES = {"name": "glyph_scenes", "classes": 8, "per_class": 6, "size": 32}
DATA = ["--data", "glyph_scenes", "--set", "classes=8", "--set", "per_class=6"]


def write_run(folder: Path, *, seed: int = 0, data: dict[str, Any] | None = None, weights_of: int | None = None, **sections: Any) -> Path:
    """A checkpoint as a run would leave it; `weights_of` takes the weights of another seed, as if training had changed them."""
    settings = {
        "data": data or {**SCENES, "split": "train"},
        "views": {"name": "warp", "views": 2},
        "encoder": {"name": "conv4", "width": 4},
        "projector": {"hidden": 8, "dim": 6},
        "method": {"name": "simclr"},
        "seed": seed,
        **sections,
    }
    recipe = parse(settings, "tiny")
    spec = input_of(SOURCES.build("glyph_scenes", settings=_plain(SCENES)).only("image"))
    other = parse({**settings, "seed": 100 + seed if weights_of is None else weights_of}, "tiny")
    encoder, projector = build_model(other, spec)
    state = {"step": 1, "epoch": 1, "input": spec.to_dict(), "cpu_seconds": 60.0}
    parts = {"encoder": encoder.state_dict(), "projector": projector.state_dict(), "training": {}}
    return save_checkpoint(folder, parts=parts, state=state, config=recipe.to_dict(), fsync=False)


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "name"}
