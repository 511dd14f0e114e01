"""Data sources, functions that return a `Source` of samples, each loaded on first use: `kinshot.sources.digits`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.datasets import SOURCES

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.sources import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, SOURCES)
