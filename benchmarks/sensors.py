"""Augmented windows of sensors, alone and with a step of training: whole batches against a Dataset that augments window by window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.common import BATCH, CLOCKS, SEED, Clock, Measured, alternate, parser, rate, ratios, say, settle, write_result
from benchmarks.jobs import JobRun
from benchmarks.sensor_peer import Augment, Network, PeerRun, Windows, chain, weak_strong
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.base import Source
from kinshot.datasets.recording import Recording, Track
from kinshot.datasets.windows import Cut, WindowSource

COUNT, STEPS, HERTZ = 7352, 128, 50.0  # training windows of UCI HAR, their steps and rate
LAYERS = [(48, 10, 4), (24, 8, 2), (40, 4, 1)]  # widths, taps and strides of COCOA's encoder, one for each sensor
PROJECTOR, TEMPERATURE, LR = (64, 64), 0.5, 1e-3
OURS, THEIRS = "kinshot", "window by window"
RATE = "windows/s"
BAR = 5.0
SETTINGS = dict(zip(("widths", "kernels", "strides"), (list(values) for values in zip(*LAYERS, strict=True)), strict=True))


@dataclass(frozen=True)
class Case:
    """Sensors with their channels, and views of both sides."""

    sensors: dict[str, int]
    views: dict[str, Any]
    encoder: dict[str, Any]
    peer: Augment


CASES = {
    "TS-TCC's pair": Case(
        {"body": 9},
        {"name": "weak_strong", "scaling": 1.1, "scaling_mean": 2.0, "segments": 8, "jitter": 0.8},
        {"name": "series_cnn", **SETTINGS},
        weak_strong,
    ),
    "chain of six": Case(
        {"acc": 3, "gyro": 3, "total": 3},
        {
            "name": "sensor", "rotation": 0.5, "devices": ["acc+gyro+total"], "time_warp": 0.5, "permutation": 0.5, "segments": 5,
            "magnitude_warp": 0.5, "scaling": 0.1, "jitter": 0.05,
        },
        {"name": "fused", "each": ":".join(["series_cnn", *(f"{name}={values}" for name, values in SETTINGS.items())])},
        chain,
    ),
}  # fmt: skip


def windows_of(sensors: dict[str, int]) -> WindowSource:
    """Random windows of the number and size of UCI HAR's; what is in them does not change how long they take."""
    rng = keyed_numpy(SEED, "benchmark/sensors")
    tracks = {name: Track(rng.standard_normal((COUNT * STEPS, size), dtype=np.float32), HERTZ) for name, size in sensors.items()}
    seconds = STEPS / HERTZ
    return WindowSource([Recording("random", tracks)], Cut(seconds, seconds, labels="none"), name="random windows")


def ours(case: Case, source: Source) -> JobRun:
    """`ssl pretrain`'s job."""
    recipe = {
        "data": "motion",  # not read: the job gets its source directly
        "views": case.views,
        "encoder": case.encoder,
        "projector": {"layers": 2, "hidden": PROJECTOR[0], "dim": PROJECTOR[1]},
        "method": {"name": "simclr", "temperature": TEMPERATURE},
        "train": {
            "epochs": 1_000_000, "batch_size": BATCH, "optimizer": "adamw", "lr": LR, "schedule": "constant", "warmup": 0.0,
            "precision": "fp32",
        },
        "seed": SEED,
    }  # fmt: skip
    return JobRun(recipe, source)


def theirs(case: Case, source: Source) -> PeerRun:
    """The same windows, standardised, in one array."""
    loaded = source.load(np.arange(len(source)), list(case.sensors))
    fields = loaded if isinstance(loaded, dict) else {"": loaded}
    x = torch.cat(list(fields.values()), 1).double().numpy()
    x = (x - x.mean((0, 2), keepdims=True)) / x.std((0, 2), keepdims=True)
    network = Network(list(case.sensors.values()), LAYERS, PROJECTOR)
    return PeerRun(Windows(x, case.peer, SEED), network, BATCH, TEMPERATURE, LR)


def compare(title: str, case: Case, rounds: int, steps: int, clock: Clock) -> list[Measured]:
    """Rates of both sides, augmentation alone and with training, and our ratios, one figure per round."""
    source = windows_of(case.sensors)
    job, peer = ours(case, source), theirs(case, source)
    samples, indices = next(iter(job.job.batches(0, 0)))
    epochs = iter(range(10**9))
    batch = samples if isinstance(samples, torch.Tensor) else next(iter(samples.values()))

    def views() -> object:
        return job.job.make_batch.views(batch, indices, seed=SEED, epoch=next(epochs))

    for first in (lambda: job.measure(1, clock), lambda: peer.measure(1, clock), views):
        first()
    sides: dict[str, dict[str, Callable[[], float]]] = {
        "augmentation": {OURS: lambda: rate(views, BATCH, 4 * steps, clock), THEIRS: lambda: peer.augmented(steps, clock)},
        "augmentation and training": {OURS: lambda: job.measure(steps, clock), THEIRS: lambda: peer.measure(steps, clock)},
    }
    measured = []
    for what, pair in sides.items():
        found = alternate(pair, rounds)
        measured += [Measured(f"{title}, {what}, {name}", RATE, values) for name, values in found.items()]
        measured.append(Measured(f"{title}, {what}, {OURS} / {THEIRS}", "times", ratios(found[OURS], found[THEIRS]), BAR))
    return measured


def main() -> None:
    """Measure, print, and write the result file if one is asked for."""
    options = parser(__doc__, rounds=5, steps=3).parse_args()
    notes = [
        f"{settle(options.threads)}; the same for every side",
        f"threads: {options.threads}, clock: {options.clock}, precision: fp32 on both sides",
        "windows/s counts source windows, two views each; the other side's DataLoader has no further processes",
    ]
    for note in notes:
        say(note)
    measured: list[Measured] = []
    for title, case in CASES.items():
        found = compare(title, case, options.rounds, options.steps, CLOCKS[options.clock])
        for one in found:
            say(one.line())
        measured += found
    if options.json:
        shapes = {title: f"random, {' + '.join(f'{size} x {STEPS}' for size in case.sensors.values())}" for title, case in CASES.items()}
        data = {**shapes, "batch": BATCH, "views": 2, "rounds": options.rounds, "steps": options.steps}
        write_result(options.json, "benchmarks.sensors", data, measured, ("numpy", "scipy"), notes)


if __name__ == "__main__":
    main()
