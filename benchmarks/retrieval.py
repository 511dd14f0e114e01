"""Metrics of retrieval: kinshot's beside pytorch-metric-learning's AccuracyCalculator; seconds, peak memory, and whether the figures agree.

Every side measures the same vectors, ranked among themselves by cosine similarity, in a process of its own so that its peak memory is its
own. The calculator takes its exact nearest neighbours in batches (CustomKNN; faiss, which is its default, where that is installed) and as
many as the largest class, which its metrics need. Beside both stands the product of all pairs, without which neither ranks exactly.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import CLOCKS, Measured, parser, say, write_result
from benchmarks.graph_scale import peak_memory
from kinshot.core.runtime import tune_allocator
from kinshot.kin.measuring import measured
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.neighbors.found import ByLabel
from kinshot.kin.neighbors.proposals import faiss_is_installed

COUNT, WIDTH, PER_CLASS, SEED = 60_000, 128, 50, 0
PRODUCT = "the product of all pairs alone"
SIDES = {"kinshot": "", "pytorch-metric-learning": "pytorch_metric_learning", PRODUCT: "", "kinshot, whole rankings": ""}
METRICS = {"precision_at_1": "precision_at_1", "r_precision": "r_precision", "map_at_r": "mean_average_precision_at_r"}
WHOLE = ("mean_ap", "mrr", "minp")
"""Metrics that look at all neighbours of every query: the calculator would hold all of them at once."""
BATCH, ROWS = 1024, 256


def vectors(count: int) -> tuple[torch.Tensor, np.ndarray]:
    """Float32 (count, WIDTH) at unit length around class means, and their classes."""
    rng = np.random.default_rng(SEED)
    labels = np.arange(count) % (count // PER_CLASS)
    rows = rng.normal(size=(count // PER_CLASS, WIDTH))[labels] + 2 * rng.normal(size=(count, WIDTH))
    return torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=1), labels


def figures(side: str, z: torch.Tensor, labels: np.ndarray) -> dict[str, float]:
    """What a side says of the vectors, by kinshot's names; the product alone says nothing."""
    if side == PRODUCT:
        room = z.new_empty(ROWS, len(z))
        for rows in z.split(ROWS):
            torch.mm(rows, z.T, out=room[: len(rows)])
        return {}
    if side != "pytorch-metric-learning":
        wanted = [wanted_metric(name) for name in (WHOLE if side.endswith("rankings") else METRICS)]
        return {name: one.value for name, one in measured(z, ByLabel(labels), wanted).items()}
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    search = None if faiss_is_installed() else CustomKNN(CosineSimilarity(), batch_size=BATCH)
    calculator = AccuracyCalculator(include=tuple(METRICS.values()), k="max_bin_count", device=torch.device("cpu"), knn_func=search)
    found = calculator.get_accuracy(z, torch.from_numpy(labels))
    return {name: float(found[other]) for name, other in METRICS.items()}


def work(side: str, count: int, rounds: int, threads: int, clock: str) -> dict[str, Any]:
    """Seconds of each round, memory above what the process had before, and the figures."""
    tune_allocator()
    torch.set_num_threads(threads)
    z, labels = vectors(count)
    figures(side, *vectors(10 * PER_CLASS))  # imports
    before, seconds = peak_memory(), []
    for _ in range(rounds):
        started = CLOCKS[clock]()
        found = figures(side, z, labels)
        seconds.append(CLOCKS[clock]() - started)
    return {"seconds": seconds, "memory": 1024 * (peak_memory() - before), "figures": found}


def measure(side: str, given: argparse.Namespace) -> dict[str, Any]:
    """`work` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "OPENBLAS_NUM_THREADS": str(given.threads)}
    words = ["--inside", side, "--count", str(given.count), "--rounds", str(given.rounds), "--threads", str(given.threads)]
    line = [sys.executable, "-m", "benchmarks.retrieval", *words, "--clock", given.clock]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Measure every side that is installed; 1 if two give other figures."""
    arguments = parser((__doc__ or "").splitlines()[0], rounds=1, steps=1)
    arguments.add_argument("--inside", help=argparse.SUPPRESS)
    arguments.add_argument("--count", type=int, default=COUNT, help="Vectors.")
    arguments.add_argument("--whole", action="store_true", help="Measure metrics over whole rankings, too, which takes minutes.")
    given = arguments.parse_args()
    if given.inside:
        sys.stdout.write(json.dumps(work(given.inside, given.count, given.rounds, given.threads, given.clock)))
        return 0
    sides = [side for side, package in SIDES.items() if not package or importlib.util.find_spec(package) is not None]
    found = {side: measure(side, given) for side in sides if given.whole or not side.endswith("rankings")}
    rows = []
    for side, one in found.items():
        title = f"{given.count} x {WIDTH}: {side}"
        rows += [Measured(title, "s", tuple(one["seconds"])), Measured(f"{title}, memory", "MiB", (one["memory"],))]
    for row in rows:
        say(row.line())
    peer = found.get("pytorch-metric-learning")
    agree = peer is None or all(abs(found["kinshot"]["figures"][name] - peer["figures"][name]) < 1e-4 for name in METRICS)
    for name in METRICS:
        told = [f"{one['figures'][name]:.6f} ({side})" for side, one in found.items() if name in one["figures"]]
        say(f"{name}: {', '.join(told)}")
    if peer is not None:
        say(f"kinshot takes {min(found['kinshot']['seconds']) / min(peer['seconds']):.2f} of pytorch-metric-learning's time")
    if given.json:
        data = {"classes": given.count // PER_CLASS, "metrics": ", ".join(METRICS), "seed": SEED}
        packages = ["torch", *(["pytorch-metric-learning"] if peer is not None else [])]
        write_result(Path(given.json), "benchmarks.retrieval", data, rows, packages, [f"{given.threads} threads, {given.clock} time"])
    return int(not agree)


if __name__ == "__main__":
    raise SystemExit(main())
