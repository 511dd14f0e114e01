"""Weights as a safetensors file under a library's names, with what a reader must know in its metadata."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.checkpoint_files import encode_tensors
from kinshot.exports.native import Native
from kinshot.exports.proof import Features
from kinshot.exports.subject import Subject, preprocessing
from kinshot.learn.model import BACKBONE
from kinshot.samples.pixels import PixelSpec

METADATA = "kinshot"
"""The entry of a file's metadata that holds, as JSON, what is said of it."""


def as_file(subject: Subject, found: Native, library: str, heads: Sequence[str]) -> tuple[bytes, dict[str, Any]]:
    """The encoder's weights, and what stands in their metadata: the model, its images, which encoder it is, what is left out.

    Args:
        subject: whose encoder.
        found: the library's model.
        library: torchvision or timm.
        heads: names of the library's modules that are left out.
    """
    about = {
        "library": library,
        "model": found.name,
        **({"options": found.options} if found.options else {}),
        "classifier": f"none: {', '.join(heads)} is left out" if heads else "none",
        "preprocessing": preprocessing(found.input, inside=False),
        **subject.identity,
    }
    metadata = {"format": "pt", METADATA: json.dumps(about, ensure_ascii=True)}
    return encode_tensors(dict(subject.model.encoder.state_dict()), f"the weights of {subject.name}", metadata), about


def loaded(place: Path) -> dict[str, Tensor]:
    """The tensors of such a file."""
    from safetensors.torch import load_file

    return load_file(place)


def features_by(model: nn.Module, input: PixelSpec) -> Features:
    """What a library's model says of pixels in [0, 1] that are normalised before it."""
    model.eval()

    @torch.no_grad()
    def features(values: Tensor) -> dict[str, Tensor]:
        return {BACKBONE: model(input.normalize(values))}

    return features


def called(name: str, **options: Any) -> str:
    """Arguments of a constructor as Python writes them."""
    return ", ".join([repr(name), *(f"{key}={value!r}" for key, value in options.items())])
