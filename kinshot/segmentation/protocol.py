"""At which size predictions are compared with truth, and how scores get there: each choice moves figures, so that a result names them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kinshot.core.errors import ConfigError
from kinshot.datasets.frames import Frame
from kinshot.datasets.scenes import Scenes
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.cosine_maps import best_labels

Others = Literal["background", "ignore"]


@dataclass(frozen=True)
class Protocol:
    """How figures of dense episodes come about.

    Args:
        size: where scores and truth meet: `native`, the size that each query's own mask has; `frame`, the square that images are brought
            into; or the side of another square, into which masks are brought alike. A coarse truth is an easier one.
        argmax: `after` scores were brought to that size, bilinearly; or `before`, and the labels are brought there by the nearest.
        align_corners: of bilinear upsampling: false as in PANet's public code, true as in that of PFENet, HSNet and BAM.
        others: what objects of classes that are no way are in the support's masks: `background`, or `ignore` (255).
        truth_others: the same of the truth.

    Raises:
        ConfigError: a value that is none of these.
    """

    size: Literal["native", "frame"] | int = "native"
    argmax: Literal["after", "before"] = "after"
    align_corners: bool = False
    others: Others = "background"
    truth_others: Others = "background"

    def __post_init__(self) -> None:
        fits = self.size in ("native", "frame") if isinstance(self.size, str) else self.size >= 1
        policies = {self.others, self.truth_others} <= {"background", "ignore"}
        if not fits or self.argmax not in ("after", "before") or not policies:
            raise ConfigError(
                "a protocol has size native, frame or a side of at least 1, argmax after or before, and others background or ignore, "
                f"got {self.as_dict()}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)

    def sizes(self, scenes: Scenes, rows: np.ndarray) -> np.ndarray:
        """Height and width at which images are scored, int64 (n, 2)."""
        side = self._side(scenes.frame)
        return scenes.sizes[rows] if side is None else np.full((len(rows), 2), side)

    def truth(self, scenes: Scenes, row: int) -> Tensor:
        """The class map of an image at that size, uint8 (H, W); always from its own mask, never from one that was made smaller before."""
        mask, side = scenes.native_mask(row), self._side(scenes.frame)
        return (mask if side is None else Frame(side, scenes.frame.how).mask(mask, IGNORE)).to(torch.uint8)

    def scores(self, scores: Tensor, frame: Frame, height: int, width: int) -> Tensor:
        """Scores over the frame, (n, L, h, w), at a size, bilinear: (n, L, height, width)."""
        if self.size == "native":
            return frame.back(scores, height, width, align_corners=self.align_corners)
        if scores.shape[-2:] == (height, width):
            return scores
        return interpolate(scores, (height, width), mode="bilinear", align_corners=self.align_corners)

    def labels(self, scores: Tensor, frame: Frame, height: int, width: int) -> Tensor:
        """Labels of scores over the frame, (n, L, h, w), at a size: int64 (n, height, width)."""
        if self.argmax == "after":
            return best_labels(self.scores(scores, frame, height, width))
        box = frame.box(height, width) if self.size == "native" else (frame.size, frame.size)
        shares = (part / frame.size for part in box)  # of the frame that shows the image
        places = [_nearest(have, want, share) for have, want, share in zip(scores.shape[-2:], (height, width), shares, strict=True)]
        rows, columns = (place.to(scores.device) for place in places)
        return best_labels(scores)[:, rows[:, None], columns]

    def _side(self, frame: Frame) -> int | None:
        if self.size == "native":
            return None
        return frame.size if self.size == "frame" else int(self.size)


USUAL = Protocol()
"""Native size, bilinear without aligned corners, objects of other classes as background."""


def _nearest(have: int, want: int, share: float) -> Tensor:
    """For `want` places over a share of a line that has `have` of them, the place there in which each one's middle lies."""
    middle = (torch.arange(want, dtype=torch.float64) + 0.5) / want * share * have
    return middle.long().clamp_max(have - 1)
