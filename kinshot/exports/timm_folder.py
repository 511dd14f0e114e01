"""What timm reads in a folder of the Hub: the model's name and constructor, and how its images are prepared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinshot.encoders.timm_adapter import fixed_size, library_model
from kinshot.exports.native import Native
from kinshot.exports.proof import Features
from kinshot.exports.weights import features_by


def timm_config(found: Native, dim: int) -> dict[str, Any]:
    """The keys of `config.json` that timm reads, for its model without a classifier. Raises ConfigError where timm is not installed."""
    model, heads = library_model(found.name, found.options)
    own = dict(getattr(model, "pretrained_cfg", {}))
    config = {
        "input_size": list(found.input.shape),
        "fixed_input_size": fixed_size(found.name),
        "interpolation": found.input.interpolation,
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": list(found.input.mean),
        "std": list(found.input.std),
        "num_classes": 0,
        "first_conv": own.get("first_conv"),
        "classifier": heads[0] if len(heads) == 1 else list(heads),
        "custom_load": False,
    }
    return {
        "architecture": found.name,
        "num_classes": 0,
        "num_features": dim,
        **({"model_args": found.options} if found.options else {}),
        "pretrained_cfg": config,
    }


def opened_by_timm(folder: Path, found: Native) -> Features:
    """What timm says, with the folder as `local-dir:`."""
    import timm

    return features_by(timm.create_model(f"local-dir:{folder}", pretrained=True), found.input)
