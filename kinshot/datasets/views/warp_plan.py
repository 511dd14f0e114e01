"""What `warp` drew for a batch, and which places of its views show the same place of a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.datasets.views._geometry import bumps_at, extent_of, pixels_of
from kinshot.datasets.views.plan import Plan

_STEPS, _CLOSE = 50, 0.01  # of the inverse of an elastic warp, and what it may be off by, in pixels
_ROUNDING = 1e-3  # pixels; a place on the edge is inside


@dataclass(frozen=True)
class WarpPlan(Plan):
    """Geometry of every view of a batch, one for all fields, beside what else was drawn.

    Places are (x, y) in pixels, float (B, N, 2); the centre of the first pixel is (0, 0).

    Args:
        indices: as in `Plan`.
        draws: as in `Plan`.
        geometry: for each view (B, 2, 3) or (B, 2, 3 + points): source x and y in [-1, 1] as a combination of x, y, 1 and elastic bumps.
        size: (height, width) of the views of the first field.
        original: (height, width) of its pictures.
    """

    geometry: tuple[Tensor, ...]
    size: tuple[int, int]
    original: tuple[int, int]

    def to_original(self, view: int, places: Tensor) -> Tensor:
        """Where in the original pictures the places of a view are read, possibly outside of them."""
        return pixels_of(_read(self._of(view, places), places, self.size), self.original)

    def between(self, view: int, other: int, places: Tensor) -> tuple[Tensor, Tensor]:
        """The places of `other` that show what places of `view` show, and bool (B, N), whether they are inside of it.

        A place that the original picture has no part in counts as outside, as does one where an elastic warp folds the picture, and has
        no inverse that could be found.
        """
        source = _read(self._of(view, places), places, self.size)
        found, sure = _inverted(self._of(other, places), source, self.size)
        return found, sure & _inside(found, self.size) & _inside(pixels_of(source, self.original), self.original)

    def _of(self, view: int, places: Tensor) -> Tensor:
        return self.geometry[view].to(places)


def _read(geometry: Tensor, places: Tensor, size: tuple[int, int]) -> Tensor:
    """Source (B, N, 2) in [-1, 1] of places (B, N, 2) in pixels of a view."""
    x = extent_of(places, size)
    basis = torch.cat([x, torch.ones_like(x[..., :1])], 2)
    if geometry.shape[2] > 3:
        basis = torch.cat([basis, bumps_at(places, size).mT], 2)
    return basis @ geometry.mT


def _inverted(geometry: Tensor, source: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Places in pixels of a view that are read at `source`, and whether they were found.

    The affine part is inverted; an elastic one is approached from there, by the affine inverse of what is left.
    """
    straight = torch.linalg.inv(geometry[:, :, :2]).mT
    x = (source - geometry[:, None, :, 2]) @ straight
    if geometry.shape[2] > 3:
        for _ in range(_STEPS):
            x = x + (source - _read(geometry, pixels_of(x, size), size)) @ straight
    places = pixels_of(x, size)
    left = (source - _read(geometry, places, size)) @ straight  # in the view's own units
    return places, (pixels_of(left, size) - pixels_of(torch.zeros_like(left), size)).abs().amax(2) < _CLOSE


def _inside(places: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether places lie on the pixels of a picture, whose edges are half a pixel around their centres."""
    sides = places.new_tensor([size[1], size[0]])
    return ((places >= -0.5 - _ROUNDING) & (places <= sides - 0.5 + _ROUNDING)).all(2)
