"""What a head of dense episodes is given: maps of support and query, and who belongs to which way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.samples.class_map import IGNORE

BACKGROUND = 0
"""The value of background in way maps; way w is w + 1, and `IGNORE` says nothing."""


@dataclass(frozen=True)
class Dense:
    """E episodes of W ways, K shots and Q queries as maps.

    Args:
        support: maps of the support's images by stage of the encoder, each (E, W, K, C, h, w); the first stage is the one that is compared.
        masks: way maps of the support's images, int64 (E, W, K, height, width): 0 background, w + 1 way w, 255 nothing. In an image of
            way w pixels of another way have that way's value.
        query: maps of the queries by stage, each (E, Q, C, h, w).

    Raises:
        DataError: what is no such maps, or not as many episodes, ways and shots.

    >>> maps, masks = torch.rand(1, 2, 5, 8, 4, 4), torch.tensor([1, 2]).view(1, 2, 1, 1, 1).expand(1, 2, 5, 16, 16)
    >>> episodes = kinshot.Dense({"map": maps}, masks, {"map": torch.rand(1, 3, 8, 4, 4)})
    >>> episodes.ways, episodes.shots, episodes.stage
    (2, 5, 'map')
    """

    support: Mapping[str, Tensor]
    masks: Tensor
    query: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        parts = {"support": (self.support, 6), "query": (self.query, 5)}
        for name, (maps, rank) in parts.items():
            if not isinstance(maps, Mapping) or not maps or not all(isinstance(one, Tensor) and one.ndim == rank for one in maps.values()):
                axes = "(E, W, K, C, h, w)" if rank == 6 else "(E, Q, C, h, w)"
                raise DataError(f"dense episodes: expected {name} as maps {axes} by stage, got {_told(maps)}: give one name to each stage")
        if not isinstance(self.masks, Tensor) or self.masks.ndim != 5 or self.masks.is_floating_point():
            raise DataError(
                f"dense episodes: expected masks as way maps (E, W, K, H, W) of whole numbers, got {_told(self.masks)}: 0 is background, "
                "w + 1 way w"
            )
        shapes = [tuple(one.shape[:3]) for one in self.support.values()]
        counts = [len(one) for one in self.query.values()]
        if any(shape != self.masks.shape[:3] for shape in shapes) or any(count != len(self.masks) for count in counts):
            raise DataError(
                f"dense episodes: masks are of {tuple(self.masks.shape[:3])} episodes, ways and shots, support maps of {shapes} and "
                f"queries of {counts} episodes: give as many of each"
            )

    @property
    def stage(self) -> str:
        """The stage whose maps are compared."""
        return next(iter(self.support))

    @property
    def ways(self) -> int:
        """W."""
        return self.masks.shape[1]

    @property
    def shots(self) -> int:
        """K."""
        return self.masks.shape[2]

    def own(self) -> Tensor:
        """Where each support image shows its own way, bool (E, W, K, height, width)."""
        return way_pixels(self.masks)

    def check(self) -> None:
        """Raises DataError for a way that no pixel of its support belongs to, naming it."""
        empty = ~self.own().flatten(2).any(-1)
        if bool(empty.any()):
            episode, way = empty.nonzero()[0].tolist()
            raise DataError(
                f"way {way} of episode {episode} has no pixel in the masks of its {self.shots} support image(s), one of which is to "
                f"hold {way + 1}: an object smaller than a pixel of the frame is lost in it; raise the data's size or min_area, draw "
                "other images, or mend their masks"
            )


def check_dense(segmenter: str, episodes: object) -> None:
    """Raise ConfigError for what is no dense episodes."""
    if not isinstance(episodes, Dense):
        raise ConfigError(
            f"segmenter {segmenter} takes dense episodes and got {type(episodes).__name__}: make them with "
            "kinshot.Dense(support maps by stage, way maps, query maps by stage)"
        )


def way_pixels(masks: Tensor) -> Tensor:
    """Where each image of way maps (E, W, ..., height, width) shows its own way: bool of the same shape."""
    way = torch.arange(1, masks.shape[1] + 1, dtype=torch.uint8, device=masks.device)
    return masks.to(torch.uint8) == way.view(-1, *(1,) * (masks.ndim - 2))


def way_maps(masks: Tensor, classes: Tensor, others: str = "background") -> Tensor:
    """Class maps as way maps: 0 background, w + 1 where the class of way w is, 255 where nothing is said.

    Args:
        masks: class maps (E, ..., H, W), values as in `kinshot.datasets.scenes`.
        classes: int64 (E, W), the value of each way's class in the masks.
        others: what objects of classes that are no way are: `background`, or `ignore`.
    """
    spread = (len(masks), *(1,) * (masks.ndim - 1))
    found = torch.zeros_like(masks, dtype=torch.int64)
    if others == "ignore":
        found[masks != BACKGROUND] = IGNORE
    for way in range(classes.shape[1]):
        found = found.where(masks != classes[:, way].view(spread), way + 1)
    return found.where(masks != IGNORE, IGNORE)


def _told(given: object) -> str:
    """What was given, in few words."""
    if isinstance(given, Tensor):
        return f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
    if isinstance(given, Mapping):
        return ", ".join(f"{name}: {_told(one)}" for name, one in given.items()) or "none"
    return type(given).__name__
