"""Which column of a table of edges is what: by the names in its first line, never by a guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kinshot.core.errors import DataError

_ROLES = {
    "source": ("source", "src", "from", "s", "u", "head", "fromnodeid", "node1", "source_id"),
    "target": ("target", "dst", "dest", "destination", "to", "t", "v", "tail", "tonodeid", "node2", "target_id"),
    "weight": ("weight", "weights", "w", "strength", "similarity"),
}
_EXAMPLE = "name the columns source, target and, where there is one, weight"


class Columns(NamedTuple):
    """Places of an edge's two ends and of its weight, from 0."""

    source: int
    target: int
    weight: int | None


def columns_of(names: Sequence[str] | None, width: int, mistaken: str = "") -> Columns:
    """What the columns of a table `width` wide are, from their `names`, or from their order where there are none.

    Without names: source, target, weight. With names, source, target and weight (and other usual words for them) are found
    wherever they stand; what is left over must be the one missing end, or both ends in their order. `mistaken` is what the
    lines seem to be separated by where they were not split.

    Raises DataError for a column that may be anything, such as the unnamed index that pandas writes.
    """
    if width not in (2, 3):
        hint = f"; they seem to be separated by {mistaken}: separate columns by commas in .csv, by tabs in .tsv" if mistaken else ""
        advice = f" ({', '.join(map(repr, names))}): leave out what is no edge" if names and not mistaken else ""
        raise DataError(f"lines have {width} columns{advice}: give two ids and, where wanted, a weight{hint}")
    if names is None:
        return Columns(0, 1, 2 if width == 3 else None)
    if len(names) != width:
        raise DataError(f"the first line names {len(names)} columns, the lines after it have {width}: {_EXAMPLE}, or put # before it")
    found: dict[str, int] = {}
    for place, name in enumerate(names):
        role = next((role for role, words in _ROLES.items() if name.strip().casefold() in words), None)
        if role in found:
            raise DataError(f"columns {names[found[role]]!r} and {name!r} are both the {role}: {_EXAMPLE}")
        if role is not None:
            found[role] = place
    left = [place for place in range(width) if place not in found.values()]
    unnamed = [place for place in left if not names[place].strip() or names[place].startswith("Unnamed:")]
    missing = [role for role in ("source", "target") if role not in found]
    if unnamed or len(left) != len(missing):
        column = repr(names[unnamed[0]]) if unnamed else ", ".join(repr(names[place]) for place in left) or "none"
        index = " (an index that pandas wrote? write the file with index=False)" if unnamed else ""
        raise DataError(f"cannot tell what column {column} of {', '.join(map(repr, names))} is{index}: {_EXAMPLE}, and no others")
    found |= dict(zip(missing, left, strict=True))
    return Columns(found["source"], found["target"], found.get("weight"))


def check_no_index(table: np.ndarray) -> None:
    """Raise DataError where the first of three columns without names counts the rows, and the third may be ids as well as weights."""
    if table.shape[1] < 3 or len(table) < 2:
        return
    third = table[:, 2]
    if np.array_equal(table[:, 0], np.arange(len(table))) and np.array_equal(third, np.floor(third)) and len(np.unique(third)) > 1:
        raise DataError(f"the first column counts the lines: is it an index, and the third no weight? add a first line: {_EXAMPLE}")
