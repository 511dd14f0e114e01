"""MODEL.kin: a classifier of the user's own classes as one safetensors file.

Tensors: `features` float32 (N, D) of every image, `means` float32 (C, D), `weight` and `bias` of the head, `thumbnails` uint8 (N, 3, S, S)
where they are kept, and the encoder's as `encoder.NAME` where it is carried along. The metadata has one entry, `kinshot`: JSON with the
schema's version, the images, the encoder's identity, the head, what was found of sureness and of the threshold, and a checksum of it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinshot.core.errors import CheckpointError, KinshotError
from kinshot.fewshot.enrolled.fit import Fit, Sureness
from kinshot.fewshot.enrolled.open_set import OpenSet
from kinshot.fewshot.enrolled.rows import Rows
from kinshot.fewshot.enrolled.support import Shot, Support
from kinshot.learn.sealed import read_sealed, write_sealed
from kinshot.runs.encoder_identity import EncoderIdentity

SUFFIX, KIND, SCHEMA_VERSION = ".kin", "kinshot classifier", 1
_ENCODER = "encoder."
_ADVICE, _INSTEAD = "copy it again, or make it anew with `fewshot enroll`", "name one, or give these weights by --encoder timm:NAME:FILE"


@dataclass(frozen=True)
class KinFile:
    """What a file holds.

    Attributes:
        support: the images.
        fit: what was computed of them.
        head: name of the head.
        settings: all settings of the head.
        encoder: what features were made with.
        weights: the encoder's tensors where they are carried along; empty where not.
    """

    support: Support
    fit: Fit
    head: str
    settings: dict[str, Any]
    encoder: EncoderIdentity
    weights: dict[str, Tensor] = field(default_factory=dict)


def write_kin(path: Path, kin: KinFile) -> None:
    """Write or replace a file: it is complete or as it was. Raises DataError where it cannot be written."""
    fit = kin.fit
    tensors = {
        "features": kin.support.features,
        "means": fit.means.float(),
        "weight": fit.rows.weight.float(),
        "bias": fit.rows.bias.float(),
    }
    if kin.support.thumbnails is not None:
        tensors["thumbnails"] = kin.support.thumbnails
    tensors |= {_ENCODER + name: value for name, value in kin.weights.items()}
    head = {
        "encoder": kin.encoder.as_dict(),
        "head": {"name": kin.head, "settings": kin.settings, "transform": fit.rows.transform},
        "sureness": asdict(fit.sureness),
        "open_set": asdict(fit.open_set),
        "images": [[shot.label, shot.digest, shot.name] for shot in kin.support.shots],
    }
    write_sealed(path, KIND, SCHEMA_VERSION, head, tensors)


def read_kin(path: Path) -> KinFile:
    """A verified file.

    Raises:
        CheckpointError: missing, foreign, damaged or truncated, or written by a newer version.
    """
    head, tensors = read_sealed(path, KIND, SCHEMA_VERSION, "a classifier that `fewshot enroll` made", _ADVICE, _INSTEAD)
    try:
        return _kin(head, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, KinshotError) as problem:
        raise CheckpointError(f"{path} does not describe a classifier ({type(problem).__name__}: {problem}); {_ADVICE}") from problem


def _kin(head: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> KinFile:
    shots = tuple(Shot(*map(_text, image)) for image in head["images"])
    support = Support(shots, tensors["features"], tensors.get("thumbnails"))
    if list(shots) != sorted(shots) or not shots or len({shot.digest for shot in shots}) < len(shots):
        raise ValueError("its images are not sorted, or not there, or one is there twice")
    classes, dim = len(support.classes), support.features.shape[1]
    shapes = {"features": (len(shots), dim), "means": (classes, dim), "weight": (classes, dim), "bias": (classes,)}
    for name, shape in shapes.items():
        if tensors[name].shape != shape or tensors[name].dtype != torch.float32 or not bool(torch.isfinite(tensors[name]).all()):
            raise ValueError(f"{name} is {tensors[name].dtype} {tuple(tensors[name].shape)}, expected finite float32 {shape}")
    if support.thumbnails is not None and (support.thumbnails.dtype != torch.uint8 or support.thumbnails.shape[:2] != (len(shots), 3)):
        raise ValueError(f"thumbnails are {support.thumbnails.dtype} {tuple(support.thumbnails.shape)}")
    rows = Rows(tensors["weight"], tensors["bias"], _text(head["head"]["transform"]))
    fit = Fit(tensors["means"], rows, Sureness(**head["sureness"]), OpenSet(**head["open_set"]))
    weights = {name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)}
    encoder = EncoderIdentity.from_dict(head["encoder"])
    return KinFile(support, fit, _text(head["head"]["name"]), dict(head["head"]["settings"]), encoder, weights)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {value!r}")
    return value
