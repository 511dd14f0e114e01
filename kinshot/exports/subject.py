"""What is exported, and what an export says of it wherever it goes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import kinshot
from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.exports.proof import Features
from kinshot.learn.features import weights_hash
from kinshot.learn.model import BACKBONE, Model
from kinshot.recipes.fit import made_by
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice
from kinshot.runs.reached import Reached, reached_by
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec


@dataclass(frozen=True)
class Made:
    """What a format makes of a subject.

    Attributes:
        files: content by name; the one of a format that is a single file has the name "".
        what: messages call it.
        opened: what it says of samples, opened from where it lies as whoever has no kinshot opens it.
        reading: lines of Python that do so; `{path!r}` stands for where it lies.
        notes: what is to be said of it.
        about: what a reader must know to use it, as it stands in the file.
    """

    files: Mapping[str, bytes]
    what: str
    opened: Callable[[Path], Features]
    reading: tuple[str, ...]
    notes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A trained encoder with what stands on it.

    Attributes:
        run: what was read.
        model: made of it, in evaluation mode, on the CPU.
        values: samples that what is made is compared on: pixels in [0, 1], or other values as the encoder's input counts them.
        shown: what these samples are.
        outputs: what a program gives, the first of them first.
        results: documents of result files, for a model card.
    """

    run: Loaded
    model: Model
    values: Tensor
    shown: str
    outputs: tuple[str, ...] = (BACKBONE,)
    results: tuple[Mapping[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.run.recipe.name)

    @cached_property
    def encoder(self) -> Choice:
        """The encoder and all its settings, with those that were left to the data."""
        made = made_by(self.run).encoder
        return Choice(made.name, ENCODERS.check(made.name, made.settings)[0])

    @property
    def reached(self) -> Reached:
        """How far training got."""
        return reached_by(self.run.checkpoint)

    @property
    def input(self) -> Spec:
        """Samples that the encoder takes."""
        return self.model.input

    @property
    def images(self) -> PixelSpec:
        """The same where they are images. Raises ConfigError for others."""
        if not isinstance(self.input, PixelSpec):
            name, kind = self.encoder.name, self.input.kind
            raise ConfigError(f"encoder {name} takes {kind}, which no library of images knows: use --format exported or onnx")
        return self.input

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Which encoder it is and where it comes from, as plain data."""
        checkpoint, recipe = self.run.checkpoint, dict[str, Any]()
        if not checkpoint.origin:
            recipe = {"recipe": self.name, "recipe_sha256": recipe_hash(checkpoint.config)}
        return {
            "kinshot": kinshot.__version__,
            "encoder": {"name": self.encoder.name, **self.encoder.settings},
            "encoder_sha256": weights_hash(checkpoint.encoder),
            **recipe,
            "trained": str(self.reached),
        }

    @torch.no_grad()
    def features(self, values: Tensor) -> dict[str, Tensor]:
        """What the model itself says of values, by output, float32."""
        found = self.model.outputs(self.input.normalize(values), self.outputs)
        return {name: found[name].float() for name in self.outputs}


def recipe_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of a recipe as plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def preprocessing(spec: Spec, *, inside: bool) -> dict[str, Any]:
    """What is to be done to a sample before it is given to what was exported.

    Args:
        spec: samples as the encoder takes them.
        inside: whether what was exported normalises by itself.
    """
    if not isinstance(spec, PixelSpec):
        return {**spec.to_dict(), "shape": ["batch", *spec.shape], "normalised": "inside" if inside else "outside"}
    normalising = "inside: give pixels in [0, 1]" if inside else "outside: give (pixels in [0, 1] - mean) / std"
    return {
        "input": "float32, channels first",
        "channels": "RGB" if spec.channels == 3 else "grey" if spec.channels == 1 else spec.channels,
        "size": [spec.height, spec.width],
        "interpolation": spec.interpolation,
        "antialias": True,
        "framing": "the central square of a picture",
        "normalised": normalising,
        "mean": list(spec.mean),
        "std": list(spec.std),
    }
