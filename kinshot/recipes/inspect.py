"""`ssl inspect`: what is in a checkpoint, after verifying it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.features import weights_hash
from kinshot.recipes.recipe import parse


def describe(path: Path) -> dict[str, Any]:
    """Recipe, progress, input, sizes and hashes of a verified checkpoint. Raises CheckpointError."""
    checkpoint = load_checkpoint(path)
    recipe = parse(checkpoint.config, checkpoint.path.name)
    state = checkpoint.state
    parts = {"encoder": checkpoint.encoder, "projector": checkpoint.projector, "training": checkpoint.training}
    return {
        "checkpoint": str(checkpoint.path),
        "verified": True,
        "recipe": recipe.name,
        "method": recipe.method.name,
        "encoder": recipe.encoder.name,
        "data": {"name": recipe.data.name, "samples": state.get("samples")},
        "progress": {"step": state["step"], "total_steps": state.get("total_steps"), "epoch": state.get("epoch"), "seed": recipe.seed},
        "input": state["input"],
        "tensors": {name: {"count": len(t), "values": sum(v.numel() for v in t.values())} for name, t in parts.items()},
        "hashes": {name: weights_hash(t) for name, t in parts.items()},
        "cpu_minutes": round(float(state.get("cpu_seconds", 0.0)) / 60, 2),
    }
