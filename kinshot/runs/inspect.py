"""`ssl inspect`: what is in a checkpoint, after verifying it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinshot.core.checkpoint import Checkpoint
from kinshot.encoders.stems import stem_of
from kinshot.learn.features import weights_hash
from kinshot.recipes.fit import made_by
from kinshot.recipes.loaded import read
from kinshot.runs.reached import reached_by


def describe(path: Path) -> dict[str, Any]:
    """Recipe, progress, input, sizes and hashes of a verified checkpoint. Raises CheckpointError."""
    run = read(path)
    checkpoint, recipe = run.checkpoint, made_by(run)
    state = checkpoint.state
    parts = checkpoint.tensors
    return {
        "checkpoint": str(checkpoint.path),
        "verified": True,
        "recipe": recipe.name,
        "method": recipe.method.name,
        "encoder": {"name": recipe.encoder.name, **recipe.encoder.settings, **_elsewhere(checkpoint)},
        "data": {"name": recipe.data.name, "samples": state.get("samples")},
        "reached": str(reached_by(checkpoint)),
        "progress": {"step": state["step"], "total_steps": state.get("total_steps"), "epoch": state.get("epoch"), "seed": recipe.seed},
        "input": state["input"],
        "tensors": {name: {"count": len(t), "values": sum(v.numel() for v in t.values())} for name, t in parts.items()},
        "hashes": {name: weights_hash(t) for name, t in parts.items()},
        "cpu_minutes": round(float(state.get("cpu_seconds", 0.0)) / 60, 2),
    }


def _elsewhere(checkpoint: Checkpoint) -> dict[str, str]:
    """How encoder.safetensors loads without kinshot, where its names are torchvision's and timm's."""
    weights = checkpoint.encoder
    if "conv1.weight" not in weights or "layer4.0.conv1.weight" not in weights:
        return {}
    width, channels, *_ = weights["conv1.weight"].shape
    needed = []
    if stem_of(weights) == "small":
        needed += [f"conv1 = Conv2d({channels}, {width}, 3, 1, 1, bias=False)", "maxpool = Identity()"]
    elif channels != 3:
        needed.append(f"conv1 = Conv2d({channels}, {width}, 7, 2, 3, bias=False)")
    as_it_is = "as it is, but for fc (load_state_dict(..., strict=False))"
    return {"in torchvision and timm": f"after {', '.join(needed)} in their model" if needed else as_it_is}
