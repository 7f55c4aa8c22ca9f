"""What the web server adds around the app: thumbnails by address, and a door that is shut."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Collection

import numpy as np
from PIL import Image
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rissole.app.address import Names, hostname
from rissole.app.routes import FILE, UPLOAD, largest, listed
from rissole.app.uploads import uploaded
from rissole.config import quoted
from rissole.retrieval.database import Database

ONE_YEAR = "public, max-age=31536000, immutable"
NEVER = "private, no-store"
RANGES = re.compile(rb"bytes=\s*(\d*-\d*)(\s*,\s*\d*-\d*){0,15}\s*")

log = logging.getLogger(__name__)


def to_webp(image: Image.Image, quality: int | None = 85) -> bytes:
    """A picture as WebP bytes; `quality=None` keeps every pixel as it is."""
    buffer = io.BytesIO()
    options = {"lossless": True} if quality is None else {"quality": quality, "method": 2}
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def thumbnail_routes(find: Callable[[str], Database | None]) -> list[Route]:
    """What browsers fetch of databases, and `/here`, where they look whether the server is.

    `/thumbs/<key>/<item>.webp` are the pictures; browsers keep what they got, but not of what
    lives in memory only. `/thumbs/<key>/classes.bin` is the class of each, two bytes, low one
    first, -1 for none.

    Args:
        find: gives the database of a key, or None.
    """

    def answer(request: Request, content: Callable[[Database], bytes], kind: str) -> Response:
        database = find(request.path_params["key"])
        if database is None or request.path_params.get("item", 0) >= len(database):
            return PlainTextResponse("no such picture", status_code=404)
        cache = NEVER if database.in_memory else ONE_YEAR
        return Response(content(database), 200, {"Cache-Control": cache}, kind)

    def picture(request: Request) -> Response:
        return answer(request, lambda db: db.webp(request.path_params["item"]), "image/webp")

    def classes(request: Request) -> Response:
        return answer(request, classes_of, "application/octet-stream")

    return [
        Route("/here", lambda request: Response(status_code=204)),
        Route("/thumbs/{key}/{item:int}.webp", picture),
        Route("/thumbs/{key}/classes.bin", classes),
    ]


def classes_of(database: Database) -> bytes:
    """The class of every picture as 16-bit numbers."""
    number: dict[str | None, int] = {name: n for n, name in enumerate(database.classes)}
    labels = database.labels(range(len(database)))
    return np.array([number.get(label, -1) for label in labels], "<i2").tobytes()


class _TooLargeError(Exception):
    """A body was longer than it said, or than it may be."""


class Guard:
    """ASGI middleware: lets through what is listed, of an allowed size and under our own name.

    What the library cannot make sense of, and fails at, is answered with a word.

    The library limits the size of uploaded files, but neither other form fields nor JSON bodies,
    and has routes that read, fetch or show far more than the page needs.

    Args:
        app: the application to guard.
        limit: the most bytes a body with files may have, declared or not; see `routes.largest` for
            others.
        names: what the server may be called.
        words: what to say to those who are refused.
        pages: addresses of further pages than the first.
    """

    def __init__(
        self,
        app: ASGIApp,
        limit: int,
        names: Names,
        words: dict[str, str],
        pages: Collection[str] = (),
    ):
        self.app, self.limit, self.names, self.words = app, limit, names, words
        self.pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or says in one line why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif refusal := self._refusal(scope, Headers(scope=scope)):
            await refusal(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        method, path = scope["method"], path_of(scope)
        if headers.get("host", "localhost") not in self.names:
            name = quoted(hostname(headers["host"]))
            return PlainTextResponse(self.words["host"].format(name=name), 421)
        if method != "GET" and self._from_elsewhere(headers):
            return PlainTextResponse(self.words["foreign"], 403)
        foreign = path.startswith(FILE) and uploaded(path.removeprefix(FILE)) is None
        page = method in ("GET", "HEAD") and path in self.pages
        if foreign or not (page or listed(method, path)):
            return PlainTextResponse(self.words["route"], 404)
        if _declared_length(headers) > largest(path, self.limit):
            return self._too_large(path)
        return None

    def _too_large(self, path: str) -> Response:
        return PlainTextResponse(self.words["large" if path == UPLOAD else "sent"], 413)

    def _from_elsewhere(self, headers: Headers) -> bool:
        """Whether the page of another site sends this to a server that is for this computer."""
        cross = headers.get("sec-fetch-site") == "cross-site"
        return cross and not self.names.open_to_others

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen, started, ended = 0, False, False
        path = path_of(scope)
        limit = largest(path, self.limit)

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _TooLargeError
            return message

        async def noting(message: Message) -> None:
            nonlocal started, ended
            if seen <= limit:  # else the app answers its own way to the error above
                started = True
                last = message["type"] == "http.response.body"
                ended = last and not message.get("more_body")
                await send(message)

        try:
            await self.app(_readable(scope), counting, noting)
        except Exception as error:
            if seen <= limit:
                log.warning("%s %s: %s", scope["method"], path, type(error).__name__)
        if started:
            if not ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif seen > limit:
            await self._too_large(path)(scope, receive, send)
        else:  # it was the request: what is done with it says its errors itself
            await PlainTextResponse(self.words["malformed"], 400)(scope, receive, send)


def _readable(scope: Scope) -> Scope:
    """A request without a range that nobody can make sense of, which is to be ignored."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name != b"range" or RANGES.fullmatch(value)
    ]
    return {**scope, "headers": headers}


def path_of(scope: Scope) -> str:
    """The path of a request without what stands before the app behind a proxy."""
    path, above = scope["path"], scope.get("root_path", "").rstrip("/")
    below = path.removeprefix(above) if above else path
    return below if below.startswith("/") else path if below else "/"


def _declared_length(headers: Headers) -> int:
    length = headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0
