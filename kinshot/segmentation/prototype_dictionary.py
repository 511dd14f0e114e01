"""The dynamic prototype dictionary: past prototypes with their classes, oldest overwritten first, part of the checkpoint."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import unit

EMPTY = -1
"""The class of a place that holds nothing."""
Mode = Literal["fifo", "per_class"]


class PrototypeDictionary(nn.Module):
    """Unit prototypes with class numbers in one ring (`fifo`) or in a ring for each class (`per_class`).

    One ring of M holds what was seen last, whichever classes these were; a ring of L for each class holds as many of a rare class as of
    a frequent one. Vectors, classes and pointers are buffers, so that a resumed run continues with them. It begins empty.

    Paper: Kwon, Jeong, Kim, Sohn 2021, arXiv 2111.04982, which says that there is one and that it knows classes; both modes are
    reconstructions.

    Args:
        dim: D, of a prototype.
        length: prototypes in a ring.
        mode: one ring, or one for each class.
        classes: C, whose numbers are 0..C-1; of `per_class` alone.
        vectors: content to begin with, (rings * length, D), ring by ring; None for nothing.
        held: their classes, int64 (rings * length,), -1 for a place that holds nothing.
        pointer: the place that each ring overwrites next, int64 (rings,); None for the first.

    Raises:
        ConfigError: a number below 1, or content of another shape.
    """

    vectors: Tensor
    held: Tensor
    pointer: Tensor

    def __init__(
        self, dim: int, length: int, mode: Mode = "fifo", classes: int = 1, *,
        vectors: Tensor | None = None, held: Tensor | None = None, pointer: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if mode not in ("fifo", "per_class"):
            raise ConfigError(f"dictionary: mode is fifo or per_class, got {mode!r}")
        if min(length, dim, classes) < 1:
            raise ConfigError(f"dictionary: length, dimension and classes are at least 1, got {length}, {dim} and {classes}")
        self.mode, self.length, self.rings = mode, length, classes if mode == "per_class" else 1
        places = self.rings * length
        content = {
            "vectors": torch.zeros(places, dim) if vectors is None else unit(vectors),
            "held": torch.full((places,), EMPTY) if held is None else held.clone(),
            "pointer": torch.zeros(self.rings, dtype=torch.int64) if pointer is None else pointer.clone(),
        }
        if (vectors is None) != (held is None):
            raise ConfigError("dictionary: content is vectors with the classes that are held, got one without the other: give both")
        for name, shape in (("vectors", (places, dim)), ("held", (places,)), ("pointer", (self.rings,))):
            if tuple(content[name].shape) != shape:
                raise ConfigError(f"dictionary: {name} to begin with are {shape}, got {tuple(content[name].shape)}")
            self.register_buffer(name, content[name])

    @property
    def fill(self) -> Tensor:
        """Share of the places that hold a prototype, 0-dim."""
        return (self.held != EMPTY).float().mean()

    @torch.no_grad()
    def enqueue_(self, vectors: Tensor, classes: Tensor, present: Tensor | None = None) -> None:
        """Overwrite the oldest of each ring, in the order of the rows; of more than a ring holds only the last ones stay.

        Args:
            vectors: (B, D), kept at length 1.
            classes: int64 (B,).
            present: bool (B,), which rows are prototypes of anything; the others, of empty masks, do not enter. None is all.
        """
        if present is not None:
            vectors, classes = vectors[present], classes[present]
        ring = classes if self.mode == "per_class" else torch.zeros_like(classes)
        same = ring.unsqueeze(1) == ring
        before, count = same.tril(-1).sum(1), same.sum(1)
        place = ring * self.length + (self.pointer[ring] + before) % self.length
        stays = before >= count - self.length
        self.vectors[place[stays]] = unit(vectors[stays]).to(self.vectors)
        self.held[place[stays]] = classes[stays]
        self.pointer.add_(torch.bincount(ring, minlength=self.rings)).remainder_(self.length)

    def ordered(self) -> tuple[Tensor, Tensor]:
        """What is held, ring by ring and in each oldest first: vectors (n, D) and classes int64 (n,)."""
        ring = torch.arange(self.rings, device=self.held.device).unsqueeze(1)
        place = (
            ring * self.length + (self.pointer.unsqueeze(1) + torch.arange(self.length, device=self.held.device)) % self.length
        ).flatten()
        place = place[self.held[place] != EMPTY]
        return self.vectors[place], self.held[place]


@torch.no_grad()
def class_distances(vectors: Tensor, classes: Tensor) -> dict[str, Tensor]:
    """Mean cosine distance, 1 - cos, of pairs of one class (`intra_class`) and of two (`inter_class`); without what there is no pair of.

    Time and memory are linear in the number of vectors: the sum of the cosines of all pairs is the squared length of a sum.

    Args:
        vectors: (n, D).
        classes: int64 (n,), on the CPU, so that no device is waited for.
    """
    rows = unit(vectors).double()
    _, group = torch.unique(classes, return_inverse=True)
    counts = torch.bincount(group)
    sums = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, group.to(rows.device), rows)
    within, total = sums.square().sum(), rows.sum(0).square().sum()
    own = rows.square().sum()
    pairs_within = int((counts * (counts - 1)).sum())
    pairs_between = len(rows) * (len(rows) - 1) - pairs_within
    found = {}
    if pairs_within:
        found["intra_class"] = (1 - (within - own) / pairs_within).float()
    if pairs_between:
        found["inter_class"] = (1 - (total - within) / pairs_between).float()
    return found
