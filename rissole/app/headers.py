"""What browsers are told of every answer: whom to trust with the page, and what it may load."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rissole.app.guard import path_of
from rissole.app.routes import FILE

# Spaces show the page in a frame on the Hub
FRAMES = "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co https://*.hf.space"
Faced = Callable[[bytes, Request], bytes]
HUB = "https://huggingface.co https://*.huggingface.co https://*.hf.space"
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # an address can hold a whole recipe
}
_INLINE = re.compile(rb"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL | re.IGNORECASE)


def policy(scripts: Iterable[bytes], frames: str = FRAMES) -> str:
    """The content security policy of the page.

    Scripts are files of this server, or inline and exactly those given: markup that gets in runs
    nothing, and nothing is asked of other hosts. 'unsafe-eval' is how the library turns the
    scripts of components, which it gets as text, into functions; inline styles are all over it.

    Args:
        scripts: the inline scripts of the page.
        frames: who may show it in a frame.
    """
    known = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    hub = f" {HUB}" if os.environ.get("SPACE_ID") else ""  # its bar above the page
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'unsafe-eval' {known}",
            f"style-src 'self' 'unsafe-inline'{hub}",
            f"font-src 'self' data:{hub}",
            f"img-src 'self' data: blob:{hub}",
            f"connect-src 'self' data: blob:{hub}",
            "manifest-src 'self'",
            "worker-src 'self' blob:",
            "base-uri 'self'",
            "form-action 'none'",
            frames,
        )
    )


def _digest(script: bytes) -> str:
    return base64.b64encode(hashlib.sha256(script).digest()).decode()


class SafeHeaders:
    """ASGI middleware: adds the headers to every answer of the app, with a policy to each page.

    Args:
        app: the application.
        sites: those that may show a page in a frame, beside the Hub.
        faced: what becomes of a page before it is sent.
    """

    def __init__(self, app: ASGIApp, sites: Iterable[str] = (), faced: Faced | None = None):
        self.app, self.frames, self.faced = app, " ".join((FRAMES, *sites)), faced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; holds a page back until its scripts are known."""
        held: list[Message] = []
        # what a visitor sent is no page of ours, whatever it says it is
        page = scope["type"] == "http" and not path_of(scope).startswith(FILE)

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SAFE)
                if page and headers.get("content-type", "").startswith("text/html"):
                    held.append(message)
                    return
                headers["Content-Security-Policy"] = f"default-src 'none'; {self.frames}"
            elif held:
                held.append(message)
                if message.get("more_body"):
                    return
                self._protect(held, Request(scope))
                while held:
                    await send(held.pop(0))
                return
            await send(message)

        await self.app(scope, receive, adding if scope["type"] == "http" else send)

    def _protect(self, page: list[Message], request: Request) -> None:
        body = b"".join(message.get("body", b"") for message in page[1:])
        headers = MutableHeaders(scope=page[0])
        if self.faced is not None and request.method == "GET":
            body = self.faced(body, request)
            headers["Content-Length"] = str(len(body))
            page[1:] = [{"type": "http.response.body", "body": body}]
        headers["Content-Security-Policy"] = policy(_INLINE.findall(body), self.frames)
