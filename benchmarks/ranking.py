"""Exact nearest neighbours: kinshot's ranking beside a product with top-k, and beside scikit-learn; seconds and peak memory.

Every side ranks the same vectors around class means, in a process of its own so that its peak memory is its own. The product with top-k is
what kNN probes did before there was one ranking: float32, 1024 queries at a time, equal ones in any order.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import Measured, parser, say, write_result
from benchmarks.graph_scale import peak_memory
from kinshot.kin.neighbors.ranking import rank

CLASSES, SEED = 50, 0
SHAPES = ((2_000, 128, 20), (5_000, 512, 20), (10_000, 3, 10))
"""Vectors, dimensions, and neighbours of each: of a probe during training, of a test set, of a surface in space."""
SIDES = ("kinshot", "product and top-k", "scikit-learn")
ROWS = 1024


def vectors(count: int, width: int) -> torch.Tensor:
    """Float32 (count, width): class means and noise."""
    rng = np.random.default_rng(SEED)
    means = rng.normal(size=(CLASSES, width))
    return torch.from_numpy(means[rng.integers(0, CLASSES, count)] + rng.normal(size=(count, width))).float()


def search(side: str, z: torch.Tensor, k: int) -> torch.Tensor:
    """The k nearest others of every vector by Euclidean distance, int64 (N, k)."""
    if side == "kinshot":
        return rank(z, k=k, metric="euclidean").index
    if side == "scikit-learn":
        from sklearn.neighbors import NearestNeighbors

        return torch.from_numpy(NearestNeighbors(n_neighbors=k).fit(z.numpy()).kneighbors(return_distance=False))
    half, found = z.square().sum(1) / 2, []
    for rows in torch.arange(len(z)).split(ROWS):
        near = torch.addmm(-half, z[rows], z.T)
        near[torch.arange(len(rows)), rows] = -torch.inf
        found.append(near.topk(k, dim=1).indices)
    return torch.cat(found)


def work(side: str, shape: tuple[int, int, int], rounds: int, threads: int) -> dict[str, Any]:
    """Seconds of each round, memory above what the process had before, and the share of neighbours that kinshot names too."""
    torch.set_num_threads(threads)
    count, width, k = shape
    z = vectors(count, width)
    search(side, z[:100], min(k, 50))  # imports
    before, seconds = peak_memory(), []
    for _ in range(rounds):
        started = time.perf_counter()
        found = search(side, z, k)
        seconds.append(time.perf_counter() - started)
    above = peak_memory() - before
    return {"seconds": seconds, "memory": 1024 * above, "agree": float((found == search("kinshot", z, k)).float().mean())}


def measure(side: str, shape: tuple[int, int, int], given: argparse.Namespace) -> dict[str, Any]:
    """`work` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "OPENBLAS_NUM_THREADS": str(given.threads)}
    inside = json.dumps([side, shape])
    line = [sys.executable, "-m", "benchmarks.ranking", "--inside", inside, "--rounds", str(given.rounds), "--threads", str(given.threads)]
    found: dict[str, Any] = json.loads(subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> int:
    """Measure every side on every shape; 1 if scikit-learn names other neighbours."""
    arguments = parser((__doc__ or "").splitlines()[0], rounds=3, steps=1)
    arguments.add_argument("--inside", type=json.loads, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.inside:
        side, shape = given.inside
        sys.stdout.write(json.dumps(work(side, tuple(shape), given.rounds, given.threads)))
        return 0
    measured, wrong = [], []
    for shape in SHAPES:
        found = {side: measure(side, shape, given) for side in SIDES}
        title = f"{shape[0]} x {shape[1]}, k {shape[2]}"
        for side, one in found.items():
            measured.append(Measured(f"{title}: {side}", "s", tuple(one["seconds"])))
            measured.append(Measured(f"{title}: {side}, memory", "MiB", (one["memory"],)))
        wrong += [title] if found["scikit-learn"]["agree"] < 0.999 else []  # rounding may exchange near ones
    for row in measured:
        say(row.line())
    say(f"other neighbours than scikit-learn's: {', '.join(wrong) or 'none'}")
    if given.json:
        data = {"classes": CLASSES, "seed": SEED}
        write_result(Path(given.json), "benchmarks.ranking", data, measured, ["torch", "scikit-learn"], [f"{given.threads} threads"])
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
