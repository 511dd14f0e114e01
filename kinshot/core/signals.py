"""Stopping on request: a signal sets a flag, the run acts on it where it is safe."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from kinshot.core.errors import Interrupted

_HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = tuple(filter(None, (signal.SIGINT, signal.SIGTERM, _HANGUP)))
FOR_THE_PARENT = tuple(filter(None, (signal.SIGINT, _HANGUP)))
"""What a terminal sends to all its processes at once: helper processes leave it to the one that decides when to stop."""


class StopRequest:
    """Context manager: the first SIGINT, SIGTERM or SIGHUP sets `requested`, the second ends the process at once.

    Long work polls `requested` (None, or the signal's number) at its safe points, in evaluation as well as in training.
    The second signal raises KeyboardInterrupt (SIGINT) or SystemExit(143) (SIGTERM) wherever the program is. The kernel and the
    shell both tell of a closed terminal, so that SIGHUP counts neither as a second signal nor as a first; under nohup, where it
    is ignored, it stays ignored. What is written to a terminal that is gone goes nowhere, and is no error. The handlers that
    were there before are put back on leaving. In a thread other than the main one nothing is installed. Processes forked
    meanwhile (data workers) end on SIGTERM as usual, and leave SIGINT and SIGHUP, which a terminal sends to all, to this one.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._pid = os.getpid()
        self._terminals: list[int] = []

    def __enter__(self) -> StopRequest:
        self._pid = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
            for signum in _SIGNALS:
                if signum != _HANGUP or signal.getsignal(signum) != signal.SIG_IGN:
                    self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def raise_if_requested(self, where: str) -> None:
        """Raise Interrupted, saying `where`, if a signal came."""
        if self.requested is not None:
            raise Interrupted(f"stopped by {signal.Signals(self.requested).name} {where}", self.requested)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            if signum not in FOR_THE_PARENT:
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
            return
        if signum == _HANGUP:
            self._forget_lost_terminals()
        if self.requested in (None, _HANGUP):
            self.requested = signum
            return
        if signum == _HANGUP:
            return
        self._restore()
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signum)

    def _forget_lost_terminals(self) -> None:
        lost = [descriptor for descriptor in self._terminals if not os.isatty(descriptor)]
        if lost:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in lost:
                os.dup2(nowhere, descriptor)
            os.close(nowhere)
        self._terminals = [descriptor for descriptor in self._terminals if descriptor not in lost]

    def _restore(self) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            # None: the handler was not installed by Python and cannot be put back by it
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
