"""The encoder of bundles: an encoder for each modality, and their features as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from kinshot.core.errors import ConfigError, suggest
from kinshot.encoders import ENCODERS, fused_stream
from kinshot.encoders.build import Encoder, named_encoder
from kinshot.encoders.fused_fields import Fused
from kinshot.encoders.fused_stream import FusedState, FusedStreamed
from kinshot.encoders.streaming import stream_of
from kinshot.samples.bundle import BundleSpec

_EXAMPLE = "series_cnn:widths=[32, 64]"


@ENCODERS.register("fused")
class FusedBundle(nn.Module):
    """An encoder for each modality of a bundle, and one feature of unit length of those that a sample has (`Fused`).

    Any non-empty subset of the modalities will do, sample by sample: what is absent (NaN all over) passes no network, enters no statistic
    of a batch, and says nothing in the feature. Where the encoders of all modalities are causal it streams (`streaming.StreamingBundle`).

    Args:
        each: the encoder of every modality, as text: its name and perhaps settings, `series_cnn:widths=[32, 64]`.
        other: for modalities that need another one, `name=encoder`: `barometer=series_cnn:strides=[1, 2, 2]`.
        fusion: `concat` keeps features side by side, in the order of the modalities; `mean` and `attention` make one of one width.

    Attributes:
        modalities: the encoder of each modality by name.
        dims: features of each.
        causal: whether the encoders of all modalities see nothing of the future.

    >>> from kinshot.samples.bundle import BundleSpec
    >>> from kinshot.samples.series import SeriesSpec
    >>> spec = BundleSpec(("acc", "air"), (SeriesSpec.unmeasured((3, 100), 50.0), SeriesSpec.unmeasured((1, 20), 10.0)))
    >>> encoder = kinshot.encoders.fused(spec, each="series_cnn:widths=[8, 16]:kernels=[8, 4]:strides=[2, 2]")
    >>> encoder(spec.blank(3)).shape, encoder(spec.without(spec.blank(3), ["air"]))[:, 16:].abs().sum()
    (torch.Size([3, 32]), tensor(0., grad_fn=<SumBackward0>))
    """

    accepts = ("bundle",)

    def __init__(
        self,
        input: BundleSpec,
        *,
        each: str = "auto",
        other: tuple[str, ...] = (),
        fusion: Literal["concat", "mean", "attention"] = "concat",
    ) -> None:
        super().__init__()
        own = dict(_assigned(text, input) for text in other)
        if len(own) < len(other):
            raise ConfigError(f"encoder fused: other names a modality twice: {', '.join(other)}: keep one")
        encoders = {name: named_encoder(own.get(name, each), part, _EXAMPLE) for name, part in input.modalities.items()}
        self.input, self.fused = input, Fused(encoders, fusion=fusion)
        self.dim, self.dims, self.fusion = self.fused.dim, self.fused.dims, fusion

    @property
    def modalities(self) -> dict[str, Encoder]:
        """The encoder of each modality by name."""
        return dict(self.fused.encoders.items())  # type: ignore[arg-type]  # they keep the contract without inheriting it

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Each modality's own features (B, dims[name]) of normalised rows (B, N), zero for samples that lack it."""
        return self.fused.features(self.input.split(x))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised rows (B, N). Raises DataError for a row without any modality."""
        return self.fused(self.input.split(x))

    @property
    def causal(self) -> bool:
        """Whether the encoders of all modalities stream."""
        return all(getattr(encoder, "causal", False) for encoder in self.modalities.values())

    def start(self, streams: int) -> FusedState:
        """The state of so many streams before anything came; see `streaming.StreamingBundle`."""
        stream_of("fused", self)
        return fused_stream.start(self.fused, streams)

    def step(self, chunks: Mapping[str, Tensor], state: FusedState) -> tuple[FusedStreamed, FusedState]:
        """What the next normalised steps of some modalities give, and the state behind them; see `streaming.StreamingBundle`."""
        return fused_stream.step(self.fused, chunks, state)


def _assigned(text: str, input: BundleSpec) -> tuple[str, str]:
    """Modality and encoder of `name=encoder`."""
    name, equals, encoder = (piece.strip() for piece in text.partition("="))
    if not equals or not encoder:
        raise ConfigError(f"encoder fused: other must be modality=encoder, got {text!r}: write for example {input.names[0]}={_EXAMPLE}")
    if name not in input.names:
        raise ConfigError(f"encoder fused: there is no modality {name!r}: {suggest(name, input.names)}")
    return name, encoder
