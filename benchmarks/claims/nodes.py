"""A run of the audit on a graph: the table of `ssl nodes` as figures."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.cli.nodes import nodes_command

FIGURES = {"macro_f1": "macro-F1", "micro_f1": "micro-F1", "auc": "AUC", "nmi": "NMI", "ari": "ARI"}
OTHERS = {"raw": "features of the nodes", "averaged": "mean of meta-paths", "untrained": "untrained"}


def nodes(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Means over the published lists of `ssl nodes RUN OPTIONS`: `macro_f1`, `micro_f1`, `auc`, `nmi`, `ari`.

    Those of the nodes' own features begin with `raw_`, of their mean over meta-paths with `averaged_`, of the untrained encoder with
    `untrained_`.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = Path(folder) / "figures.json"
        words = [str(run), *shlex.split(ask.get("options", "")), "--figures", str(out), "-q"]
        nodes_command.main(words, standalone_mode=False)
        rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    found: dict[str, float] = {}
    for prefix, arm in [("", ""), *OTHERS.items()]:
        own = [row for row in rows if (row["arm"] == arm if arm else row["arm"] not in OTHERS.values())]
        for name, column in FIGURES.items() if own else ():
            found[f"{prefix}_{name}" if prefix else name] = float(np.mean([row[column] for row in own]))
    return found
