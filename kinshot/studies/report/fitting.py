"""Episodes that a data set can give: what nobody asked for follows the data, what somebody asked for is refused where it does not fit."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.recipes.specs import Size
from kinshot.studies.tasks import ALL_WAYS, QUERIES, WAYS, Drawing

ENOUGH = 5
"""Queries of a class below which a default number of shots is left out before fewer are asked."""


def fitted(drawing: Drawing, labels: np.ndarray, free: Collection[str]) -> tuple[Drawing, list[str]]:
    """A drawing that these labels can give, and what was changed, in words.

    The largest numbers of shots go that would leave a class fewer than ENOUGH queries; then queries are what is left.

    Args:
        drawing: what is wanted.
        labels: class of every sample.
        free: which of `ways`, `shots` and `queries` are defaults, which may change.
    """
    counts = np.unique(labels, return_counts=True)[1]
    asked, queries = list(drawing.ways or [WAYS]), drawing.queries or QUERIES
    drawing = replace(drawing, ways=asked, queries=queries)
    if drawing.list or len(counts) < 2 or counts.min() < 2 or any(isinstance(size, tuple) for size in (*asked, *drawing.shots)):
        return drawing, []
    least, said = int(counts.min()), []
    ways: list[Size] = [min(w, len(counts)) if isinstance(w, int) and w != ALL_WAYS else w for w in asked]
    if "ways" in free and ways != asked:
        drawing = replace(drawing, ways=ways)
        said.append(f"{len(counts)}-way episodes: there are only {len(counts)} classes")
    if "shots" in free:
        wanted = [k for k in drawing.shots if isinstance(k, int)]
        leave = min(ENOUGH, least - min(wanted)) if "queries" in free else queries
        kept = [k for k in wanted if least - k >= leave]
        if kept and kept != wanted:
            drawing = replace(drawing, shots=kept)
            out = ", ".join(str(k) for k in wanted if k not in kept)
            said.append(f"no episodes of {out} shots: the smallest class has {least} samples")
    left = least - max(k for k in drawing.shots if isinstance(k, int))
    if "queries" in free and 1 <= left < queries:
        drawing = replace(drawing, queries=left)
        said.append(f"{left} queries of each class: what {least - left} shots leave of the {least} samples of the smallest class")
    return drawing, said


def check_shots(labels: np.ndarray, names: list[str], where: str, drawing: Drawing) -> None:
    """Raise DataError where a class has too few images for some of the shot counts, naming those and the ones that fit.

    Raises ConfigError for a range of them: a curve over shots needs numbers.
    """
    if any(isinstance(size, tuple) for size in (*(drawing.ways or ()), *drawing.shots)):
        raise ConfigError("a report needs numbers of ways and of shots, got a range: give --ways 5 --shots 1,5, or use fewshot eval")
    queries = drawing.queries or QUERIES
    shots = [size for size in drawing.shots if isinstance(size, int)]
    classes, counts = np.unique(labels, return_counts=True)
    most = int(counts.min()) - queries if len(counts) else 0
    short = [k for k in shots if k > most]
    if drawing.list or not len(counts) or not short:
        return
    smallest = names[int(classes[counts.argmin()])]
    needed = ", ".join(f"{k} + {queries} = {k + queries}" for k in short)
    fitting = ",".join(str(k) for k in shots if k <= most)
    advice = f"--shots {fitting}" if fitting else f"fewer than --queries {queries}"
    raise DataError(
        f"{where}: the smallest class {smallest!r} has {counts.min()} images, and an episode takes shots + queries of a class: "
        f"{needed} are too many; use {advice}{', or fewer queries' if fitting else ''}, or leave small classes out of the split"
    )
