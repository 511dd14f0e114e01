"""Episodes of several shapes, grouped by shape and with their order kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.fewshot.episodes import Episodes


@dataclass(frozen=True)
class EpisodeGroups:
    """Episodes of different ways or sizes as groups of equal shape: evaluate group by group, then put figures `in_order`.

    Args:
        groups: one `Episodes` for each shape (or several).
        numbers: for each group the numbers of its episodes, int64 (e,); all of them together are 0..E-1.

    Raises:
        DataError: numbers that are not 0..E-1, each once, with one for each episode.
    """

    groups: tuple[Episodes, ...]
    numbers: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if [len(g) for g in self.groups] != [len(n) for n in self.numbers] or not self.groups:
            raise DataError(
                f"episode groups of {[len(g) for g in self.groups]} episodes with {[len(n) for n in self.numbers]} numbers: "
                "give at least one group, and one number for each episode"
            )
        if not torch.equal(torch.cat(self.numbers).sort().values, torch.arange(len(self))):
            raise DataError(f"the numbers of {len(self)} grouped episodes must be 0..{len(self) - 1}, each once")

    def __len__(self) -> int:
        return sum(map(len, self.groups))

    def in_order(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Figures of the groups' episodes, one array (e, ...) for each group, as one array (E, ...) in the episodes' own order."""
        if [len(v) for v in values] != [len(n) for n in self.numbers]:
            raise DataError(
                f"expected {[len(n) for n in self.numbers]} figures, one for each episode of each group, got {[len(v) for v in values]}"
            )
        return np.concatenate(values)[torch.cat(self.numbers).argsort().numpy()]

    def alone(self) -> Episodes:
        """The only group, in its episodes' own order. Raises DataError where there are several."""
        if len(self.groups) > 1:
            raise DataError(f"expected episodes of one shape, got {len(self.groups)} groups: evaluate them group by group")
        order = self.numbers[0].argsort()
        return Episodes(*(getattr(self.groups[0], field.name)[order] for field in fields(Episodes)))

    def hash(self) -> str:
        """SHA-256 (hex) of the content."""
        digest = hashlib.sha256(b"kinshot episode groups 1")
        for group, numbers in zip(self.groups, self.numbers, strict=True):
            digest.update(group.hash().encode())
            digest.update(np.ascontiguousarray(numbers.numpy(), dtype="<i8").data)
        return digest.hexdigest()


def grouped(episodes: Episodes | EpisodeGroups) -> EpisodeGroups:
    """Episodes of one shape as the only group; groups as they are."""
    return episodes if isinstance(episodes, EpisodeGroups) else EpisodeGroups((episodes,), (torch.arange(len(episodes)),))


def memberships(episodes: Episodes | EpisodeGroups) -> np.ndarray:
    """Which classes play in which episode, bool (E, K), for the K classes that play at all, ascending by label."""
    groups = grouped(episodes)
    classes = np.unique(np.concatenate([group.classes.numpy().ravel() for group in groups.groups]))

    def played(group: Episodes) -> np.ndarray:
        found = np.zeros((len(group), len(classes)), dtype=bool)
        np.put_along_axis(found, np.searchsorted(classes, group.classes.numpy()), True, axis=1)
        return found

    return groups.in_order([played(group) for group in groups.groups])
