"""Processes that write an index: `killed FOLDER OUT COUNT` kills them again and again, `two FOLDER OUT` runs two at once; a program."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from kinshot.core.rng import keyed_numpy
from kinshot.core.runlock import Busy
from kinshot.index import building, shards
from kinshot.index.opened import open_index
from tests.index_tools import build, contents

building.FILES, building.BATCH, shards.ROWS = 6, 4, 16  # many small parts and shards, so that a kill falls between any two of them

TRIES = 12
"""Writers in a row that are killed at most, before one may end its work."""


def forked(work) -> int:
    """A child that does some work and ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except Busy:
            code = 7
        finally:
            os._exit(code)
    return child


def killed(folder: Path, out: Path, count: int) -> None:
    """Kill writers at drawn moments; each state between must be whole, and the last one that of a writer that nobody stopped."""
    whole, later = out.with_name("whole"), folder.parent / "later"
    build(folder, whole)
    shutil.copytree(folder, later)
    for number, path in enumerate(sorted(later.rglob("*.png"))):
        if number % 5 == 0:
            path.unlink()
        elif number % 7 == 1:
            path.rename(path.with_name(f"moved{number}.png"))
    started = time.monotonic()
    build(later, whole)
    takes = time.monotonic() - started
    states, kills, finished, resumed, number = set(), 0, 0, 0, 0
    while kills < count:
        shutil.rmtree(out, ignore_errors=True)
        for place in (folder, later):  # a new index, and one that is brought up to date
            for _ in range(TRIES):
                number += 1
                child = forked(lambda place=place: build(place, out))
                time.sleep(float(keyed_numpy(0, "kill", number).uniform(0.05, 1.2)) * takes)
                os.kill(child, signal.SIGKILL)
                done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                kills += not done
                if (out / "index.json").exists():
                    states.add(len(open_index(out, verify=True)))
                resumed += any(out.glob("part-*"))
                if done:
                    finished += 1
                    break
            else:
                build(place, out)
    same = contents(out) == contents(whole)
    sys.stdout.write(f"{same} {sorted(states)} {finished}; {kills} kills, {resumed} times parts were left\n")


def two(folder: Path, out: Path) -> None:
    """Two writers at once: one does it all, the other waits, or is told."""
    children = [forked(lambda: build(folder, out)) for _ in range(2)]
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    sys.stdout.write(f"{codes} {len(open_index(out, verify=True))}\n")


if __name__ == "__main__":
    if sys.argv[1] == "two":
        two(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        killed(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
