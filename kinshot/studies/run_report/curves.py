"""The records of a run as curves, in the order in which to look at them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinshot.core.run_files import METRICS
from kinshot.learn.records import read_records
from kinshot.studies.run_report.content import Curve

GROUPS = {
    "loss": "Loss and its terms",
    "eval": "Measured during training",
    "collapse": "Collapse gauges",
    "optimizer": "Learning rate and gradient",
    "method": "Gauges of method and terms",
}
_OPTIMIZER = ("train/lr", "train/grad_norm")


def curves_of(run_folder: Path) -> list[Curve]:
    """Every scalar in `metrics.jsonl` over steps; none where there is no such file. Raises DataError for one that is damaged."""
    return curves_from(read_records(run_folder / METRICS))


def curves_from(records: Iterable[dict[str, Any]]) -> list[Curve]:
    """Every scalar of records, by tag, the loss first."""
    found: dict[str, Curve] = {}
    for record in records:
        for tag, value in record.items():
            if tag in ("step", "epoch") or not (value is None or isinstance(value, int | float)):
                continue
            curve = found.setdefault(tag, Curve(tag, [], []))
            curve.steps.append(record["step"])
            curve.values.append(float(value) if value is not None and math.isfinite(value) else None)
    return sorted(found.values(), key=lambda curve: (list(GROUPS).index(group_of(curve.tag)), curve.tag != "train/loss"))


def group_of(tag: str) -> str:
    """The key in GROUPS of a scalar's tag."""
    if tag in _OPTIMIZER:
        return "optimizer"
    group = tag.partition("/")[0]
    return {"train": "loss", "eval": "eval", "collapse": "collapse"}.get(group, "method")


def by_tag(curves: Iterable[Curve]) -> dict[str, Curve]:
    """Curves by their tags."""
    return {curve.tag: curve for curve in curves}
