"""A recipe small enough for end-to-end tests: digits, a narrow Conv-4, a few steps an epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TINY = {
    "data": ["data.name=digits", "data.split=test", "data.size=16"],
    "model": ["encoder.width=8", "projector.hidden=16", "projector.dim=8"],
    "train": ["train.epochs=2", "train.batch_size=32", "train.threads=1", "train.warmup=0.1"],
    "monitor": ["monitor.log_every=2", "monitor.checkpoint_every=0.2", "monitor.knn_samples=64", "monitor.projector_points=32"],
}

METHODS = {
    "simclr": ["method=simclr"],
    "moco": ["method=moco", "method.queue=96"],
    "interclr": [
        "method=interclr", "method.queue=96", "method.clusters=12", "method.min_cluster=3", "method.negatives=16", "method.pool=64",
        "method.centroid_interval=3",
    ],
}  # fmt: skip


def arguments(method: str = "simclr", *extra: str, recipe: str = "glyphs_demo") -> list[str]:
    """Arguments of `ssl pretrain` for a tiny run of a method."""
    return ["pretrain", recipe, *(o for group in TINY.values() for o in group), *METHODS[method], *extra]


def command(name: str, *args: str | Path) -> list[str]:
    """A console command as a subprocess argument list."""
    return [sys.executable, "-m", f"kinshot.cli.{name}", *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """The environment of a subprocess: one thread, no colour."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **more}


def run(name: str, *args: str | Path, cwd: Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a console command to its end in `cwd`."""
    return subprocess.run(command(name, *args), cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=timeout)


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object that a command printed with --json."""
    if done.returncode != 0:
        raise RuntimeError(f"exit {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)
