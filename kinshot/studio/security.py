"""Who may talk to the page: the browser of the person who started it, and nothing else on this machine or on the web.

Three doors stand before every request. The *host* must be this machine's loopback address by number or by the name localhost, so that no
name of somebody else's can be rebound to it. The *origin*, which browsers send and pages cannot forge, must be the page itself. And what
shows or changes anything needs the *token*, which was printed once on the terminal. It travels in the part of the address behind `#`,
which browsers keep to themselves, and then in a header: a cookie would go to every port of this machine, and another user may listen there.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinshot.studio.limits import Limits

LOOPBACK = "127.0.0.1"
TOKEN_HEADER = "x-kinshot-token"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=(), usb=()",
    "cache-control": "no-store",
}
_UNCHANGING = frozenset({"GET", "HEAD"})


def new_token() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


@dataclass(frozen=True)
class Doors:
    """What is let in.

    Attributes:
        port: where the page is served.
        token: what requests below /api/ must carry.
    """

    port: int
    token: str

    @property
    def hosts(self) -> frozenset[str]:
        """What the page may be called."""
        names = (LOOPBACK, "localhost")
        return frozenset(f"{name}:{self.port}" for name in names) | (frozenset(names) if self.port == 80 else frozenset())

    def refusal(self, method: str, path: str, headers: Headers) -> tuple[int, str] | None:
        """Why a request is not let in, with the status to say it with; None where it is."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return 421, f"this page is called http://{LOOPBACK}:{self.port}: open the link that the terminal shows"
        origin = headers.get("origin")
        if origin is None and method not in _UNCHANGING:
            return 403, "a request that changes something must come from the page itself"
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            return 403, "a page from elsewhere may not talk to this one"
        if not path.startswith("/api/"):
            return None
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "a page from elsewhere may not talk to this one"
        if not secrets.compare_digest(headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return 401, "the key of this page is missing or an old one: open the link that the terminal shows"
        return None


class Guard:
    """Stands before an application: refuses whoever is not let in, bounds what is sent, and sets the headers of every answer.

    Args:
        app: what is behind it.
        doors: who is let in.
        limits: how much may be sent.
        uploads: paths to which images may be sent; others take little.
    """

    def __init__(self, app: ASGIApp, doors: Doors, limits: Limits, uploads: Iterable[str] = ()) -> None:
        self.app, self.doors, self.limits, self.uploads = app, doors, limits, frozenset(uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        most = self.limits.request if scope["path"] in self.uploads else self.limits.words
        refusal = self.doors.refusal(scope["method"], scope["path"], headers) or _too_long(headers, most)
        if refusal is not None:
            status, why = refusal
            return await JSONResponse({"error": why}, status)(scope, receive, dressed)
        await self.app(scope, _bounded(receive, most), dressed)


def _too_long(headers: Headers, most: int) -> tuple[int, str] | None:
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        return 400, "the length of the request is no number"
    return (413, _told(most)) if int(length) > most else None


def _bounded(receive: Receive, most: int) -> Receive:
    """The same body, which must not get longer than said, whatever its headers say or leave out."""
    got = 0

    async def counted() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise HTTPException(413, _told(most))
        return message

    return counted


def _told(most: int) -> str:
    return f"more than {most / 2**20:.3g} MB at once: send fewer or smaller files"
