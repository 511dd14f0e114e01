"""Whether given dense episodes make sense, by themselves and for the data that they are to be measured on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinshot.core.errors import DataError
from kinshot.segmentation.episodes import DenseEpisodes


def check_episodes(episodes: DenseEpisodes, contains: np.ndarray, photos: np.ndarray, class_names: Sequence[str] = ()) -> None:
    """Raise DataError with the first of `problems`, and what to do."""
    found = problems(episodes, contains, photos, class_names)
    if found:
        more = f" ({len(found) - 1} more kinds of problems)" if len(found) > 1 else ""
        raise DataError(f"{found[0]}{more}: use the data that the episodes were made for, or make others")


def problems(episodes: DenseEpisodes, contains: np.ndarray, photos: np.ndarray, class_names: Sequence[str] = ()) -> list[str]:
    """What is wrong with episodes, one line to each kind of problem: the first episode that has it, and how many do.

    Args:
        episodes: drawn or given.
        contains: bool (N, C), see `kinshot.datasets.scenes.Scenes`.
        photos: int (N,).
        class_names: for messages.
    """
    beyond = _outside(episodes, *contains.shape)
    return beyond or _misplaced(episodes, contains, photos, class_names)


def _outside(episodes: DenseEpisodes, images: int, classes: int) -> list[str]:
    """Numbers that name nothing; the rest cannot be looked at before these are right."""
    found = []
    limits = (("support", 0, images - 1), ("query", 0, images - 1), ("classes", 1, classes), ("target", 0, episodes.ways - 1))
    for name, least, most in limits:
        values = getattr(episodes, name).reshape(len(episodes), -1)
        wrong = (values < least) | (values > most)
        if wrong.any():
            e, i = np.argwhere(wrong)[0]
            found.append(f"episode {e} has {values[e, i]} in {name!r}, which go from {least} to {most} here{_of(wrong.any(axis=1))}")
    return found


def _misplaced(episodes: DenseEpisodes, contains: np.ndarray, photos: np.ndarray, names: Sequence[str]) -> list[str]:
    found = []
    classes, support, query = episodes.classes, episodes.support, episodes.query
    asked = np.take_along_axis(classes, episodes.target, axis=1)
    shown, sought = contains[support, classes[:, :, None] - 1], contains[query, asked - 1]
    for part, holds, images, of in (("support", shown, support, classes[:, :, None]), ("query", sought, query, asked)):
        if not holds.all():
            place = tuple(np.argwhere(~holds)[0])
            value = int(np.broadcast_to(of, images.shape)[place])
            named = repr(names[value - 1]) if value <= len(names) else f"number {value}"
            rows = ~holds.reshape(len(holds), -1).all(axis=1)
            found.append(f"episode {place[0]} has the {part} image {images[place]}, which does not hold its class {named}{_of(rows)}")
    flat = photos[support].reshape(len(episodes), -1)
    shared = (photos[query][:, :, None] == flat[:, None, :]).any(axis=(1, 2))
    repeated = {
        "plays one class in two ways": _repeats(classes),
        "shows one photograph as two shots of a way": _repeats(photos[support]).reshape(len(episodes), -1).any(axis=1),
        "asks for one image twice": _repeats(query),
        "asks for a photograph that its support shows": shared,
    }
    return found + [f"episode {np.flatnonzero(rows)[0]} {text}{_of(rows)}" for text, rows in repeated.items() if rows.any()]


def _repeats(values: np.ndarray) -> np.ndarray:
    """Whether the last dimension holds a value twice."""
    ordered = np.sort(values, axis=-1)
    return (ordered[..., 1:] == ordered[..., :-1]).any(axis=-1)


def _of(rows: np.ndarray) -> str:
    return f" ({np.count_nonzero(rows)} of {len(rows)} episodes)"
