"""What features were made with, as files that keep features name it: they are read on with the very same encoder, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import spec_from_dict

FRAMING = "central square"
"""How a picture becomes one of the encoder's size; a version that does it otherwise says so and does not read these features on."""


@dataclass(frozen=True)
class EncoderIdentity:
    """What features were made with.

    Attributes:
        name: by which it is found again: a checkpoint's folder, or a backbone's name.
        weights: `weights_hash` of the encoder.
        input: images that it takes.
        part: its architecture, a name of `ENCODERS`.
        settings: those of the architecture.
        origin: where a backbone comes from that was not trained here.
    """

    name: str
    weights: str
    input: PixelSpec
    part: str
    settings: dict[str, Any]
    origin: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "input": self.input.to_dict(), "framing": FRAMING}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> EncoderIdentity:
        """What `as_dict` gave. Raises KeyError, TypeError or ValueError."""
        found = dict(given)
        input = spec_from_dict(found.pop("input"))
        if found.pop("framing") != FRAMING or not isinstance(input, PixelSpec):
            raise ValueError("images are brought to the encoder's size in a way that this version does not know")
        return cls(input=input, **found)
