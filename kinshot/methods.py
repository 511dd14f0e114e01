"""Methods that learn with or without labels, classes that one training loop drives, each loaded on first use: `kinshot.methods.simclr`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinshot.core.lazy import face
from kinshot.learn import METHODS

if TYPE_CHECKING:  # listed by `make api`; a part that is not listed has no type, and works
    from kinshot.typed.methods import *  # noqa: F403

    def __getattr__(name: str) -> Any: ...


face(__name__, METHODS)
