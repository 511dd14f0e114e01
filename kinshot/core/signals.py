"""Stopping on request: a signal sets a flag, the run acts on it where it is safe."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from kinshot.core.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Context manager: the first SIGINT or SIGTERM sets `requested`, the second ends the process at once.

    Long work polls `requested` (None, or the signal's number) at its safe points, in evaluation as well as in training.
    The second signal raises KeyboardInterrupt (SIGINT) or SystemExit(143) (SIGTERM) wherever the program is. The handlers that
    were there before are put back on leaving. In a thread other than the main one nothing is installed. Processes forked
    meanwhile (data workers) end on SIGTERM as usual, and leave SIGINT, which a terminal sends to all, to this process.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict[signal.Signals, Any] = {}
        self._pid = os.getpid()

    def __enter__(self) -> StopRequest:
        self._pid = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for signum in _SIGNALS:
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
            if signum != signal.SIGINT:
                signal.signal(signum, signal.SIG_DFL)
                os.kill(os.getpid(), signum)
            return
        if self.requested is None:
            self.requested = signum
            return
        self._restore()
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signum)

    def _restore(self) -> None:
        while self._previous:
            signum, handler = self._previous.popitem()
            # None: the handler was not installed by Python and cannot be put back by it
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
