"""What every benchmark shares: the machine's settings, data, alternating rounds, summaries and the result file."""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import kinshot
from kinshot.core.atomic import write_json
from kinshot.core.rng import keyed_generator
from kinshot.core.runtime import allocator_obstacle, describe_machine, set_threads, tune_allocator
from kinshot.core.statistics.means import mean_of
from kinshot.datasets.base import ArraySource
from kinshot.datasets.glyphs import glyphs

BATCH = 256
SEED = 0
RATE = "images/s"
COLOR_IMAGES, COLOR_SIZE = 4096, 32
Clock = Callable[[], float]
# With one thread CPU time ignores other programs; with more it also counts threads that wait for one another.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Measured:
    """One figure per round.

    Args:
        label: what was measured.
        metric: unit.
        values: one figure per round.
        bar: what a ratio must reach, or none.
    """

    label: str
    metric: str
    values: tuple[float, ...]
    bar: float | None = None

    def row(self) -> dict[str, Any]:
        """The row of a result file: mean and 95 % half-width (Student t) over rounds, median and range."""
        found = mean_of(self.values)
        figures = {"mean": found.mean, "ci95": found.half_width, "median": statistics.median(self.values)}
        figures |= {"min": min(self.values), "max": max(self.values)}
        row: dict[str, Any] = {"label": self.label, "metric": self.metric, "n": len(self.values)}
        return row | {name: float(f"{value:.4g}") for name, value in figures.items()} | ({"bar": self.bar} if self.bar else {})

    def line(self) -> str:
        """The row as a line for people: median (range), and the bar where there is one."""
        row = self.row()
        verdict = "" if self.bar is None else f"   bar {self.bar:g}: {'reached' if row['median'] >= self.bar else 'MISSED'}"
        return f"{self.label:<58} {row['median']:>9.4g}  ({row['min']:.4g} to {row['max']:.4g})  {self.metric}{verdict}"


def parser(description: str | None, *, rounds: int, steps: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--rounds", type=int, default=rounds, help="rounds; each measures every side once (default %(default)s)")
    arguments.add_argument("--steps", type=int, default=steps, help="batches per side in a round (default %(default)s)")
    arguments.add_argument("--threads", type=int, default=2, help="torch threads of every side (default %(default)s)")
    arguments.add_argument(
        "--clock", choices=list(CLOCKS), default="wall", help="cpu: this process's CPU time, for a busy machine (default %(default)s)"
    )
    arguments.add_argument("--json", type=Path, help="write a result file")
    return arguments


def settle(threads: int) -> str:
    """Give the whole process, so every side, one allocator setting and one number of threads; returns the allocator's state."""
    allocator = tune_allocator() or f"allocator: unchanged, {allocator_obstacle()}"
    set_threads(threads)
    torch.manual_seed(SEED)
    return allocator


def alternate(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """Every side's figure in every round; every other round runs backwards, so that a drift of the machine favours no side."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for name in order:
            found[name].append(sides[name]())
    return {name: tuple(values) for name, values in found.items()}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Round by round, ours over theirs."""
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


def rate(work: Callable[[], object], images: int, repeats: int, clock: Clock) -> float:
    """Images per second of `repeats` calls that treat `images` images each."""
    started = clock()
    for _ in range(repeats):
        work()
    return images * repeats / (clock() - started)


def gray_images() -> ArraySource:
    """White characters on black, (N, 1, 28, 28)."""
    return glyphs(split="train", size=28)


def color_images() -> ArraySource:
    """Smooth random colour images, (4096, 3, 32, 32): what is in them does not change how long they take."""
    coarse = torch.rand(COLOR_IMAGES, 3, 5, 5, generator=keyed_generator(SEED, "benchmark/color"))
    smooth = F.interpolate(coarse, size=(COLOR_SIZE, COLOR_SIZE), mode="bicubic", align_corners=True)
    return ArraySource((smooth.clamp(0, 1) * 255).to(torch.uint8), name="random colour")


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_result(
    path: Path, module: str, data: dict[str, Any], measured: Sequence[Measured], packages: Sequence[str], notes: Sequence[str]
) -> None:
    """Write `{name, command, data, seeds, cpu_minutes, versions, machine, notes, rows}`."""
    document = {
        "name": path.stem,
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "data": data,
        "seeds": [SEED],
        "cpu_minutes": math.ceil(time.process_time() / 6) / 10,
        "versions": {"kinshot": kinshot.__version__, **{name: version(name) for name in ("torch", *packages)}},
        "machine": describe_machine(),
        "notes": list(notes),
        "rows": [one.row() for one in measured],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, document)
