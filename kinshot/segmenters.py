"""Heads of dense episodes, functions of maps and masks, each loaded on first use: `kinshot.segmenters.cosine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.segmentation import SEGMENTERS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.segmenters import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, SEGMENTERS)
