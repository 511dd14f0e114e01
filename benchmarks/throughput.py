"""Training throughput of `ssl pretrain` against lightly's plain-PyTorch example recipe, alternating in one process."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.common import (
    BATCH,
    CLOCKS,
    RATE,
    SEED,
    Clock,
    Measured,
    alternate,
    color_images,
    gray_images,
    parser,
    ratios,
    say,
    settle,
    write_result,
)
from benchmarks.jobs import JobRun
from benchmarks.lightly_recipes import BANK, HIDDEN, LEARNING_RATE, OUT, LightlyRun
from kinshot.core.runtime import resolve_precision
from kinshot.datasets.base import Source

METHODS = {"simclr": "SimCLR", "moco": "MoCo"}
# Ratios that are asked for; ResNet-18's presuppose bf16 instructions, which do most of the work there.
BARS = {("conv4", "simclr"): 2.8, ("conv4", "moco"): 3.5, ("resnet18", "simclr"): 1.8, ("resnet18", "moco"): 1.8}
NAMES = {"conv4": "Conv-4", "resnet18": "ResNet-18"}
DATA = {"conv4": "glyphs 1x28x28", "resnet18": "random colour 3x32x32"}
# The transforms of lightly's two recipes, as settings of `warp`: the same operations, probabilities and strengths.
CROP = {"rotation": 0.0, "scale": [1.0, 1.0], "crop_aspect": 0.2877, "flip": 0.5, "jitter": 0.8}
VIEWS: dict[str, dict[str, Any]] = {
    "simclr": {**CROP, "crop": [0.08, 1.0], "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "gray": 0.2},
    "moco": {**CROP, "crop": [0.2, 1.0], "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "gray": 0.2},
}


def kinshot_run(method: str, encoder: str, source: Source, batch_size: int, precision: str) -> JobRun:
    """`ssl pretrain`'s job with lightly's settings."""
    recipe = {
        "data": "glyphs",  # not read: the job gets its source directly
        "views": {"name": "warp", **VIEWS[method]},
        "encoder": encoder,
        "projector": {"layers": 2, "hidden": HIDDEN, "dim": OUT},
        "method": {"name": method, "temperature": 0.5, **({"queue": BANK} if method == "moco" else {})},
        "train": {
            "epochs": 1_000_000, "batch_size": batch_size, "optimizer": "sgd", "lr": LEARNING_RATE,
            "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0, "precision": precision,
        },
        "seed": SEED,
    }  # fmt: skip
    return JobRun(recipe, source)


def compare(method: str, encoder: str, source: Source, options: argparse.Namespace, bf16: bool) -> list[Measured]:
    """Rates of every side and our ratio to lightly in the training process, one figure per round."""
    runs: dict[str, JobRun | LightlyRun] = {
        "kinshot": kinshot_run(method, encoder, source, options.batch, options.precision),
        "lightly": LightlyRun(method, encoder, source, options.batch),
    }
    if options.workers:
        runs[f"lightly, {options.workers} workers"] = LightlyRun(method, encoder, source, options.batch, options.workers)
    for run in runs.values():
        run.measure(1, CLOCKS["wall"])
    found = alternate({name: _of(run, options.steps, CLOCKS[options.clock]) for name, run in runs.items()}, options.rounds)
    title = f"{NAMES[encoder]} {METHODS[method]}"
    measured = [Measured(f"{title}, {name}", RATE, values) for name, values in found.items()]
    comparable = options.batch == BATCH and (encoder == "conv4" or bf16)
    bar = BARS[encoder, method] if comparable else None
    return [*measured, Measured(f"{title}, kinshot / lightly", "times", ratios(found["kinshot"], found["lightly"]), bar)]


def main() -> None:
    """Measure, print, and write the result file if one is asked for."""
    arguments = parser(__doc__, rounds=5, steps=20)
    arguments.add_argument("--only", choices=list(NAMES), help="one encoder (default both)")
    arguments.add_argument("--method", choices=list(METHODS), help="one method (default both)")
    arguments.add_argument("--workers", type=int, default=0, help="add rows of lightly with so many loader processes (default none)")
    arguments.add_argument("--batch", type=int, default=BATCH, help="images in a step; smaller only to try it out (default %(default)s)")
    arguments.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="our precision (default %(default)s)")
    options = arguments.parse_args()
    if options.workers and options.clock == "cpu":
        arguments.error("--clock cpu does not see loader processes: leave out --workers, or use --clock wall")
    allocator = settle(options.threads)
    precision, reason = resolve_precision(options.precision, torch.device("cpu"))
    notes = [
        f"kinshot's precision: {precision} ({reason}); lightly's: fp32",
        f"{allocator}; the same for every side",
        f"threads: {options.threads}, clock: {options.clock}",
    ]
    if precision == "fp32" and options.only != "conv4":
        notes.append("no bar for ResNet-18: it presupposes bf16 instructions")
    for note in notes:
        say(note)
    measured: list[Measured] = []
    for encoder in [options.only] if options.only else list(NAMES):
        source = gray_images() if encoder == "conv4" else color_images()
        for method in [options.method] if options.method else list(METHODS):
            found = compare(method, encoder, source, options, precision == "bf16")
            for one in found:
                say(one.line())
            measured += found
    if options.json:
        data = {
            **{NAMES[name]: DATA[name] for name in NAMES if options.only in (None, name)},
            "batch": options.batch,
            "views": 2,
            "rounds": options.rounds,
            "steps": options.steps,
        }
        write_result(options.json, "benchmarks.throughput", data, measured, ("lightly", "torchvision", "pillow"), notes)


def _of(run: JobRun | LightlyRun, steps: int, clock: Clock) -> Callable[[], float]:
    return lambda: run.measure(steps, clock)


if __name__ == "__main__":
    main()
