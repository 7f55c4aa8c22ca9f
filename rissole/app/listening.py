"""Who awaits an answer, and when they leave."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rissole.app.guard import path_of
from rissole.app.turns import Turns

_CALL = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/([^/]+)")


class Listening:
    """ASGI middleware: tells the turns of every stream on which answers are awaited.

    Args:
        app: the application.
        turns: whose jobs end when nobody listens any more.
    """

    def __init__(self, app: ASGIApp, turns: Turns):
        self.app, self.turns = app, turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and listens to whether it is broken off."""
        stream = stream_of(scope)
        if stream is None:
            await self.app(scope, receive, send)
            return
        gone = ended = False

        async def hearing() -> Message:
            nonlocal gone
            message = await receive()
            gone |= message["type"] == "http.disconnect"
            return message

        async def noting(message: Message) -> None:
            nonlocal ended
            last = message["type"] == "http.response.body" and not message.get("more_body")
            ended |= last and not gone
            await send(message)

        self.turns.opened(stream)
        try:
            await self.app(scope, hearing, noting)
        finally:
            self.turns.closed(stream, cut=not ended)


def stream_of(scope: Scope) -> str | None:
    """The visit or the event whose answers a request awaits."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    path = path_of(scope)
    if path == "/gradio_api/queue/data":
        names = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("session_hash")
        return names[-1] if names else None
    found = _CALL.fullmatch(path)
    return found[1] if found else None
