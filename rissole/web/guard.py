"""What the web server adds around the app: thumbnails by address, and two refusals."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable

from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ONE_YEAR = "public, max-age=31536000, immutable"


def to_webp(image: Image.Image, quality: int | None = 85) -> bytes:
    """A picture as WebP bytes; `quality=None` keeps every pixel as it is."""
    buffer = io.BytesIO()
    options = {"lossless": True} if quality is None else {"quality": quality, "method": 2}
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()


def thumbnail_route(count: int, picture: Callable[[int], Image.Image]) -> Route:
    """`/thumbs/<item>.webp` for the items 0 to `count` - 1; browsers keep what they got.

    Args:
        count: how many pictures there are.
        picture: gives the picture of an item.
    """

    @functools.lru_cache(maxsize=2048)
    def encoded(item: int) -> bytes:
        return to_webp(picture(item))

    def endpoint(request: Request) -> Response:
        item = request.path_params["item"]
        if item >= count:
            return PlainTextResponse("no such picture", status_code=404)
        return Response(encoded(item), 200, {"Cache-Control": ONE_YEAR}, "image/webp")

    return Route("/thumbs/{item:int}.webp", endpoint)


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
