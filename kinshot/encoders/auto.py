"""The encoder that suits the samples, for recipes that do not know them beforehand."""

from __future__ import annotations

from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.samples.spec import Spec

CONV4_BELOW = 64
"""Images below this size in pixels get a Conv-4; larger ones a ResNet-18, whose ImageNet stem then costs no more and sees further."""


def encoder_for(input: Spec) -> str:
    """The name of the encoder that `auto` is for these samples."""
    if input.kind not in auto.accepts:  # type: ignore[attr-defined]
        raise ConfigError(f"encoder auto knows none for {input.kind}: name one that takes them")
    small = "conv4" if input.side < CONV4_BELOW else "resnet18"
    names = {"image": small, "features": "mlp", "tokens": "text", "series": "series_cnn", "frames": "frame_encoder", "bundle": "fused"}
    return names[input.kind]


@ENCODERS.register("auto")
def auto(input: Spec) -> Any:
    """Chosen by the samples: conv4 below 64 pixels, resnet18 from 64, mlp for rows of numbers, text for texts, series_cnn
    for series, frame_encoder for frames, fused for bundles.

    A run's config.yaml names the encoder that was chosen.
    """
    return ENCODERS.build(encoder_for(input), input)


auto.accepts = ("image", "features", "tokens", "series", "frames", "bundle")  # type: ignore[attr-defined]
