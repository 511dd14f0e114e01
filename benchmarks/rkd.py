"""Relational distillation, forwards and backwards: kinshot's RKD-A and RKD-D against their formulas as most people write them.

Embeddings of 128 dimensions in float32. By hand, RKD-A is all differences (N, N, 128), normalised, and their products (N, N, N), left to
autograd. Time: both sides in turns in one process. Memory: the highest resident memory of a fresh process, less what it held
before (Linux); by hand up to N = 512 only, as 1024 takes more than 8 GiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import CLOCKS, SEED, Clock, Measured, alternate, parser, rate, ratios, say, settle, write_result
from kinshot.core.rng import keyed_generator
from kinshot.core.runtime import set_threads
from kinshot.objectives.distillation.rkd_angle import draw_triples, rkd_angle
from kinshot.objectives.distillation.rkd_distance import rkd_distance

DIM = 128
UNIT = "rows/s"
TIMED = {128: 3.0, 256: 3.0, 512: 4.0}
"""Batch sizes, and how many times faster than by hand RKD-A is to be; small batches are repeated to be worth timing."""
REPEATS = {128: 8, 256: 2, 512: 1}
WEIGHED = {256: ("kinshot", "by hand"), 512: ("kinshot", "by hand"), 1024: ("kinshot",)}
LEANER, LARGEST, ALLOWED = 512, 1024, 512.0  # MiB of additional memory at N = 1024
LEANER_BAR = 5.0
DRAWN = 10_000
ALIKE = 1e-5
Loss = Callable[[Tensor, Tensor], Tensor]


def angle_by_hand(student: Tensor, teacher: Tensor) -> Tensor:
    """All angles at once."""
    ours, theirs = (F.normalize(z.unsqueeze(0) - z.unsqueeze(1), dim=2) for z in (student, teacher.detach()))
    return F.huber_loss(torch.bmm(ours, ours.transpose(1, 2)), torch.bmm(theirs, theirs.transpose(1, 2)))


def distance_by_hand(student: Tensor, teacher: Tensor) -> Tensor:
    """All squared distances by way of products, as most people write them."""

    def relation(z: Tensor) -> Tensor:
        square = z.square().sum(1)
        found = (square.unsqueeze(1) + square.unsqueeze(0) - 2 * z @ z.T).clamp(min=1e-12).sqrt()
        found = found * (1 - torch.eye(len(z)))
        return found / found[found > 0].mean()

    return F.huber_loss(relation(student), relation(teacher.detach()))


ANGLES: dict[str, Loss] = {"kinshot": rkd_angle, "by hand": angle_by_hand}
DISTANCES: dict[str, Loss] = {"kinshot": rkd_distance, "by hand": distance_by_hand}


def batch(count: int) -> tuple[Tensor, Tensor]:
    """A student's and a teacher's embeddings of the same samples, somewhat alike."""
    teacher = torch.randn(count, DIM, generator=keyed_generator(SEED, "benchmark/teacher"))
    noise = torch.randn(count, DIM, generator=keyed_generator(SEED, "benchmark/student"))
    return (teacher + noise).requires_grad_(), teacher


def step(loss: Loss, student: Tensor, teacher: Tensor) -> None:
    """Value and gradient."""
    student.grad = None
    loss(student, teacher).backward()


def compare(
    title: str, losses: dict[str, Loss], count: int, bar: float | None, options: argparse.Namespace, clock: Clock
) -> list[Measured]:
    """Rates of both sides at one batch size, and how many times faster ours is; first that both give the same."""
    student, teacher = batch(count)
    check(losses, student, teacher)
    repeats = options.steps * REPEATS[count]

    def side(loss: Loss) -> Callable[[], float]:
        return lambda: rate(lambda: step(loss, student, teacher), count, repeats, clock)

    found = alternate({name: side(loss) for name, loss in losses.items()}, options.rounds)
    measured = [Measured(f"{title}, N {count}: {name}", UNIT, values) for name, values in found.items()]
    return [*measured, Measured(f"{title}, N {count}: kinshot / by hand", "ratio", ratios(found["kinshot"], found["by hand"]), bar)]


def check(losses: dict[str, Loss], student: Tensor, teacher: Tensor) -> None:
    """Both sides must give the same value and gradient before their time means anything."""
    found = []
    for loss in losses.values():
        step(loss, student, teacher)
        assert student.grad is not None
        found.append((loss(student, teacher).detach(), student.grad.clone()))
    for ours, theirs in zip(*found, strict=True):
        if (ours - theirs).norm() > ALIKE * theirs.norm():
            raise RuntimeError(f"the two sides differ by {(ours - theirs).norm() / theirs.norm():.2g} of their size")


def drawn(count: int, options: argparse.Namespace, clock: Clock) -> Measured:
    """Rate of RKD-A over drawn triples."""
    student, teacher = batch(count)
    triples = draw_triples(DRAWN, count, keyed_generator(SEED, "benchmark/triples"))

    def work() -> None:
        step(lambda one, two: rkd_angle(one, two, triples=triples), student, teacher)

    values = tuple(rate(work, count, options.steps * REPEATS[count], clock) for _ in range(options.rounds))
    return Measured(f"RKD-A, N {count}: kinshot, {DRAWN} drawn triples", UNIT, values)


def resident(field: str) -> float:
    """Memory of this process, MiB: "VmRSS" now, "VmHWM" at most so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def additional_memory(name: str, count: int) -> float:
    """MiB that a step takes at most beyond what this process holds before it."""
    step(ANGLES[name], *batch(8))  # what is loaded once is not the step's
    student, teacher = batch(count)
    before = resident("VmRSS")
    step(ANGLES[name], student, teacher)
    return resident("VmHWM") - before


def weigh(name: str, count: int, threads: int, rounds: int) -> Measured:
    """`additional_memory`, each time in a fresh process."""
    line = [sys.executable, "-m", "benchmarks.rkd", "--inside", name, "--size", str(count), "--threads", str(threads)]
    values = [float(subprocess.run(line, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)]
    return Measured(f"RKD-A, N {count}: {name}, additional memory", "MiB", tuple(values))


def weights(options: argparse.Namespace) -> list[Measured]:
    """Memory of all sizes and sides, how much less ours takes, and how often it fits into what is allowed."""
    found = {
        (count, name): weigh(name, count, options.threads, min(3, options.rounds)) for count, names in WEIGHED.items() for name in names
    }
    less = ratios(found[LEANER, "by hand"].values, found[LEANER, "kinshot"].values)
    fits = tuple(ALLOWED / value for value in found[LARGEST, "kinshot"].values)
    return [
        *found.values(),
        Measured(f"RKD-A, N {LEANER}: memory by hand / kinshot", "ratio", less, LEANER_BAR),
        Measured(f"RKD-A, N {LARGEST}: {ALLOWED:g} MiB / kinshot", "ratio", fits, 1.0),
    ]


def main() -> None:
    """Measure, print, and write a result file where asked."""
    arguments = parser(__doc__, rounds=9, steps=2)
    arguments.add_argument("--inside", choices=list(ANGLES), help=argparse.SUPPRESS)
    arguments.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.inside:
        set_threads(options.threads)
        return say(str(additional_memory(options.inside, options.size)))
    allocator, clock = settle(options.threads), CLOCKS[options.clock]
    measured: list[Measured] = []
    for count, bar in TIMED.items():
        measured += compare("RKD-A", ANGLES, count, bar, options, clock)
        measured += [drawn(count, options, clock), *compare("RKD-D", DISTANCES, count, None, options, clock)]
    if Path("/proc/self/status").exists():
        measured += weights(options)
    for one in measured:
        say(one.line())
    if options.json:
        data = {"dim": DIM, "sizes": list(TIMED), "weighed": list(WEIGHED), "triples": DRAWN}
        notes = [f"clock {options.clock}, {options.threads} threads", allocator, "forward and backward of the loss alone, float32"]
        write_result(options.json, "benchmarks.rkd", data, measured, [], notes)
    return None


if __name__ == "__main__":
    main()
