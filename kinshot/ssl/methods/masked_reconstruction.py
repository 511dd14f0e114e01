"""Masked reconstruction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import Encoder, keyed_initialisation
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import BACKBONE, Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.temporal.masked_reconstruction import masked_reconstruction
from kinshot.samples.batch import Batch
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from kinshot.ssl.sequences import SERIES, encoders_of, mean_terms, sequences

_REACH = 5  # steps that the decoder's convolution sees


@METHODS.register("masked_reconstruction")
class MaskedReconstruction(Method):
    """What a view hides of a window is rebuilt: spans from what is around them, a whole modality from the others.

    Paper: Zerveas, Jayaraman, Patel, Bhamidipaty, Eickhoff 2020, arXiv 2010.02803; hiding whole modalities is as of masked autoencoders
        across modalities, Bachmann, Mizrahi, Atanov, Zamir 2022, arXiv 2204.01678

    A view that hides (`hidden_spans`), and the clean sample beside it: what is not measured in the view and is in the sample is asked for,
    in units of the channel's spread, and nothing else. Each modality has a decoder, which sees at every step the encoder's place there, the
    feature of all modalities together, and the time. The loss is the mean over modalities of which something is hidden. Series alone are
    rebuilt; frames beside them are looked at.

    Departures: any encoder of series, and a small convolutional decoder, where the paper has a transformer and a linear map; hidden values
        are absent and not 0; no batch normalisation or dropout of the decoder.

    Args:
        hidden: width of the decoders.
        waves: sines and cosines that say what time it is, the slowest over the window once.
    """

    accepts = ("series", "bundle")
    view_count = 1
    needs_clean = True
    uses = ()

    def __init__(self, model: Model, context: RunContext, *, hidden: int = 64, waves: int = 16) -> None:
        super().__init__(model)
        encoders = {name: one for name, one in encoders_of(model, "masked_reconstruction").items() if isinstance(one.input, SeriesSpec)}
        if not encoders:
            raise ConfigError(f"masked_reconstruction rebuilds series, got {model.input.describe()}: take data with one beside it")
        if min(hidden, waves) < 1:
            raise ConfigError(f"masked_reconstruction: hidden and waves must be at least 1, got {hidden} and {waves}: try 64 and 16")
        with keyed_initialisation(context.seed, "init masked_reconstruction"):
            found = {f"of_{name}": Decoder(encoder, model.dim, hidden, waves) for name, encoder in encoders.items()}
        self.decoders, self.modalities = nn.ModuleDict(found), tuple(encoders)

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Each modality's places in the view, and the features."""
        return sequences(self.model, batch, range(1), names)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The mean squared error at what is hidden; `of_mean`, beside that of saying the mean everywhere; the `share` that is hidden."""
        view, clean = self._split(batch.views[0]), self._split(cast(Tensor, batch.clean))
        hidden = {name: view[name].isnan() & ~clean[name].isnan() for name in self.modalities}
        asked = [name for name, places in hidden.items() if bool(places.any())] or self.modalities
        found = []
        for name in asked:
            rebuilt = self.decoders[f"of_{name}"](outputs[f"{name}/sequence"], outputs[BACKBONE], view[name].shape[2])
            error, target = masked_reconstruction(clean[name], rebuilt, hidden[name]), clean[name].nan_to_num()
            with torch.no_grad():
                of_mean = masked_reconstruction(clean[name], torch.zeros_like(target), hidden[name])
                share = hidden[name].sum() / (~clean[name].isnan()).sum().clamp(min=1)
                relative = error / of_mean.clamp(min=torch.finfo(of_mean.dtype).eps)
            found.append({"loss": error, "of_mean": relative, "share": share})
        return mean_terms(found)

    def _split(self, x: Tensor) -> dict[str, Tensor]:
        spec = self.model.input
        return spec.split(x) if isinstance(spec, BundleSpec) else {SERIES: x}


class Decoder(nn.Module):
    """A modality's series from its encoder's places, the feature of all modalities and the time of each step.

    Args:
        encoder: of the modality.
        dim: of the feature.
        hidden: width.
        waves: in the code of time.
    """

    def __init__(self, encoder: Encoder, dim: int, hidden: int, waves: int) -> None:
        super().__init__()
        last = encoder.stages[-1]
        stride = encoder.strides[last]
        # one map of all three side by side, as the sum of one of each: the feature is mapped once and not at every step
        self.local = nn.ConvTranspose1d(encoder.dims[last], hidden, stride, stride)
        self.whole = nn.Linear(dim, hidden, bias=False)
        self.time = nn.Conv1d(2 * waves, hidden, 1, bias=False)
        self.mix = nn.Conv1d(hidden, hidden, _REACH, padding=_REACH // 2)
        self.out = nn.Conv1d(hidden, encoder.input.shape[0], 1)
        self.length, self.waves = encoder.input.shape[1], waves

    def forward(self, places: Tensor, feature: Tensor, steps: int) -> Tensor:
        """(B, T', D) and (B, dim) to (B, C, steps)."""
        local = self.local(places.mT)[:, :, :steps]
        x = local + self.whole(feature).unsqueeze(2) + self.time(self._code(steps, local).unsqueeze(0))
        rebuilt: Tensor = self.out(F.gelu(self.mix(F.gelu(x))))
        return rebuilt

    def _code(self, steps: int, like: Tensor) -> Tensor:
        """Sines and cosines of the time of each step, (2 waves, steps)."""
        phase = torch.arange(steps, device=like.device, dtype=torch.float32) * (2 * math.pi / self.length)
        angles = torch.arange(1, self.waves + 1, device=like.device).unsqueeze(1) * phase
        return torch.cat([angles.sin(), angles.cos()])
