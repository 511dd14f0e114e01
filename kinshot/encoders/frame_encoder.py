"""The encoder of frames: an encoder of images for each of them, and their features as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from kinshot.encoders import ENCODERS
from kinshot.encoders.build import named_encoder
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import pooling_of
from kinshot.encoders.present import through
from kinshot.samples.frames import FramesSpec


class InTime(nn.Module):
    """Features of frames as a series."""

    def forward(self, features: Tensor, frames: int) -> Tensor:
        """(B * T, D), by sample and then by time, to (B, D, T)."""
        return features.unflatten(0, (-1, frames)).mT


@ENCODERS.register("frame_encoder")
class FrameEncoder(nn.Module):
    """An encoder of images for every frame, and the mean, the largest or the last of its features over the frames that there are.

    Frames that there are not (NaN) pass no network and enter no statistic of a batch; where a batch has a single frame, it passes as in
    evaluation mode. Pixels that alone are NaN are the mean. The features of all frames are the only stage, `sequence`, for methods that
    look at time.

    The network of images is `image`, and its weights are called as they are of images, after `image.`: those of an encoder of images go
    there by `encoder.image.load_state_dict(images.state_dict())`, for frames that are normalised as its images are (`FramesSpec.of`).

    Paper: Karpathy et al. 2014, Large-scale Video Classification with Convolutional Neural Networks (CVPR), whose single-frame network
    this is, before its scores are averaged over time.

    Args:
        image: the encoder of a frame, as text: its name and perhaps settings, `conv4:width=32`; in quotes where `fused` names this
            encoder, `cam=frame_encoder:image='conv4:width=32'`.
        pooling: what becomes of the features of frames: their `mean`, `max`, or the `last` one.

    >>> from kinshot.samples.frames import FramesSpec
    >>> spec = FramesSpec.unmeasured((3, 5, 32, 32), 2.0)
    >>> encoder = kinshot.encoders.frame_encoder(spec, image="conv4:width=8")
    >>> encoder(spec.blank(2)).shape, encoder.maps(spec.blank(2), ("sequence",))[0].values.shape
    (torch.Size([2, 32]), torch.Size([2, 32, 5]))
    """

    accepts = ("frames",)
    stages = ("sequence",)

    def __init__(self, input: FramesSpec, *, image: str = "auto", pooling: Literal["mean", "max", "last"] = "mean") -> None:
        super().__init__()
        self.image = named_encoder(image, input.image, "conv4:width=32")
        self.sequence = InTime()
        self.input, self.dim, self._pool = input, self.image.dim, pooling_of("encoder frame_encoder", pooling)
        self.dims, self.strides = {"sequence": self.dim}, {"sequence": 1}

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """The features of all frames of normalised windows (B, C, T, H, W): (B, dim, T), zero for frames that there are not."""
        gaps = x.isnan()
        there = ~gaps.flatten(3).all(3).all(1)
        frames = x.masked_fill(gaps, 0.0).transpose(1, 2).flatten(0, 1)
        features = through(self.image, frames, there.flatten().cpu(), self.dim)
        found = Maps(self.sequence(features, there.shape[1]), 1, there)
        return [found for _ in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim), pooled over the frames that there are, zero for a window without any."""
        return self._pool(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised windows (B, C, T, H, W)."""
        return self.pool(self.maps(x, self.stages)[0])
