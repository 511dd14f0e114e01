"""Exact retrieval in a gallery of a million rows: seconds, peak memory, and the same answers as brute force in float64.

The metrics of `fewshot retrieve` over the search that it uses, in a process of its own so that its peak memory is its own. A few of the
queries are then ranked again by all products in float64, whose answers must be the same but where rounding exchanges neighbours.
"""

from __future__ import annotations

import argparse
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
from benchmarks.rkd import resident
from kinshot.core.runtime import tune_allocator
from kinshot.kin.measuring import measured
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.neighbors.found import ByLabel
from kinshot.kin.neighbors.ranking import rank

GALLERY, QUERIES, WIDTH, PER_CLASS, SEED = 1_000_000, 500, 128, 50, 0
SAMPLE, BLOCK = 20, 50_000
"""Queries that brute force answers too, and rows of the gallery that are made or compared at a time."""
METRICS = ("precision_at_1", "r_precision", "map_at_r")
MEMORY_BAR = 1024.0  # MiB beside the features
ALIKE, SAME = 1e-5, 0.999


def vectors(count: int, classes: np.ndarray, seed: int) -> np.ndarray:
    """Float32 (count, WIDTH) around the means of their classes, a block at a time, so that making them takes no more than they do."""
    means = np.random.default_rng(SEED).standard_normal((int(classes.max()) + 1, WIDTH), dtype=np.float32)
    rng, rows = np.random.default_rng(seed), np.empty((count, WIDTH), dtype=np.float32)
    for first in range(0, count, BLOCK):
        part = slice(first, min(first + BLOCK, count))
        rng.standard_normal(dtype=np.float32, out=rows[part])
        rows[part] *= 2
        rows[part] += means[classes[part]]
    return rows


def brute_force(queries: np.ndarray, gallery: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest by cosine in float64, equal ones by index: indices and similarities (q, k)."""
    asked = queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    near = np.empty((len(queries), len(gallery)))
    for first in range(0, len(gallery), BLOCK):
        rows = gallery[first : first + BLOCK].astype(np.float64)
        near[:, first : first + len(rows)] = asked @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
    index = np.argsort(-near, axis=1, kind="stable")[:, :k]
    return index, np.take_along_axis(near, index, axis=1)


def by_hand(kin: np.ndarray) -> dict[str, float]:
    """The metrics of bool (q, R), whether the j-th of a query's R nearest is one of its R kin."""
    places = np.arange(1, kin.shape[1] + 1)
    average = ((kin.cumsum(axis=1) / places) * kin).sum(axis=1) / kin.shape[1]
    return dict(zip(METRICS, (float(kin[:, 0].mean()), float(kin.mean()), float(average.mean())), strict=True))


def work(count: int, asked: int, rounds: int, threads: int, clock: str) -> dict[str, Any]:
    """Seconds of each round, MiB beside the features at most, the figures, and how far brute force is from them."""
    torch.set_num_threads(threads)
    of_gallery = np.arange(count) % (count // PER_CLASS)
    of_queries = np.random.default_rng(SEED + 1).integers(0, count // PER_CLASS, asked)
    gallery, queries = vectors(count, of_gallery, SEED + 2), vectors(asked, of_queries, SEED + 3)
    z, references, wanted = torch.from_numpy(queries), torch.from_numpy(gallery), [wanted_metric(name) for name in METRICS]
    tune_allocator()  # not before: what making the rows took would stay, and hide what the search takes
    before, seconds = resident("VmRSS"), []
    measured(z, ByLabel(of_queries, of_gallery[:BLOCK]), wanted[:1], references=references[:BLOCK])  # imports
    for _ in range(rounds):
        started = CLOCKS[clock]()
        found = measured(z, ByLabel(of_queries, of_gallery), wanted, references=references)
        seconds.append(CLOCKS[clock]() - started)
    peak = 1024 * peak_memory()
    ranked = rank(z[:SAMPLE], references, k=PER_CLASS)
    index, near = brute_force(queries[:SAMPLE], gallery, PER_CLASS)
    ours = measured(z[:SAMPLE], ByLabel(of_queries[:SAMPLE], of_gallery), wanted, references=references)
    theirs = by_hand(of_gallery[index] == of_queries[:SAMPLE, None])
    return {
        "seconds": seconds,
        "beside": peak - before,
        "peak": peak,
        "figures": {name: one.value for name, one in found.items()},
        "same neighbours": float((ranked.index.numpy() == index).mean()),
        "similarities apart": float(np.abs(ranked.value.numpy() - near).max()),
        "figures apart": max(abs(ours[name].value - theirs[name]) for name in METRICS),
    }


def main() -> int:
    """Measure in a process of its own; 1 if brute force says otherwise, or memory is above the bar."""
    arguments = parser((__doc__ or "").splitlines()[0], rounds=3, steps=1)
    arguments.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("--gallery", type=int, default=GALLERY, help="rows that are searched (default %(default)s)")
    arguments.add_argument("--queries", type=int, default=QUERIES, help="rows that are looked up (default %(default)s)")
    given = arguments.parse_args()
    if given.inside:
        sys.stdout.write(json.dumps(work(given.gallery, given.queries, given.rounds, given.threads, given.clock)))
        return 0
    environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads), "OPENBLAS_NUM_THREADS": str(given.threads)}
    line = [sys.executable, "-m", "benchmarks.retrieval_million", "--inside", *sys.argv[1:]]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    title = f"{given.queries} queries in {given.gallery} x {WIDTH}"
    rows = [
        Measured(title, "s", tuple(found["seconds"])),
        Measured(f"{title}: memory beside the features", "MiB", (found["beside"],)),
        Measured(f"{title}: memory of the process", "MiB", (found["peak"],)),
        Measured(f"{title}: {MEMORY_BAR:g} MiB / memory beside the features", "ratio", (MEMORY_BAR / found["beside"],), 1.0),
    ]
    for row in rows:
        say(row.line())
    agrees = found["same neighbours"] >= SAME and max(found["similarities apart"], found["figures apart"]) < ALIKE
    compared = ("same neighbours", "similarities apart", "figures apart")
    verdict = f"{SAMPLE} queries by brute force in float64, {PER_CLASS} neighbours each: " + ", ".join(
        f"{n} {found[n]:.3g}" for n in compared
    )
    say(verdict + ("" if agrees else ": OTHERWISE"))
    say(json.dumps(found["figures"]))
    if given.json:
        data = {"classes": given.gallery // PER_CLASS, "seed": SEED, "figures": {n: round(v, 6) for n, v in found["figures"].items()}}
        notes = [f"{given.threads} threads, {given.clock} time", verdict, "features are float32 and given; they are held once beside this"]
        write_result(Path(given.json), "benchmarks.retrieval_million", data, rows, ["numpy"], notes)
    return int(not agrees or found["beside"] > MEMORY_BAR)


if __name__ == "__main__":
    raise SystemExit(main())
