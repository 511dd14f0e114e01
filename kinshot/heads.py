"""Few-shot heads, functions of support and query features, each loaded on first use: `kinshot.heads.prototype`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.fewshot import HEADS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.heads import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, HEADS)
