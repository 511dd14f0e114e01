"""Miners, functions that leave the pairs of a relation that are worth comparing, each loaded on first use: `kinshot.miners.hard`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.kin.miners import MINERS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.miners import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, MINERS)
