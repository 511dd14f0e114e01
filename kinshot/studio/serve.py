"""The page on a port of this machine, from the first request to Ctrl-C."""

from __future__ import annotations

import errno
import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import python_multipart  # noqa: F401 - what forms are read with; where it is missing, that is to be said at once
import uvicorn

from kinshot.core.atomic import write_text
from kinshot.core.errors import ConfigError, KinshotError
from kinshot.core.signals import StopRequest
from kinshot.studio.app import build_app
from kinshot.studio.security import LOOPBACK, Doors, new_token
from kinshot.studio.state import Studio

_GRACE, _LOOK = 10, 0.2
_OPENER = """<!DOCTYPE html>
<meta charset="utf-8"><meta name="referrer" content="no-referrer"><meta http-equiv="refresh" content="0; url={url}">
"""


@dataclass(frozen=True)
class Served:
    """A page that is being served.

    Attributes:
        url: its address, with the key.
        folder: of its own, and gone afterwards.
        ended: set once nothing is served any more.
    """

    url: str
    folder: Path
    ended: threading.Event

    def open_browser(self) -> bool:
        """Show the page in the browser; whether there was one. The key is passed in a file: who lists processes reads their arguments."""
        file = self.folder / "open.html"
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
        write_text(file, _OPENER.format(url=self.url))
        return webbrowser.open(file.as_uri())

    def wait(self) -> None:
        """Until a signal asks to stop.

        Raises:
            KeyboardInterrupt: for Ctrl-C.
            Interrupted: for another signal.
            KinshotError: the server ended by itself.
        """
        with StopRequest() as stop:
            while stop.requested is None and not self.ended.wait(_LOOK):
                pass
            if stop.requested == signal.SIGINT:
                raise KeyboardInterrupt
            stop.raise_if_requested("while the page was open; what was taught is in the file")
        raise KinshotError("the server ended by itself, and said why above; what was taught is in the file: start it again")


def bound(port: int) -> socket.socket:
    """A socket that listens on a port of the loopback interface, 0 for any free one. Raises ConfigError where that is not to be had."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port is a number from 0 (any free port) to 65535, got {port}")
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name != "nt")  # on Windows it would share a port with others
    try:
        found.bind((LOOPBACK, port))
        found.listen(64)
    except OSError as problem:
        found.close()
        why = "is in use" if problem.errno == errno.EADDRINUSE else f"cannot be used ({problem.strerror})"
        raise ConfigError(f"port {port} {why}: choose another one with --port, or 0 for any that is free") from problem
    return found


@contextmanager
def serving(studio: Studio, port: int) -> Iterator[Served]:
    """Inside, the page is served; on leaving, what is being written is written to its end. Raises ConfigError as `bound` does."""
    with bound(port) as listening, TemporaryDirectory(prefix="kinshot-studio-") as folder, ThreadPoolExecutor(1, "studio") as worker:
        doors = Doors(listening.getsockname()[1], new_token())
        app = build_app(studio, doors, Path(folder), worker)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, ws="none", lifespan="off", http="h11",
            timeout_graceful_shutdown=_GRACE, proxy_headers=False,
        )  # fmt: skip
        server, ended = uvicorn.Server(config), threading.Event()

        def run() -> None:
            try:
                server.run(sockets=[listening])
            finally:
                ended.set()

        thread = threading.Thread(target=run, name="studio server", daemon=True)
        thread.start()
        try:
            yield Served(f"http://{LOOPBACK}:{doors.port}/#{doors.token}", Path(folder), ended)
        finally:
            server.should_exit = True
            thread.join()
            worker.shutdown(cancel_futures=True)
