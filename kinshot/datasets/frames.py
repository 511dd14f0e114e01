"""How pictures of any size get into a square of a fixed size, and how maps of the square get back to the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn.functional import interpolate, pad


@dataclass(frozen=True)
class Frame:
    """A square that pictures are brought into.

    Args:
        size: its side in pixels.
        how: `squash` fills it, whatever the picture's proportions; `letterbox` keeps them, at the top left, and leaves the rest empty.
    """

    size: int
    how: Literal["squash", "letterbox"] = "squash"

    def __str__(self) -> str:
        return f"{self.size} x {self.size} ({self.how})"

    def box(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the part of the square that shows a picture."""
        if self.how == "squash":
            return self.size, self.size
        longer = max(height, width)
        return max(1, round(height * self.size / longer)), max(1, round(width * self.size / longer))

    def image(self, image: Tensor) -> Tensor:
        """A picture uint8 (C, H, W) in the square, uint8 (C, size, size): antialiased, black where it is empty."""
        box = self.box(*image.shape[-2:])
        if box != tuple(image.shape[-2:]):
            image = interpolate(image[None], box, mode="bilinear", antialias=True)[0]
        return pad(image, (0, self.size - box[1], 0, self.size - box[0]))

    def mask(self, mask: Tensor, ignore: int) -> Tensor:
        """A class map (H, W) in the square: the class of the nearest pixel, `ignore` where it is empty."""
        box = self.box(*mask.shape)
        if box != tuple(mask.shape):
            mask = interpolate(mask[None, None].double(), box, mode="nearest-exact")[0, 0].to(mask.dtype)
        return pad(mask, (0, self.size - box[1], 0, self.size - box[0]), value=ignore)

    def back(self, scores: Tensor, height: int, width: int, *, align_corners: bool = False) -> Tensor:
        """Scores over the square, (..., K, h, w) of any resolution, over the picture: (..., K, height, width), bilinear."""
        shape, maps = scores.shape, scores.flatten(0, -4) if scores.ndim > 3 else scores[None]
        box = self.box(height, width)
        if box != (self.size, self.size):
            maps = interpolate(maps, (self.size, self.size), mode="bilinear", align_corners=align_corners)[..., : box[0], : box[1]]
        if tuple(maps.shape[-2:]) != (height, width):
            maps = interpolate(maps, (height, width), mode="bilinear", align_corners=align_corners)
        return maps.reshape(*shape[:-2], height, width)
