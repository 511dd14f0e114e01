"""Kin by what a teacher says."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import KINS, constructors
from kinshot.kin.kin import Kin, Known, Pairs
from kinshot.samples.batch import Batch, Shown


@KINS.register("teacher", speaks=True)
class TeacherKin(Kin):
    """What a frozen network places close is kin; and its word on each sample, for objectives of a student and its teacher.

    Paper: Hinton, Vinyals, Dean 2015, arXiv 1503.02531; relations: Park, Kim, Lu, Cho 2019, arXiv 1904.05068

    Args:
        checkpoint: the teacher, of kinshot (a run or checkpoint), FILE.onnx, torchvision:MODEL:FILE.safetensors or
            timm:MODEL:FILE.safetensors.
        output: of the teacher: backbone, projector, logits, or a stage of its encoder such as blocks.2.
        view: what it sees of a sample, the sample as it is (clean: its outputs are computed once and cached) or the very view that
            the student sees (same: it runs in every step).
        adapt: resize images and convert their channels to what it was made for; without it other images are refused.
        mean: per-channel mean of pixels in [0, 1] that it expects, where its file does not say (ONNX).
        std: the same for the standard deviation.
        k: for objectives over relations, the nearest samples of the batch that are kin; 0 for none.
        threshold: the same, those of at least this cosine. One of the two.
    """

    def __init__(
        self,
        known: Known,
        *,
        checkpoint: str,
        output: str = "backbone",
        view: Literal["clean", "same"] = "clean",
        adapt: bool = False,
        mean: tuple[float, ...] = (),
        std: tuple[float, ...] = (),
        k: int = 0,
        threshold: float | None = None,
    ) -> None:
        if known.teacher is None:
            raise ConfigError("kin teacher: no teacher can be loaded here")
        self._word = known.teacher(checkpoint, output=output, view=view, adapt=adapt, mean=mean, std=std)
        self.k, self.threshold = k, threshold

    @property
    def needs_clean(self) -> bool:
        """Whether the teacher runs on clean samples in every step."""
        return self._word.needs_clean

    def word(self, shown: Shown, batch: Batch, step: int) -> Tensor:
        """The teacher's output for the shown samples."""
        return self._word(shown, batch, step)

    def pairs(self, z: Tensor, partners: Tensor | None, shown: Shown, batch: Batch, step: int) -> Pairs | None:
        """All rows, related as the teacher places them."""
        with torch.no_grad():
            said = self._word(shown, batch, step).flatten(1)
        return Pairs(z, constructors.teacher(said, k=self.k or None, threshold=self.threshold))
