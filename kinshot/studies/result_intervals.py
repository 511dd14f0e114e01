"""Result files of before intervals had all their parts, mended from what they hold: nothing is measured or trained again.

Rows of several checkpoints had intervals over checkpoints alone. The single checkpoints' rows beside them have intervals over the
episodes (or draws) that all share; their mean is the episodes' part, or more than it: a mean over checkpoints varies less from episode to
episode than one of them. For a difference the file does not say how far the two checkpoints agree episode by episode; taken as if they
did not agree at all, the part is again not less than it is. Several heads against one get Holm's correction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.atomic import write_json
from kinshot.core.statistics.multiple import holm
from kinshot.core.statistics.parts import Part, half_width, quantile
from kinshot.studies.intervals import SEEDS_ALONE, accuracies, roughness, several_rule
from kinshot.studies.results import COVERS, ROUGH

_OLD = re.compile(r"; (?:mean row|means): Student t, 95 %, over checkpoints$")
_OLD_SEEDS = "Student t, 95 %, over seeds"
_BOUND = "; mended from this file: that part is that of the single checkpoints, of differences as if unpaired, which is not less than it is"
_WITHOUT = (
    "; rows of several checkpoints: over checkpoints alone, the {drawn} that they share have no part in it (the file has no single ones)"
)
_SETTING = re.compile(r"([A-Za-z_.]+) (\S+?)(?=, |$| to )")

Row = dict[str, Any]


def mend_folder(folder: Path) -> list[Path]:
    """Mend every result file of a folder; returns those that changed. A second call changes nothing."""
    changed = []
    for path in sorted(folder.glob("*.json")):
        before = json.loads(path.read_text(encoding="utf-8"))
        after = mended(before)
        if after != before:
            write_json(path, after)
            changed.append(path)
    return changed


def mended(document: dict[str, Any]) -> dict[str, Any]:
    """A result file with every part in its intervals, Holm's correction beside p-values, and what its intervals cover."""
    data, rows = dict(document["data"]), [dict(row) for row in document["rows"]]
    rule = str(data.get("interval", ""))
    if _OLD.search(rule):
        alone = _OLD.sub("", rule)
        drawn = alone.partition("over ")[2]
        found = _with_shared_part(rows)
        rows = found or rows
        data["interval"] = f"{alone}{several_rule(alone, drawn)}{_BOUND}" if found else f"{alone}{_WITHOUT.format(drawn=drawn)}"
    elif rule == _OLD_SEEDS:
        data["interval"] = SEEDS_ALONE
        rows = _predictions_once(rows)
    rows = _with_holm(rows)
    if "interval" in data and COVERS not in data and "episodes" in data:
        count = f"these {data['classes']}" if "classes" in data else "these"
        data[COVERS] = f"other episodes of {count} classes, not other classes"
        if rough := roughness(accuracies(rows), [int(data["episodes"])]):
            data[ROUGH] = rough
    return {**document, "data": data, "rows": rows}


def _with_shared_part(rows: Sequence[Row]) -> list[Row] | None:
    """The rows with the episodes' part in those of several checkpoints; None where the file has no rows of single ones."""
    singles = [row for row in rows if "/" in row["label"].partition(",")[0]]
    if not singles:
        return None
    found = []
    for row in rows:
        of = [] if row in singles else _parts_of(row, singles)
        shared = float(np.sqrt(np.mean(np.square(of)))) if of else 0.0
        found.append({**row, "ci95": round(float(np.hypot(row["ci95"], shared)), 3)} if of else row)
    return found


def _parts_of(row: Row, singles: Sequence[Row]) -> list[float]:
    """For each checkpoint behind a row the half-width of its own interval; for a difference both in quadrature."""
    label = row["label"]
    if label.startswith("mean of "):
        rest = label.partition(", ")[2]
        return [single["ci95"] for single in singles if single["metric"] == row["metric"] and single["label"].partition(", ")[2] == rest]
    name, what = _compared(label)
    of = [{seed: half for seed, half in _of_value(value, what, row["metric"], singles)} for value in name]
    if not all(of):
        return []
    if len(of) == 1:
        return list(of[0].values())
    return [float(np.hypot(of[0][seed], of[1][seed])) for seed in sorted(of[0].keys() & of[1].keys())]


def _compared(label: str) -> tuple[list[dict[str, float]], str]:
    """The settings that a row of `--compare` is about, or the two sides of a difference, and the feature and head that follow them."""
    sides, paired, what = label.partition(", paired, ")
    if not paired:
        parts = label.split(", ")
        return [_settings(", ".join(parts[:-2]))], ", ".join(parts[-2:])
    before, _, after = sides.partition(" to ")
    first, last = _settings(before), _settings(after)
    return [first, last or dict.fromkeys(first, float(after))], what


def _settings(text: str) -> dict[str, float]:
    """`a.b 0.0, a.c 1.0` as {"b": 0.0, "c": 1.0}; empty for other texts."""
    try:
        return {key.rpartition(".")[2]: float(value) for key, value in _SETTING.findall(text)}
    except ValueError:
        return {}


def _of_value(value: dict[str, float], what: str, metric: str, singles: Sequence[Row]) -> list[tuple[int, float]]:
    """(seed, half-width) of the checkpoints of a sweep that have these settings in their folder's name."""
    found = []
    for single in singles:
        place, _, rest = single["label"].partition(", ")
        named = dict(re.findall(r"([A-Za-z_]+?)=([^_/]+)", place.rpartition("/")[2]))
        named = {key.lstrip("_"): text for key, text in named.items()}
        if (
            value
            and rest == what
            and single["metric"] == metric
            and all(key in named and float(named[key]) == x for key, x in value.items())
        ):
            found.append((int(named["seed"]), float(single["ci95"])))
    return found


def _predictions_once(rows: Sequence[Row]) -> list[Row]:
    """What a graph predicts was counted for both runs of every seed; the spread of pairs of equal values gives that of the values."""
    found = []
    for row in rows:
        n = row["n"]
        if "predicted by the graph" not in row["label"] or n % 2:
            found.append(row)
        elif row["ci95"] == 0:
            found.append({**row, "n": 1})
        else:
            squares = (row["ci95"] / quantile(n - 1)) ** 2 * n * (n - 1) / 2
            half = n // 2
            once = Part("seeds", squares / (half - 1) / half, half - 1)
            found.append({**row, "ci95": round(half_width([once]), 3), "n": half})
    return found


def _with_holm(rows: Sequence[Row]) -> list[Row]:
    """Holm's correction of the p-values of heads against the first, for each model, feature and task."""
    families: dict[tuple[str, ...], list[int]] = {}
    for number, row in enumerate(rows):
        if "p" in row and "p_holm" not in row:
            families.setdefault((*row["label"].split(", ")[:2], row["metric"]), []).append(number)
    found = list(rows)
    for members in families.values():
        for number, value in zip(members, holm([rows[m]["p"] for m in members]), strict=True):
            found[number] = {**rows[number], "p_holm": float(f"{value:.2g}")}
    return found
