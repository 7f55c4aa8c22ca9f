"""Every address that the server answers. What is not listed here is not there.

The library under the page brings many more, and each of its releases may bring others; none of
them opens before it stands in this list.
"""

from __future__ import annotations

import re

# "{name}" is one part of an address, "{path}" is all the rest of it; HEAD goes where GET goes.
ROUTES = (
    # the page, its scripts, styles and fonts
    ("GET", "/"),
    ("GET", "/assets/{path}"),
    ("GET", "/static/{path}"),
    ("GET", "/theme.css"),
    ("GET", "/favicon.ico"),
    ("GET", "/manifest.json"),
    ("GET", "/robots.txt"),
    # our own, see `guard.thumbnail_routes` and `modules`
    ("GET", "/here"),
    ("GET", "/thumbs/{name}/{name}"),
    ("GET", "/web/{name}/{path}"),
    ("GET", "/showcase/{name}"),
    ("GET", "/card.jpg"),
    ("POST", "/left/{name}"),  # see `household`
    # whatever is done waits in the queue
    ("POST", "/gradio_api/queue/join"),
    ("GET", "/gradio_api/queue/data"),
    ("GET", "/gradio_api/queue/status"),
    ("POST", "/gradio_api/cancel"),
    ("POST", "/gradio_api/reset"),
    ("GET", "/gradio_api/heartbeat/{name}"),
    # files in and out; only those of this server's own folder, see `uploads.uploaded`
    ("POST", "/gradio_api/upload"),
    ("GET", "/gradio_api/file={path}"),
    # programs: the client libraries, and plain HTTP, which waits in the queue, too
    ("GET", "/config"),
    ("GET", "/gradio_api/info"),
    ("POST", "/gradio_api/call/{endpoint}"),
    ("GET", "/gradio_api/call/{endpoint}/{name}"),
    ("POST", "/gradio_api/call/v2/{endpoint}"),
    ("GET", "/gradio_api/call/v2/{endpoint}/{name}"),
    # the library asks for this itself, once, when the server starts
    ("GET", "/gradio_api/startup-events"),
)
UPLOAD = "/gradio_api/upload"
ENDPOINTS = ("retrieve", "generate", "regenerate_block")
FILE = "/gradio_api/file="

# bytes of a body: values are a tenth of it on a full page, see `uploads.MOST`; else names alone
VALUES, NAMES = 2**20, 2**14
_VALUES = re.compile(r"/gradio_api/(queue/join|call/.+)")

_PARTS = {"{name}": "[^/]+", "{path}": ".+", "{endpoint}": f"(?:{'|'.join(ENDPOINTS)})"}


def _pattern(template: str) -> str:
    parts = re.split(r"(\{\w+\})", template)
    return "".join(_PARTS.get(part) or re.escape(part) for part in parts)


_LISTED = {
    method: re.compile("|".join(_pattern(route) for kind, route in ROUTES if kind == method))
    for method in ("GET", "POST")
}


def listed(method: str, path: str) -> bool:
    """Whether a request may go on to the page.

    Args:
        method: in capitals.
        path: decoded, without what stands before the app behind a proxy, and without the query.
    """
    pattern = _LISTED.get("GET" if method == "HEAD" else method)
    return pattern is not None and pattern.fullmatch(path) is not None


def largest(path: str, upload: int) -> int:
    """The most bytes that the body of a request may have: pictures come as files, never in JSON.

    Args:
        path: as above.
        upload: what it is for files.
    """
    if path == UPLOAD:
        return upload
    return VALUES if _VALUES.fullmatch(path) else NAMES
