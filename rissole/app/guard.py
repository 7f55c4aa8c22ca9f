"""What the web server adds around the app: thumbnails by address, and two refusals."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rissole.retrieval.database import Database

ONE_YEAR = "public, max-age=31536000, immutable"
NEVER = "private, no-store"


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
    number = {name: n for n, name in enumerate(database.classes)}
    labels = database.labels(range(len(database)))
    return np.array([number.get(label, -1) for label in labels], "<i2").tobytes()


class _TooLargeError(Exception):
    pass


class Guard:
    """ASGI middleware: refuses oversized bodies (413) and fetching files of other servers (403).

    Gradio limits the size of uploaded files, but neither other form fields nor JSON bodies, and
    its file route would fetch any public address for whoever asks.

    Args:
        app: the application to guard.
        limit: the most bytes a request body may have, declared or not.
        large: what to say about a larger one.
        remote: what to say about files of other servers.
    """

    def __init__(self, app: ASGIApp, limit: int, large: str, remote: str):
        self.app, self.limit, self.large, self.remote = app, limit, large, remote

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it is one of the two that are refused."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif _is_remote_file(scope["path"]):
            await PlainTextResponse(self.remote, 403)(scope, receive, send)
        elif _declared_length(scope) > self.limit:
            await PlainTextResponse(self.large, 413)(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen, started = 0, False

        async def counting() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise _TooLargeError
            return message

        async def noting(message: Message) -> None:
            nonlocal started
            if seen <= self.limit:  # else the app answers its own way to the error above
                started = True
                await send(message)

        try:
            await self.app(scope, counting, noting)
        except Exception:
            if seen <= self.limit:
                raise
        if seen > self.limit and not started:
            await PlainTextResponse(self.large, 413)(scope, receive, send)


def _is_remote_file(path: str) -> bool:
    _, mark, target = path.partition("/file=")
    return bool(mark) and target.lower().lstrip("/ ").startswith(("http:", "https:"))


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
