"""kinshot: learn representations from relations, recognise new things from a few examples."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`kinshot.load`, imported on first use so that `import kinshot` stays free of torch."""
    if name == "load":
        from kinshot.runs.embedder import load

        return load
    raise AttributeError(f"module 'kinshot' has no attribute {name!r}")
