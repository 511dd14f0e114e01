"""Images of any size segmented by what a few images with masks show: `segmentation predict`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.frames import Frame
from kinshot.datasets.images import load_whole
from kinshot.learn.model import Model
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.segmenters import SegmenterChoice
from kinshot.runs.trained_segmenters import ModelSegmenter, check_networks, model_segmenter
from kinshot.samples.class_map import IGNORE
from kinshot.samples.pixels import PixelSpec
from kinshot.segmentation.dense import BACKGROUND, Dense
from kinshot.segmentation.lost import convention
from kinshot.segmentation.protocol import Protocol
from kinshot.studies.segmentation.shots import check_there
from kinshot.studies.segmentation.support import MarkedShot


@dataclass(frozen=True)
class Support:
    """The support of W ways with K shots, encoded.

    Args:
        maps: by stage, each (1, W, K, C, h, w).
        masks: way maps (1, W, K, size, size).
    """

    maps: dict[str, Tensor]
    masks: Tensor


@dataclass(frozen=True)
class Segmented:
    """What was found in an image.

    Args:
        image: uint8 (C, H, W).
        labels: uint8 (H, W): 0 background, w + 1 way w.
        scores: float32 (1 + W, H, W), background first.
    """

    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


class Predictor:
    """A model and a segmenter, and the support that they go by.

    Args:
        run: what the model is of.
        model: its encoder.
        choice: the segmenter.
        shots: of each way, equally many, see `read_support`.
        stage: of the encoder that is compared, see `model_segmenter`.
        side: of the square that images are brought into; 0 for what the encoder was made for.
        fit: how they are brought there, see `Frame`.
        device: where to compute.

    Raises:
        ConfigError: an encoder of other samples than images, or that does not take the size.
        DataError: an image that cannot be read, or an object that is lost at the size.
    """

    def __init__(
        self, run: Loaded, model: Model, choice: SegmenterChoice, shots: Sequence[Sequence[MarkedShot]], *, stage: str = "",
        side: int = 0, fit: Literal["squash", "letterbox"] = "squash", device: torch.device | str = "cpu",
    ) -> None:  # fmt: skip
        if not isinstance(model.input, PixelSpec):
            raise ConfigError(
                f"{run.checkpoint.path} takes {model.input.describe()}, and images are to be segmented: choose another encoder"
            )
        self.frame, self.channels = Frame(side or model.input.side, fit), model.input.channels
        spec = replace(model.input, height=self.frame.size, width=self.frame.size)
        self.model = Model(model.encoder, input=spec).eval().to(device)
        check_networks([choice], [run])
        self.choice = choice
        self.bound = cast(ModelSegmenter, model_segmenter(choice, model, run, stage))
        self.support = self._support(shots)

    @property
    def ways(self) -> int:
        """W."""
        return self.support.masks.shape[1]

    def segment(self, path: Path) -> Segmented:
        """What of an image of any size is of which way. Raises DataError for a file that cannot be read."""
        check_there(path, "QUERY")
        image = load_whole(path, self.channels)
        maps = {stage: values[:, None] for stage, values in self._maps([image]).items()}
        with torch.no_grad():
            scores = self.bound.segmenter(Dense(self.support.maps, self.support.masks, maps))[0]
            found = Protocol().scores(scores, self.frame, *image.shape[1:])[0].float().cpu()
        return Segmented(image, found.argmax(dim=0).to(torch.uint8).numpy(), found.numpy())

    def _support(self, shots: Sequence[Sequence[MarkedShot]]) -> Support:
        images, masks = [], []
        for number, way in enumerate(shots):
            for shot in way:
                images.append(load_whole(shot.shot.image, self.channels))
                masks.append(self._way_map(shot, number))
        shape = (1, len(shots), len(shots[0]))
        maps = {stage: values.unflatten(0, shape) for stage, values in self._maps(images).items()}
        largest = max(((one.shape[-2], one.shape[-1]) for one in maps.values()), key=lambda sides: sides[0] * sides[1])
        self._check_seen([shot for way in shots for shot in way], torch.stack(masks), largest)
        device = next(iter(maps.values())).device
        return Support(maps, torch.stack(masks).unflatten(0, shape).to(device))

    def _check_seen(self, shots: Sequence[MarkedShot], masks: Tensor, size: tuple[int, int]) -> None:
        """Raise DataError for a shot whose object no cell of the largest maps stands for, as the segmenter brings masks to their size.

        A decoder whose prior mask alone loses it, by smaller maps, goes by the others.
        """
        how = convention(self.choice.name, self.choice.settings)
        if how is None:
            return
        lost = how.lost((masks != BACKGROUND) & (masks != IGNORE), size)
        if bool(lost.any()):
            shot, maps = shots[int(lost.nonzero()[0])], f"maps of {size[0]} x {size[1]} cells"
            remedy = ", or --head without pooling" if "pooling" in self.choice.settings else ""
            raise DataError(
                f"mask {shot.shot.mask}: its object is lost where {self.choice.text} brings masks to {maps}: give a larger --frame, or an "
                f"image that shows more of it{remedy}"
            )

    def _way_map(self, shot: MarkedShot, way: int) -> Tensor:
        """The way map of a shot in the frame."""
        found = self.frame.mask(torch.from_numpy(shot.where), IGNORE)
        if not bool((found == 1).any()):
            raise DataError(
                f"mask {shot.shot.mask}: its object of {int((shot.where == 1).sum())} pixels is lost where images are brought to "
                f"{self.frame.size} x {self.frame.size}: give a larger --frame, or an image that shows more of it"
            )
        return torch.where(found == 1, way + 1, found)

    def _maps(self, images: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Maps of images of any size by stage, each (n, C, h, w)."""
        device = next(self.model.parameters()).device
        framed = torch.stack([self.frame.image(torch.from_numpy(np.ascontiguousarray(image))) for image in images]).to(device)
        try:
            with torch.no_grad():
                found = self.model.encoder.maps(self.model.prepare(framed), self.bound.stages)  # type: ignore[operator]
        except (AssertionError, RuntimeError, ValueError) as problem:
            told = " ".join(str(problem).split()) or type(problem).__name__
            raise ConfigError(
                f"the encoder does not take {self.frame.size} x {self.frame.size} pixels ({told}): change --frame"
            ) from problem
        return {stage: one.values for stage, one in zip(self.bound.stages, found, strict=True)}
