"""One writer per file: others wait for it, and whoever reads needs no lock, because files are replaced whole."""

from __future__ import annotations

import time
from pathlib import Path

from kinshot.core.runlock import Busy, RunLock

_PAUSE = 0.02


class FileLock(RunLock):
    """Holds `.NAME.lock` beside the file NAME while a process reads it, changes what it read, and replaces it.

    A context manager; the file's folder must exist, the file need not. Like a run's, the lock is the kernel's: a killed process leaves
    nothing to clean up. On systems without `fcntl` (Windows) it does nothing.

    Args:
        file: the file.
        wait: seconds to wait for another process.

    Raises:
        ConfigError: the file cannot be locked; as Busy, another process still holds it.
    """

    def __init__(self, file: str | Path, wait: float = 60.0) -> None:
        super().__init__(Path(file).parent)
        self.held, self.path = Path(file), Path(file).with_name(f".{Path(file).name}.lock")
        self.wait = wait

    def acquire(self) -> None:
        """Take the lock, waiting for another process to give it back."""
        until = time.monotonic() + self.wait
        while True:
            try:
                return super().acquire()
            except Busy:
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)
