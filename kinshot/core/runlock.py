"""One run per folder: a lock that the operating system releases when its holder ends, however it ends."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from kinshot.core.atomic import open_plain
from kinshot.core.errors import ConfigError

LOCK = ".lock"
_CONTENT = re.compile(rb"\d{0,20}\n?")
_held: set[int] = set()


def is_lock(path: Path) -> bool:
    """Whether a file is a lock of ours: empty, or a pid and nothing else."""
    try:
        return path.is_file() and not path.is_symlink() and path.stat().st_size <= 32 and bool(_CONTENT.fullmatch(path.read_bytes()))
    except OSError:
        return False


class Busy(ConfigError):
    """Another process holds a lock."""


class RunLock:
    """Holds `folder/.lock` while a process trains into `folder`.

    A context manager; the folder must exist. The lock is the kernel's (`flock`), so a killed run leaves nothing to clean up;
    the file that stays behind only carries the last holder's pid. On systems without `fcntl` (Windows) it does nothing.

    Raises:
        ConfigError: the folder cannot be locked; as Busy, another process holds it (named by its pid).
    """

    def __init__(self, folder: str | Path) -> None:
        self.held, self.path = Path(folder), Path(folder) / LOCK
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock or raise ConfigError at once."""
        try:
            import fcntl
        except ImportError:
            return
        if self._descriptor is not None:
            raise ConfigError(f"{self.held} is already locked by this object: release it first")
        try:
            if os.path.lexists(self.path) and not is_lock(self.path):
                raise ConfigError(f"{self.path} is no lock of kinshot: move it away, or choose another folder")
            descriptor = open_plain(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as problem:
            raise ConfigError(f"cannot lock {self.held}: {problem.strerror}; choose a folder you may write to") from problem
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise Busy(f"{self.held} is in use by process {holder}: wait for it, stop it, or choose another folder") from None
        except OSError as problem:
            os.close(descriptor)
            raise ConfigError(f"cannot lock {self.held}: {problem.strerror}; choose a folder on another disk") from problem
        self._descriptor = descriptor
        _forget_in_children()
        _held.add(descriptor)

    def release(self) -> None:
        """Give the lock back; also for forked children that inherited it. Does nothing when it is not held."""
        if self._descriptor is None:
            return
        import fcntl

        descriptor, self._descriptor = self._descriptor, None
        _held.discard(descriptor)
        with suppress(OSError):
            os.ftruncate(descriptor, 0)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@cache
def _forget_in_children() -> None:
    """Let forked children (data workers) close the locks they inherit: else they would hold them on after the run was killed."""
    os.register_at_fork(after_in_child=_close_held)


def _close_held() -> None:
    while _held:
        os.close(_held.pop())
