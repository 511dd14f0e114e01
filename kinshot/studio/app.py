"""The page as an application: addresses, and what answers them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kinshot.core.errors import DataError, KinshotError
from kinshot.core.small_files import read_file
from kinshot.runs.teaching import TaughtElsewhere
from kinshot.studio.security import Doors, Guard
from kinshot.studio.state import Studio
from kinshot.studio.uploads import Received, received
from kinshot.studio.words import answer_of, listed, png, state_of

T = TypeVar("T")
UPLOADS = ("/api/teach", "/api/predict")
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_DIGEST = re.compile(r"[0-9a-f]{32}")
_LARGEST_MODEL = 2**36


def build_app(studio: Studio, doors: Doors, folder: Path, worker: ThreadPoolExecutor) -> Starlette:
    """The application behind its guard.

    Args:
        studio: what it shows.
        doors: who is let in.
        folder: where images lie while they are used; nobody else may look into it.
        worker: one thread, in which everything is computed and written, one request after the other.
    """
    page = _Page(studio, folder, worker)
    routes = [Route("/", _static("index.html")), *(Route(f"/{name}", _static(name)) for name in static_names() if name != "index.html")]
    routes += [
        Route("/api/state", page.state),
        Route("/api/picture/{digest}", page.picture),
        Route("/api/model", page.model),
        Route("/api/teach", page.teach, methods=["POST"]),
        Route("/api/predict", page.predict, methods=["POST"]),
        Route("/api/forget", page.forget, methods=["POST"]),
        Route("/api/undo", page.undo, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, doors=doors, limits=studio.limits, uploads=UPLOADS)],
        exception_handlers={KinshotError: _refused, HTTPException: _http, OSError: _disk, Exception: _internal},
    )


def static_names() -> list[str]:
    """The files of the page; nothing else is ever served from a disk by its name."""
    return sorted(place.name for place in (files("kinshot.studio") / "static").iterdir() if Path(place.name).suffix in _TYPES)


class _Page:
    def __init__(self, studio: Studio, folder: Path, worker: ThreadPoolExecutor) -> None:
        self.studio, self.folder, self.worker = studio, folder, worker

    async def state(self, request: Request) -> Response:
        """What is taught; 204 where that is what the page knows already."""
        seen = await asyncio.to_thread(self.studio.look)
        if request.query_params.get("revision") == str(seen.revision):
            return Response(status_code=204)
        return JSONResponse(state_of(self.studio, seen))

    async def picture(self, request: Request) -> Response:
        """The small picture of an image, by the hash of its content."""
        digest = request.path_params["digest"]
        found = self.studio.picture(digest) if _DIGEST.fullmatch(digest) else None
        if found is None:
            raise HTTPException(404, "no picture is kept of this image")
        return Response(png(found), media_type="image/png")

    async def model(self, request: Request) -> Response:
        """The file itself."""
        path = self.studio.path
        content = await asyncio.to_thread(read_file, path, most=_LARGEST_MODEL, remedy="teach a class first")
        names = f"attachment; filename=\"model.kin\"; filename*=UTF-8''{quote(path.name, safe='')}"
        return Response(content, media_type="application/octet-stream", headers={"content-disposition": names})

    async def teach(self, request: Request) -> Response:
        """Teach a class the images of a form: `label`, `images`, perhaps `move` and `drop`."""

        def work(found: Received, words: dict[str, str]) -> dict[str, Any]:
            if not found.images:
                raise DataError("; ".join(listed(found.refused)))
            done = self.studio.teach(words.get("label", ""), found.images, move=words.get("move") == "1", drop=words.get("drop", ""))
            return {"class": done.label, "added": len(done.added), "notes": done.notes, "refused": found.refused}

        return await self._with_images(request, work)

    async def predict(self, request: Request) -> Response:
        """Say what the images of a form show."""

        def work(found: Received, words: dict[str, str]) -> dict[str, Any]:
            if not found.images:
                raise DataError("; ".join(listed(found.refused)))
            seen, said = self.studio.predict(found.images)
            answers = [answer_of(image, one, seen) for image, one in zip(found.images, said, strict=True)]
            return {"answers": answers, "refused": found.refused}

        return await self._with_images(request, work)

    async def forget(self, request: Request) -> Response:
        """Take out a class, or one image of it."""
        words = await _words(request)

        def work() -> dict[str, Any]:
            done = self.studio.forget(words.get("class", ""), words.get("image", ""))
            return {"class": done.label, "gone": len(done.added), "notes": done.notes}

        return await self._changed(work)

    async def undo(self, request: Request) -> Response:
        """Undo the last step, or do one again."""
        again = (await _words(request)).get("again") == "1"

        def work() -> dict[str, Any]:
            name, done = self.studio.undo(again=again)
            return {"step": name, "notes": done.notes}

        return await self._changed(work)

    async def _with_images(self, request: Request, work: Callable[[Received, dict[str, str]], dict[str, Any]]) -> Response:
        limits = self.studio.limits
        async with request.form(max_files=limits.files, max_fields=8, max_part_size=limits.words) as form:
            words = {name: value for name, value in form.multi_items() if isinstance(value, str)}

            def whole() -> dict[str, Any]:
                with received(form, "images", self.folder, limits, self.studio.side) as found:
                    return work(found, words)

            return await self._changed(whole)

    async def _changed(self, work: Callable[[], dict[str, Any]]) -> Response:
        """What a piece of work gives, with the state after it. The work is done in turn, and to its end, even if nobody waits for it."""

        def whole() -> dict[str, Any]:
            return {**work(), "state": state_of(self.studio, self.studio.look())}

        return JSONResponse(await asyncio.get_running_loop().run_in_executor(self.worker, whole))


async def _words(request: Request) -> dict[str, str]:
    """The words of a JSON object. Raises HTTPException for anything else."""
    try:
        found = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the request is no JSON") from error
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise HTTPException(400, "the request is no JSON object of texts")
    return found


def _static(name: str) -> Callable[[Request], Any]:
    content = (files("kinshot.studio") / "static" / name).read_bytes()
    kind = _TYPES[Path(name).suffix]

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, TaughtElsewhere):  # the page asks whether they are to be moved
        return JSONResponse({"error": "no image is of two classes", "elsewhere": error.images}, 409)
    return JSONResponse({"error": str(error)}, 422 if isinstance(error, DataError) else 409)


async def _http(request: Request, error: Exception) -> Response:
    status, why = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "")
    return JSONResponse({"error": why}, status)


async def _disk(request: Request, error: Exception) -> Response:
    place, why = getattr(error, "filename", None), getattr(error, "strerror", None)
    return JSONResponse({"error": f"cannot use {place or 'a temporary file'}: {why or error}; check the disk"}, 507)


async def _internal(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error: {type(error).__name__}: {error}; the terminal says more"}, 500)
