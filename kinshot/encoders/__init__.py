"""Encoders, one file each, loaded on first use: `kinshot.encoders.conv4`; `ENCODERS` knows their names without importing them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.core.registry import Registry

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.encoders import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


ENCODERS = Registry("encoder", "kinshot.encoders")
face(__name__, ENCODERS)
