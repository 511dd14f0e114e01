"""Views of a batch, random or clean, each loaded on first use: `kinshot.views.warp`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.datasets.views import VIEWS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.views import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, VIEWS)
