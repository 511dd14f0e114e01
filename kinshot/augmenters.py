"""Augmenters, functions that make embeddings out of a batch's, each loaded on first use: `kinshot.augmenters.embedding_expansion`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.objectives.augmenters import AUGMENTERS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.augmenters import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, AUGMENTERS)
