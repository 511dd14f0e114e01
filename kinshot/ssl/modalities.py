"""What methods across modalities share: what a model says of each of them, who has which, and which windows are told apart."""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.fused_bundle import FusedBundle
from kinshot.encoders.modality_projector import ModalityProjector
from kinshot.kin import constructors
from kinshot.kin.recordings import windows
from kinshot.kin.relation import Relation
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import widest
from kinshot.samples.batch import Batch
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.spec import Spec


def compared(model: Model, method: str) -> tuple[str, ...]:
    """The modalities that a model has a projector each for, whose outputs have their names.

    Raises:
        ConfigError: samples of one modality, one projector for all, or outputs that are not equally wide.
    """
    _check_several(model, method)
    if not isinstance(model.projector, ModalityProjector):
        raise ConfigError(f"method {method} compares modalities, and the projector is one for all: set projector.modalities=true")
    widths = model.projector.outs
    if len(set(widths.values())) > 1:
        shown = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise ConfigError(
            f"method {method} compares modalities, whose outputs are not equally wide, got {shown}: set projector.layers=1 or more"
        )
    return model.projector.names


def fused(model: Model, method: str) -> FusedBundle:
    """The encoder of a model that projects the feature of all modalities as one.

    Raises:
        ConfigError: samples of one modality, another encoder than `fused`, or a projector for each modality.
    """
    _check_several(model, method)
    if not isinstance(model.encoder, FusedBundle):
        raise ConfigError(f"method {method} fuses features of modalities, got {type(model.encoder).__name__}: set encoder=fused")
    if isinstance(model.projector, ModalityProjector):
        raise ConfigError(f"method {method} projects modalities as one, got a projector for each: set projector.modalities=false")
    return model.encoder


def _check_several(model: Model, method: str) -> None:
    if len(getattr(model.input, "names", ())) < 2:
        raise ConfigError(f"method {method} compares modalities, got {model.input.describe()}: take data of several sensors")


def core_of(core: str, names: tuple[str, ...], method: str) -> int | None:
    """The number of the modality that every pair holds; None for an empty name, which is for all pairs.

    Raises:
        ConfigError: a name that is none of `names`.
    """
    if core and core not in names:
        raise ConfigError(f"{method}: core is a modality of {', '.join(names)}, got {core!r}: choose one of these")
    return names.index(core) if core else None


def present(model: Model, x: Tensor) -> Tensor:
    """Which samples of normalised bundles (B, N) have which modality: bool (M, B)."""
    return torch.stack(list(cast(BundleSpec, model.input).present(x).values()))


class Seen(NamedTuple):
    """What a view of a batch says: embeddings (B, D) of each of M modalities, and bool (M, B), which samples have which."""

    z: list[Tensor]
    present: Tensor


def seen(model: Model, outputs: Outputs, batch: Batch, names: tuple[str, ...]) -> list[Seen]:
    """The outputs of those names, which are modalities, for every view."""
    blocks = zip(*(outputs.blocks(name) for name in names), strict=True)
    return [Seen(list(z), present(model, batch.views[view])) for view, z in zip(outputs.shown.views, blocks, strict=True)]


class Windows:
    """Which samples of a batch are told apart: windows of one recording that overlap are not.

    Args:
        context: of the run; without a clock all samples are told apart.
        input: what the samples are; its longest window says what overlaps.
    """

    def __init__(self, context: RunContext, input: Spec) -> None:
        self.seconds = input.seconds
        self.clock: tuple[Tensor, Tensor] | None = None
        if context.clock is not None and self.seconds:
            start, recording = (torch.from_numpy(np.asarray(values)) for values in context.clock)
            self.clock = start.double(), recording

    def of(self, indices: Tensor) -> Relation:
        """The relation of the samples at int64 `indices` (B,) to themselves, (B, B), on their device."""
        return self.of_sequences(indices.unsqueeze(1))

    def of_sequences(self, indices: Tensor) -> Relation:
        """The same of sequences (S, L) of samples of one recording in the order of time, each from its first start to its last end."""
        if self.clock is None:
            return constructors.views(indices[:, 0], copies=1)
        rows = indices.cpu()
        start, recording = (values[rows] for values in self.clock)
        device = indices.device
        length = start[:, -1] - start[:, 0] + self.seconds
        floats = widest(device)
        return windows(recording[:, 0].to(device), start[:, 0].to(device, floats), length.to(device, floats))

    def at(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """When the samples at int64 `indices` (B,) begin, in seconds, and in which recording, on their device; where there is a clock."""
        rows, device = indices.cpu(), indices.device
        start, recording = (values[rows] for values in cast(tuple[Tensor, Tensor], self.clock))
        return start.to(device, widest(device)), recording.to(device)
