"""Published files over HTTPS: what arrives is what was published, by size and SHA-256, or it is not kept."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from kinshot.core.errors import DataError

_CHUNK, _SECONDS = 1 << 20, 30.0


@dataclass(frozen=True)
class Remote:
    """A published file: its address, its size in bytes, and its SHA-256 (hex)."""

    url: str
    size: int
    sha256: str


def fetch(remote: Remote, path: Path) -> None:
    """Download a file to `path`, whose folder is made, or leave nothing there.

    Raises DataError for an address that is not HTTPS, also after a redirection, for a network that fails, and for another content.
    """
    by_hand = f"put the file at {path} by hand, or check the network"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            part = Path(folder, "part")
            found = _received(remote, part)
            if found != remote.sha256:
                raise DataError(f"{remote.url} is not the published file: SHA-256 {found}, expected {remote.sha256}; {by_hand}")
            os.replace(part, path)
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors; a broken answer may be a ValueError
        raise DataError(f"cannot download {remote.url}: {error}; {by_hand}") from error


def fetch_archive(remote: Remote, root: Path) -> None:
    """Download a tar archive and unpack it in `root`; links, devices and paths that leave `root` are refused. Raises DataError."""
    path = root / remote.url.rpartition("/")[2]
    fetch(remote, path)
    try:
        with tarfile.open(path) as archive:
            archive.extractall(root, filter="data")
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"cannot unpack {path}: {error}; check the disk, or unpack it by hand") from error


def _received(remote: Remote, part: Path) -> str:
    """The SHA-256 of what was written to `part`: never more than one byte above the size that was published."""
    digest, rest = hashlib.sha256(), remote.size + 1
    with _opener().open(remote.url, timeout=_SECONDS) as answer, part.open("wb") as file:
        while rest and (data := answer.read(min(_CHUNK, rest))):
            digest.update(data)
            file.write(data)
            rest -= len(data)
    return digest.hexdigest()


def _opener() -> urllib.request.OpenerDirector:
    """Opens HTTPS addresses, through the proxy that the environment names, and nothing else: no http, ftp or file, even when redirected."""
    opener = urllib.request.OpenerDirector()
    proxies = {scheme: address for scheme, address in urllib.request.getproxies().items() if scheme == "https"}
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
