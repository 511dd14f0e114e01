"""A relation graph of a million nodes and twenty million edges: seconds and peak memory to read, check and describe it, batches a second.

The work runs in a process of its own, which imports no torch, so that its peak memory is the graph's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

import kinshot.kin.graph as graphs

BATCH, MASTER_SEED = 256, 0
CLASSES, PARTS = 1000, 3
MEMORY_BAR, BATCHES_BAR = 2.0, 100.0  # GiB at most; batches per second at least (1000 in 10 s)
STAGES = ("read", "validate", "degrees", "components", "labels", "split", "batches")


def write_graph(path: Path, nodes: int, edges: int) -> None:
    """An .npz file with int64 edges, as most people store them: half within a class (node modulo CLASSES), half anywhere."""
    rng = np.random.default_rng(MASTER_SEED)
    pairs = rng.integers(0, nodes, (edges, 2))
    inside = slice(0, edges // 2)
    pairs[inside, 1] = np.minimum(pairs[inside, 1] // CLASSES * CLASSES + pairs[inside, 0] % CLASSES, nodes - 1)
    np.savez(path, edges=pairs, n=nodes)


def peak_memory() -> float:
    """Highest resident memory of this process, GiB. Linux's own record of it: the usual call counts the parent's before the start, too."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def work(path: Path, batches: int) -> dict[str, Any]:
    """All stages, one after the other, in this process: seconds of each, peak memory, what was found."""
    seconds: dict[str, float] = {}

    def timed(stage: str, function: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = function()
        seconds[stage] = time.perf_counter() - started
        return found

    graph = timed("read", lambda: graphs.read_graph(path))
    labels = np.arange(graph.n) % CLASSES
    part = np.random.default_rng(MASTER_SEED + 1).integers(0, PARTS, graph.n)
    found = {
        "findings": timed("validate", graph.validate),
        "degrees": asdict(timed("degrees", graph.degree_stats)),
        "components": timed("components", graph.components)[0],
        "agreement": timed("labels", lambda: graphs.describe_labels(graph, labels)),
        "leakage": asdict(timed("split", lambda: graphs.leakage(graph, part))),
    }
    timed("batches", lambda: serve(graph, batches))
    return {"seconds": seconds, "peak": peak_memory(), "found": found, "torch": "torch" in sys.modules}


def serve(graph: graphs.RelationGraph, batches: int) -> None:
    """Batches as training draws them: anchors, one positive and one negative each, and the relation among all of them."""
    rng = np.random.default_rng(MASTER_SEED + 2)
    for _ in range(batches):
        anchors = rng.integers(0, graph.n, BATCH)
        positive = graph.sample_positives(anchors, 1, rng)[:, 0]
        negative = graph.sample_negatives(anchors, 1, rng)[:, 0]
        graph.induced(np.concatenate([anchors, np.where(positive < 0, anchors, positive), negative]))


def measure(path: Path, batches: int, threads: int) -> dict[str, Any]:
    """`work` in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    line = [sys.executable, "-m", "benchmarks.graph_scale", "--inside", str(path), "--steps", str(batches)]
    found: dict[str, Any] = json.loads(subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> int:
    """Run as many rounds as asked for; 1 if a bar is missed."""
    arguments = options()
    if arguments.inside:
        sys.stdout.write(json.dumps(work(arguments.inside, arguments.steps)))
        return 0
    from benchmarks.common import Measured, say, write_result

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.npz"
        write_graph(path, arguments.nodes, arguments.edges)
        rounds = [measure(path, arguments.steps, arguments.threads) for _ in range(arguments.rounds)]
    measured = [Measured(stage, "s", tuple(one["seconds"][stage] for one in rounds)) for stage in STAGES[:-1]]
    rates = tuple(arguments.steps / one["seconds"]["batches"] for one in rounds)
    measured.append(Measured(f"batches of {BATCH} with positives, negatives and relation", "batches/s", rates, BATCHES_BAR))
    measured.append(Measured("peak resident memory of all stages", "GiB", tuple(one["peak"] for one in rounds)))
    for one in measured:
        say(one.line())
    highest = max(one["peak"] for one in rounds)
    verdict = f"peak memory {highest:.2f} GiB, at most {MEMORY_BAR:g} GiB allowed: {'kept' if highest <= MEMORY_BAR else 'MISSED'}"
    say(verdict)
    say(json.dumps(rounds[0]["found"]))
    if arguments.json:
        data = {"nodes": arguments.nodes, "edges": arguments.edges, "classes": CLASSES, "parts": PARTS, "found": rounds[0]["found"]}
        notes = [f"{arguments.threads} threads, {arguments.steps} batches a round", verdict, "the measured process imports no torch"]
        write_result(arguments.json, "benchmarks.graph_scale", data, measured, ["numpy", "scipy"], notes)
    return int(highest > MEMORY_BAR or sorted(rates)[len(rates) // 2] < BATCHES_BAR)


def options() -> argparse.Namespace:
    """The command line; not `benchmarks.common.parser`, whose module imports torch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds, each in a new process (default %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="batches in a round (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of the linear algebra library (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=1_000_000, help="nodes (default %(default)s)")
    parser.add_argument("--edges", type=int, default=20_000_000, help="undirected edges (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write a result file")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
