"""Processes that write one classifier: `two FILE FOLDER` at once, or `killed FILE FOLDER COUNT` again and again; run as a program."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from kinshot.core.rng import keyed_numpy
from kinshot.runs.kin_file import read_kin
from kinshot.runs.teaching import enroll, forget
from tests.enrolled_tools import small_encoder


def forked(work) -> int:
    """A child that does some work and ends."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def two(path: Path, files: list[Path]) -> None:
    """Two processes teach six classes each, an image at a time, at once."""
    opened = small_encoder()

    def teach(part: int) -> None:
        for number in range(6):
            enroll(path, f"class {part} {number}", [files[6 * part + number]], opened=opened)

    children = [forked(lambda part=part: teach(part)) for part in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    support = read_kin(path).support
    sys.stdout.write(f"{codes} {len(support.classes)} {len(support.shots)}\n")


def killed(path: Path, files: list[Path], count: int) -> None:
    """A process that teaches and forgets is killed at drawn moments; what it leaves must be a state that it wrote."""
    opened = small_encoder()
    enroll(path, "stays", files[:1], opened=opened)

    def work() -> None:
        while True:
            enroll(path, "comes and goes", files[1:3], opened=opened)
            forget(path, "comes and goes")

    seen, left, started = set(), 0, time.monotonic()
    for number in range(count):
        child = forked(work)
        time.sleep(float(keyed_numpy(0, "kill", number).uniform(0.01, 0.25)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(read_kin(path).support.classes)
        left = max(left, len(list(path.parent.glob(f".{path.name}.tmp-*"))))
    forget_again = enroll(path, "comes and goes", files[1:3], opened=opened)  # a killed writer holds no lock
    after = len(list(path.parent.glob(f".{path.name}.tmp-*")))
    known = seen <= {("stays",), ("comes and goes", "stays")}
    seconds = time.monotonic() - started
    sys.stdout.write(
        f"{known} {len(seen)} {len(forget_again.kin.support.classes)} {after}; {count} kills in {seconds:.1f} s, most left {left}\n"
    )


if __name__ == "__main__":
    place = Path(sys.argv[2])
    pictures = sorted(Path(sys.argv[3]).rglob("*.png"))
    if sys.argv[1] == "two":
        two(place, pictures)
    else:
        killed(place, pictures, int(sys.argv[4]))
