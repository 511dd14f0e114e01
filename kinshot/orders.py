"""Which samples make a batch, each loaded on first use: `kinshot.orders.classes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.datasets.orders import ORDERS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.orders import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, ORDERS)
