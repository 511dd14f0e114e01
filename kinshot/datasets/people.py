"""Parts of recordings by who was recorded: train, val and test share no person, unless a setting says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.recording import Recording

Keep = Callable[[int], np.ndarray]
"""Which of so many windows are kept, bool."""


@dataclass(frozen=True)
class Division:
    """How recordings are divided.

    Args:
        by: "subject" keeps every person on one side, "recording" every recording; "window" draws windows, and is refused unless `leaky`.
        held_out: the subjects (or recordings) that are tested on, all others being trained on: leave-one-subject-out. Empty draws them.
        val: share of what is not held out that is for validation.
        test: share that is for the test, where `held_out` names none.
        seed: of the draw.
        leaky: do draw windows: windows that overlap, and windows of one person, then lie on both sides, and figures are too good.
    """

    by: Literal["subject", "recording", "window"] = "subject"
    held_out: tuple[str, ...] = ()
    val: float = 0.2
    test: float = 0.2
    seed: int = 0
    leaky: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ConfigError(f"shares of val and test lie from 0 to below 1 together, got {self.val:g} and {self.test:g}")
        if self.by == "window" and not self.leaky:
            raise ConfigError(
                "a random split over windows puts windows of one person, and halves of windows that overlap, on both sides: choose "
                "split_by=subject, or split_by=recording; set leaky=true to do it nevertheless"
            )
        if self.by == "window" and self.held_out:
            raise ConfigError("held_out names subjects or recordings, and split_by=window draws windows: choose one")


def part_of(recordings: Sequence[Recording], split: str, division: Division, name: str) -> tuple[list[Recording], Keep | None]:
    """The recordings of a part, in their order, and which of their windows are of it (None for all).

    Args:
        recordings: all of them.
        split: all, train, val or test.
        division: how they are divided.
        name: used in messages.

    Raises:
        ConfigError: somebody is held out who is not there.
        DataError: a recording of nobody knows whom, or too few to divide.
    """
    groups = [recording.subject if division.by == "subject" else recording.name for recording in recordings]
    strange = [group for group in division.held_out if group not in groups]
    if strange:
        raise ConfigError(f"{name}: there is no {division.by} {strange[0]!r} to hold out: {suggest(strange[0], set(groups))}")
    if split == "all":
        return list(recordings), None
    if division.by == "window":
        return list(recordings), lambda count: np.array(_drawn(count, division, name)) == split
    unknown = [recording.name for recording in recordings if division.by == "subject" and not recording.subject]
    if unknown:
        raise DataError(f"{name}: nobody knows who was recorded in {unknown[0]}: name its subject, or set split_by=recording")
    parts = _parts(sorted(set(groups)), division, name)
    chosen = [recording for recording, group in zip(recordings, groups, strict=True) if parts[group] == split]
    if not chosen:
        have = f"{len(parts)} {division.by}s, {', '.join(sorted(set(parts.values())))}"
        raise DataError(f"{name}: no {division.by} is left for {split} ({have}): raise its share, or choose another split")
    return chosen, None


def _parts(groups: Sequence[str], division: Division, name: str) -> dict[str, str]:
    """train, val or test by group."""
    rest = [group for group in groups if group not in division.held_out]
    if not rest:
        raise ConfigError(f"{name}: every {division.by} is held out, and nobody is left to train on: hold out fewer")
    return dict.fromkeys(division.held_out, "test") | dict(zip(rest, _drawn(len(rest), division, name), strict=True))


def _drawn(count: int, division: Division, name: str) -> list[str]:
    """A part for each of so many, by the shares: at least one where a share is above 0."""
    test = 0.0 if division.held_out else division.test
    sizes = {part: max(1, round(share * count)) if share else 0 for part, share in (("test", test), ("val", division.val))}
    if sum(sizes.values()) >= count:
        what = f"{count} {division.by}{'' if count == 1 else 's'}"
        raise DataError(f"{name}: {what} cannot be divided into train, val and test: set split=all, split_by=recording, or a share to 0")
    order = keyed_numpy(division.seed, f"part of {division.by}s").permutation(count)
    parts = np.full(count, "train", dtype="<U5")
    parts[order[: sizes["test"]]] = "test"
    parts[order[sizes["test"] : sizes["test"] + sizes["val"]]] = "val"
    return [str(part) for part in parts]
