"""What methods of pretraining measured at equal budget, from the result file to the small file that `ssl list` reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinshot.core.errors import DataError

FIGURES = ("kNN accuracy (k=20), %", "kNN accuracy (k=200), %", "linear accuracy, %")
"""What is kept of the metrics of a result file."""
_BUDGET = "CPU minutes"
_CALLED = {"moco_v2": "moco", "interclr_on_moco_v2": "interclr", "mae_vision_transformer_": "mae"}
"""Methods that result files call otherwise."""


def measured_of(path: Path, methods: Iterable[str]) -> dict[str, Any]:
    """Figures of the registered methods among the rows of a result file, by name; `methods` is empty where the file is not there.

    Rows of other labels, such as raw pixels and further forms of a method, are not those of a method and stay in the result file.

    Raises:
        DataError: a file that is no result file, naming it.
    """
    if not path.is_file():
        return {"on": "", "methods": {}}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = [(_name(row["label"]), row["metric"], float(row["mean"])) for row in document["rows"]]
        known, on = set(methods), str(document["data"]["name"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no result file with rows of label, metric and mean ({error!r}): measure anew") from error
    kept = (*FIGURES, _BUDGET)
    found: dict[str, dict[str, float]] = {}
    for name, metric, mean in rows:
        if name in known and metric in kept:
            found.setdefault(name, {})[metric] = mean
    named = {name: figures for name, figures in sorted(found.items()) if figures.keys() & set(FIGURES)}
    return {"on": on, "methods": named}


def _name(label: str) -> str:
    """A label as the name of a method: "Barlow Twins" is barlow_twins."""
    name = re.sub(r"\W+", "_", label.strip().lower())
    return _CALLED.get(name, name)
