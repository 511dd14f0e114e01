"""A page over a small classifier, asked without a browser, and one that is served to a real one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from PIL import Image

from kinshot.studio.limits import Limits
from tests.enrolled_tools import taught

if TYPE_CHECKING:
    from starlette.testclient import TestClient

PORT, TOKEN = 8765, "t" * 43
ORIGIN = f"http://127.0.0.1:{PORT}"
KNOWN = {"cherry": 4, "leaf": 4, "sky": 4}
SMALL = replace(Limits(), file=40_000, request=200_000, files=5, words=2_000, pictures=3)


@cache
def _taught(labels: tuple[str, ...]) -> bytes:
    """A file that was taught four photographs of each class, with small pictures of them."""
    with TemporaryDirectory() as folder:
        taught(Path(folder, "a.kin"), Path(folder), labels, thumbnails=16)
        return Path(folder, "a.kin").read_bytes()


@contextmanager
def asked(folder: Path, *, limits: Limits = Limits(), labels: tuple[str, ...] = ("cherry", "leaf", "sky")) -> Iterator[TestClient]:  # noqa: B008
    """A client that has the key, of the page of `folder`/a.kin, which knows some classes."""
    from starlette.testclient import TestClient  # here, as who does without kinshot[studio] is to skip these tests, not to fail in them

    from kinshot.studio.app import build_app
    from kinshot.studio.security import Doors
    from kinshot.studio.state import Studio

    if labels:
        (folder / "a.kin").write_bytes(_taught(labels))
    (folder / "private").mkdir()
    studio = Studio(folder / "a.kin", device="cpu", limits=limits)
    with ThreadPoolExecutor(1) as worker:
        app = build_app(studio, Doors(PORT, TOKEN), folder / "private", worker)
        headers = {"origin": ORIGIN, "x-kinshot-token": TOKEN}
        with TestClient(app, base_url=ORIGIN, headers=headers, raise_server_exceptions=False) as client:
            client.worker = worker  # type: ignore[attr-defined]
            yield client


def form(*files: Path | tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Files as a form's images."""
    return [("images", (file.name, file.read_bytes()) if isinstance(file, Path) else file) for file in files]


def state(client: TestClient) -> dict[str, Any]:
    """What the page shows."""
    return dict(client.get("/api/state").json())


def counts(found: dict[str, Any]) -> dict[str, int]:
    """Images of each class."""
    return {one["class"]: len(one["images"]) for one in found["classes"]}


def undo(client: TestClient, again: bool = False) -> Any:
    """One step back, or one again."""
    return client.post("/api/undo", json={"again": "1"} if again else {})


def picture(size: tuple[int, int] = (20, 20), kind: str = "PNG", colour: str = "teal") -> bytes:
    """A file with a picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind)
    return file.getvalue()
