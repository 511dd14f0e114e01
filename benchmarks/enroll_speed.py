"""Seconds to teach five photographs to a classifier of 500 classes, in a process that has its encoder and from cold, and to ask it one.

`python -m benchmarks.enroll_speed --data FOLDER [--json FILE]`, FOLDER holding at least 2,506 photographs in any folders: each five of
them, in the order of their paths, are one of the classes, whatever they show. From cold is a fresh process with all its imports.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import CLOCKS, Measured, alternate, parser, say, settle, write_result
from kinshot.datasets.files import digest
from kinshot.datasets.survey import list_images
from kinshot.fewshot.enrolled.fit import fit
from kinshot.fewshot.enrolled.support import Shot, Support
from kinshot.fewshot.specs import parse_head
from kinshot.runs.classifier import open_encoder
from kinshot.runs.kin_file import KinFile, write_kin
from kinshot.runs.teaching import DEFAULT_ENCODER, DEFAULT_HEAD, enroll

CLASSES, SHOTS = 500, 5
BARS = {"enroll, loaded": 2.0, "enroll, cold": 6.0, "predict, cold": 5.0}
"""Seconds that each may take."""


def taught(path: Path, files: list[Path], opened) -> None:  # type: ignore[no-untyped-def]  # what open_encoder gives
    """A classifier of these files, SHOTS of them a class."""
    model, identity = opened
    rows = {Shot(f"class {n // SHOTS:03}", digest(file.read_bytes()), file.name): n for n, file in enumerate(files)}
    order = sorted(rows)
    support = Support(tuple(order), model.embed(files)["backbone"][[rows[shot] for shot in order]])
    head, settings = parse_head(DEFAULT_HEAD)
    write_kin(path, KinFile(support, fit(support, head, settings), head, settings, identity))


def seconds(clock: str, work: Callable[[], object]) -> float:
    """What a call takes in this process."""
    started = CLOCKS[clock]()
    work()
    return CLOCKS[clock]() - started


def seconds_cold(clock: str, *arguments: object) -> float:
    """What a fresh process of `fewshot` takes, its start and its end among it."""
    line = [sys.executable, "-c", "from kinshot.cli.fewshot import main; main()", *map(str, arguments)]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used if clock == "cpu" else time.perf_counter() - started


def main() -> int:
    """Measure; 1 where something took longer than it may."""
    arguments = parser((__doc__ or "").splitlines()[0], rounds=5, steps=1)
    arguments.add_argument("--data", type=Path, required=True)
    given = arguments.parse_args()
    settle(given.threads)
    os.environ |= {"OMP_NUM_THREADS": str(given.threads), "MKL_NUM_THREADS": str(given.threads)}
    unique = {digest(file.read_bytes()): file for file in list_images(given.data)}
    files = list(unique.values())[: CLASSES * SHOTS + SHOTS + 1]
    if len(files) <= CLASSES * SHOTS + SHOTS:
        raise SystemExit(f"{given.data} holds {len(files)} different photographs, and {CLASSES * SHOTS + SHOTS + 1} are needed")
    new, query = files[-SHOTS - 1 : -1], files[-1]
    opened = open_encoder(DEFAULT_ENCODER)
    with tempfile.TemporaryDirectory() as folder:
        whole, copy = Path(folder) / "whole.kin", Path(folder) / "copy.kin"
        taught(whole, files[: CLASSES * SHOTS], opened)

        def fresh() -> Path:
            shutil.copyfile(whole, copy)
            return copy

        def loaded() -> float:
            path = fresh()
            return seconds(given.clock, lambda: enroll(path, "new", new, opened=opened))

        sides = {
            "enroll, loaded": loaded,
            "enroll, cold": lambda: seconds_cold(given.clock, "enroll", fresh(), "new", *new),
            "predict, cold": lambda: seconds_cold(given.clock, "predict", whole, query),
        }
        found = alternate(sides, given.rounds)
    rows = [Measured(name, "s", values) for name, values in found.items()]
    rows += [Measured(f"{name}: {BARS[name]:g} s / seconds", "ratio", tuple(BARS[name] / v for v in found[name]), 1.0) for name in found]
    for row in rows:
        say(row.line())
    if given.json:
        data = {"name": "Grocery Store, 48 pixels", "classes": CLASSES, "photographs a class": SHOTS, "encoder": DEFAULT_ENCODER}
        notes = [
            f"{given.threads} threads, {given.clock} time",
            "the new class has five photographs; from cold is a whole process, from its start to its end",
        ]
        write_result(Path(given.json), "benchmarks.enroll_speed", data, rows, [], notes)
    return int(any(max(values) > BARS[name] for name, values in found.items()))


if __name__ == "__main__":
    raise SystemExit(main())
