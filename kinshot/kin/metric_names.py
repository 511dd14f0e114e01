"""Metrics as people write them, `recall_at_5` for example, checked without importing torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from kinshot.core.errors import ConfigError
from kinshot.core.part_text import read_settings, split_text
from kinshot.kin.metrics import METRICS

_AT = re.compile(r"(.+)_at_(\d+)")
_EXAMPLE = "ndcg_at_5:gain=binary"


@dataclass(frozen=True)
class Wanted:
    """A metric as it was written, `recall_at_5` for example: its name in `METRICS` and its settings."""

    text: str
    name: str
    settings: dict[str, Any] = field(default_factory=dict)


def wanted_metric(text: str) -> Wanted:
    """A metric by name, with k in the name where it has one, and settings behind it: `map_at_r`, `recall_at_5`, `ndcg_at_5:gain=binary`.

    Raises ConfigError with the closest name.
    """
    name, *assignments = split_text(text, ":", "metrics", _EXAMPLE)
    settings = read_settings(text, assignments, "metric", _EXAMPLE)
    if name not in METRICS.entries and (at := _AT.fullmatch(name)):
        name, settings = f"{at[1]}_at_k", {"k": int(at[2]), **settings}
    checked, problems = METRICS.check(name, settings, text)
    if problems or checked.get("k", 1) < 1:
        raise ConfigError("; ".join(problems) or f"metric {text}: k must be at least 1")
    return Wanted(text, name, checked)
