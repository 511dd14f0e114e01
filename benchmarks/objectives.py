"""Loss alone, forwards and backwards: the objectives over relations against the same formulas written by hand, and against lightly.

SimCLR's loss of 256 pairs, MoCo's of 256 queries against queues of 4096 and 65536 keys; embeddings of 128 dimensions. The hand-written
side concatenates logits and calls `cross_entropy`, as most code does. Keys are at unit length; by hand they are normalised again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from lightly.loss import NTXentLoss
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import BATCH, CLOCKS, SEED, Clock, Measured, alternate, parser, rate, ratios, say, settle, write_result
from kinshot.core.rng import keyed_generator
from kinshot.kin.constructors import views
from kinshot.objectives.info_nce import key_info_nce
from kinshot.objectives.nt_xent import nt_xent

DIM = 128
QUEUES = (4096, 65536)
SIMCLR_TEMPERATURE, MOCO_TEMPERATURE = 0.5, 0.2
UNIT = "rows/s"
Loss = Callable[[], Tensor]


def rows(count: int, purpose: str) -> Tensor:
    """Random embeddings (count, 128)."""
    return torch.randn(count, DIM, generator=keyed_generator(SEED, f"benchmark/{purpose}"))


def nt_xent_by_hand(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """One matrix of logits with the diagonal masked, and cross-entropy."""
    z = torch.cat([F.normalize(first, dim=1), F.normalize(second, dim=1)])
    logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), torch.arange(len(z)).roll(len(first)))


def info_nce_by_hand(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """The positive's column before the queue's, and cross-entropy with column 0."""
    q, k, n = (F.normalize(x, dim=1) for x in (query, key, queue))
    logits = torch.cat([(q * k).sum(dim=1, keepdim=True), q @ n.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.int64))


def simclr() -> dict[str, Loss]:
    """Every side's loss of two views."""
    first, second = rows(BATCH, "first").requires_grad_(), rows(BATCH, "second").requires_grad_()
    ids = torch.randperm(100 * BATCH, generator=keyed_generator(SEED, "benchmark/ids"))[:BATCH]
    theirs = NTXentLoss(temperature=SIMCLR_TEMPERATURE)
    return {
        "kinshot": lambda: nt_xent(torch.cat([first, second]), views(ids), temperature=SIMCLR_TEMPERATURE),
        "by hand": lambda: nt_xent_by_hand(first, second, SIMCLR_TEMPERATURE),
        "lightly": lambda: theirs(first, second),
    }


def moco(length: int) -> dict[str, Loss]:
    """Every side's loss against a queue; lightly's also enqueues."""
    query, key = rows(BATCH, "query").requires_grad_(), F.normalize(rows(BATCH, "key"), dim=1)
    queue = F.normalize(rows(length, "queue"), dim=1)
    theirs = NTXentLoss(temperature=MOCO_TEMPERATURE, memory_bank_size=(length, DIM))
    return {
        "kinshot": lambda: key_info_nce(query, key, queue, MOCO_TEMPERATURE, normalize="anchors"),
        "by hand": lambda: info_nce_by_hand(query, key, queue, MOCO_TEMPERATURE),
        "lightly": lambda: theirs(query, key),
    }


def measure(title: str, losses: dict[str, Loss], options: argparse.Namespace, clock: Clock) -> list[Measured]:
    """Rates of all sides and how many times faster ours is."""

    def side(loss: Loss) -> Callable[[], float]:
        return lambda: rate(lambda: loss().backward(), BATCH, options.steps, clock)

    sides = {name: side(loss) for name, loss in losses.items()}
    alternate(sides, 1)
    found = alternate(sides, options.rounds)
    measured = [Measured(f"{title}: {name}", UNIT, values) for name, values in found.items()]
    for name in ("by hand", "lightly"):
        bar = 1.0 if name == "by hand" else None
        measured.append(Measured(f"{title}: kinshot / {name}", "ratio", ratios(found["kinshot"], found[name]), bar))
    return measured


def main() -> None:
    """Measure, print, and write a result file where asked."""
    options = parser(__doc__, rounds=15, steps=5).parse_args()
    allocator, clock = settle(options.threads), CLOCKS[options.clock]
    jobs = {"SimCLR, 256 pairs": simclr(), **{f"MoCo, queue {length}": moco(length) for length in QUEUES}}
    measured: list[Measured] = []
    for title, losses in jobs.items():
        measured += measure(title, losses, options, clock)
    for one in measured:
        say(one.line())
    if options.json:
        data = {"batch": BATCH, "dim": DIM, "queues": list(QUEUES)}
        notes = [f"clock {options.clock}, {options.threads} threads", allocator, "forward and backward of the loss alone, float32"]
        write_result(options.json, "benchmarks.objectives", data, measured, ["lightly"], notes)


if __name__ == "__main__":
    main()
