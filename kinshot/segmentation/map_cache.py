"""Maps of images, each encoded once and kept while there is room: the least recently used make place, those needed soon aside."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

Load = Callable[[np.ndarray], Mapping[str, Tensor]]
"""Rows of images (n,) to what is kept of them by name, each (n, ...) with the same shape for every image."""

_AHEAD = 8192
"""How many needs ahead are looked through for images to encode together."""


class MapCache:
    """What a function gives of images, a slot of memory to each.

    Args:
        load: what is kept of images.
        order: the images in the order in which they are needed, int64 (n,), repeated as often as they are.
        budget: bytes that may be kept; more where images that are needed together take more.
        at_once: images that are loaded together, where so many are missing or follow soon.

    Attributes:
        each: bytes that an image takes.
        loaded: how many images were loaded so far, those counted twice that had gone meanwhile.
    """

    def __init__(self, load: Load, order: np.ndarray, budget: int, at_once: int) -> None:
        self.load, self.order, self.at_once, self.loaded = load, order, at_once, 0
        rows, places = np.unique(order, return_index=True)
        first = order[np.sort(places)[:at_once]]  # in the order of their first need
        found = self._ask(first)
        self.each = sum(one[0].numel() * one.element_size() for one in found.values())
        self.room = max(len(first), min(len(rows), budget // self.each))
        self._slots: OrderedDict[int, int] = OrderedDict()  # of images, the least recently used first
        self._slabs = {name: one.new_empty((self.room, *one.shape[1:])) for name, one in found.items()}
        self._held = np.zeros(int(rows.max()) + 1, dtype=bool)
        self._keep(first, found)

    def need(self, rows: np.ndarray, coming: int) -> None:
        """Make sure that images are there for `take`.

        Args:
            rows: int64 (n,), repeated or not.
            coming: place in `order` of what is needed afterwards.
        """
        wanted = np.unique(rows)
        missing = wanted[~self._held[wanted]]
        if len(wanted) > self.room:
            self._grow(len(wanted))
        if len(missing):
            soon = self._soon(coming, wanted)
            self._use(soon[self._held[soon]][::-1])  # or they would go for what is needed later
            missing = np.concatenate([missing, soon[~self._held[soon]][: -len(missing) % self.at_once]])
        self._use(wanted[self._held[wanted]])
        for some in np.split(missing, range(self.at_once, len(missing), self.at_once)):
            if len(some):
                self._keep(some, self._ask(some))

    def take(self, name: str, rows: np.ndarray) -> Tensor:
        """What is kept of images under a name: rows (...) to (..., *shape)."""
        slots = torch.tensor([self._slots[row] for row in rows.ravel().tolist()], device=self._slabs[name].device)
        found = self._slabs[name].index_select(0, slots)
        return found.view(*rows.shape, *found.shape[1:])

    def _ask(self, rows: np.ndarray) -> dict[str, Tensor]:
        self.loaded += len(rows)
        return dict(self.load(rows))

    def _soon(self, coming: int, wanted: np.ndarray) -> np.ndarray:
        """Images that are needed soonest after the wanted ones, as many as there is room for beside these."""
        later = self.order[coming : coming + _AHEAD]
        later = later[~np.isin(later, wanted)]
        return later[np.sort(np.unique(later, return_index=True)[1])[: self.room - len(wanted)]]

    def _use(self, rows: np.ndarray) -> None:
        for row in rows.tolist():
            self._slots.move_to_end(row)

    def _keep(self, rows: np.ndarray, found: Mapping[str, Tensor]) -> None:
        slots = [self._slot(row) for row in rows.tolist()]
        self._held[rows] = True
        for name, slab in self._slabs.items():
            slab[torch.tensor(slots, device=slab.device)] = found[name]

    def _slot(self, row: int) -> int:
        """A free slot, or that of the image that was not used for longest, for an image."""
        slot = len(self._slots)
        if slot >= self.room:
            gone, slot = self._slots.popitem(last=False)
            self._held[gone] = False
        self._slots[row] = slot
        return slot

    def _grow(self, room: int) -> None:
        self._slabs = {name: torch.cat([slab, slab.new_empty((room - self.room, *slab.shape[1:]))]) for name, slab in self._slabs.items()}
        self.room = room
