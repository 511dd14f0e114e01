"""Graphs over the samples of a source, each loaded on first use: `kinshot.graphs.knn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.datasets.graphs import GRAPHS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.graphs import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, GRAPHS)
