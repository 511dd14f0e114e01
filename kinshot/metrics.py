"""Metrics of features, from rankings or clusters, each loaded on first use: `kinshot.metrics.map_at_r`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.kin.metrics import METRICS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.metrics import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, METRICS)
