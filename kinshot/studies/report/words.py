"""Names of runs and data as a page shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

OWN = ("folder", "table", "mask_folder")
"""Sources of people's own data."""
NAMED = 3
"""Up to so many runs have their names in the title."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")


def named_runs(runs: list[Path]) -> str:
    """What people call checkpoints: the names of their runs, or how many runs there are."""
    folders = [run.parent.parent if run.parent.name == "checkpoints" else run for run in map(Path.absolute, runs)]
    names = list(dict.fromkeys(folder.name for folder in folders))
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} runs"


def named_data(name: str, settings: dict[str, Any]) -> str:
    """What people call data: their own by its file or folder, as the kind of source says nothing of it."""
    kind, slash, split = name.partition("/")
    root = Path(str(settings.get("root", ""))).absolute().name
    return f"{root}{slash}{split}" if kind in OWN and root else name


def printable(text: str) -> str:
    """The text with the replacement character for what no page can show: control characters and broken Unicode."""
    return _UNPRINTABLE.sub("\ufffd", text.encode("utf-8", "replace").decode("utf-8"))
