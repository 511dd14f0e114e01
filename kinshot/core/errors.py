"""Errors a user can act on. Each says what, what was got and what to do; each has its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KinshotError(Exception):
    """Base of every error that kinshot raises on purpose (exit code 1 unless a subclass says otherwise)."""

    exit_code = 1


class ConfigError(KinshotError):
    """A recipe, key, value, name or command-line argument is wrong (exit code 2)."""

    exit_code = 2


class DataError(KinshotError):
    """A file or data set is missing, unreadable or unfit for what was asked (exit code 3)."""

    exit_code = 3


class ResourceError(DataError):
    """Memory ran out, or the system ended a process that loaded data (exit code 3)."""


class CheckpointError(KinshotError):
    """A checkpoint is missing, damaged, foreign, or cannot be written (exit code 3)."""

    exit_code = 3


class DivergedError(KinshotError):
    """Training produced a loss or gradient that is not finite (exit code 4)."""

    exit_code = 4


class Interrupted(KinshotError):
    """A signal asked the run to stop, and it stopped at a step boundary (exit code 128 + signal number)."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


_OUT_OF_MEMORY = ("out of memory", "can't allocate", "cannot allocate", "not enough memory", "unable to allocate")
_DEAD_LOADER = "DataLoader worker"


def resource_error(error: BaseException) -> ResourceError | None:
    """What to tell a user of an error that says, in some library's words, that resources ran out; None for any other.

    PyTorch reports a dead loader process wherever the main process happens to be, so no place in the code can expect it.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and text.startswith(_DEAD_LOADER):
        return ResourceError(
            f"a loader process died: {text}: the system ends processes when memory runs out; lower train.workers or train.batch_size, or "
            "free memory; a run goes on from its last checkpoint with --resume auto"
        )
    short = isinstance(error, RuntimeError | OSError) and any(words in text.lower() for words in _OUT_OF_MEMORY)
    if isinstance(error, MemoryError) or short:
        return ResourceError(
            f"memory ran out ({text or type(error).__name__}): lower train.batch_size, train.workers, data.size or data.in_memory_mib, "
            "or use a smaller encoder; a run goes on from its last checkpoint with --resume auto"
        )
    return None


def suggest(name: str, choices: Iterable[str]) -> str:
    """The tail of an error message: the closest valid name, all of them when there are few, or that there is none."""
    names = sorted(choices)
    if not names:
        return "there is none"
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(names) <= 12:
        return "valid names: " + ", ".join(names)
    return f"one of {len(names)} names, the first are " + ", ".join(names[:12])
