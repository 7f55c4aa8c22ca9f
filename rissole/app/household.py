"""Everything that the visits of one server leave behind, and who tidies up after them."""

from __future__ import annotations

import logging
import threading
import weakref

from gradio.route_utils import API_PREFIX
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rissole.app.address import caller
from rissole.app.assets import texts
from rissole.app.belongings import Belongings, Presence
from rissole.app.disk import Disk
from rissole.app.guard import path_of
from rissole.app.limits import Limits

HEARTBEAT = f"{API_PREFIX}/heartbeat/"
LONGEST = 128  # characters of that address; names of visits are some ten
OFTEN = 5.0  # seconds between two looks at what is too old
VISITS = {"each": 2**23, "total": 2**28, "count": 1}
PHOTOS = {"each": 2**25, "total": 2**29, "count": 64}

log = logging.getLogger(__name__)


class Household:
    """What all visits keep here.

    Args:
        limits: what one address may have of it; as usual if left out.

    Attributes:
        presence: who is here.
        visits: what the page remembers of each visit.
        photos: their own databases.
        disk: their files.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        full = texts()["errors"]["room"]
        limits = limits or Limits()
        self.presence = Presence(most=limits.visits, share=limits.share / 100)
        self.visits = Belongings(self.presence, **VISITS, full=full)
        self.photos = Belongings(self.presence, **PHOTOS, full=full)
        self.disk = Disk(self.presence, full)

    def left(self, owner: str) -> None:
        """A page was closed: nothing of it stays."""
        self.presence.left(owner)
        for part in (self.visits, self.photos, self.disk):
            part.forget(owner)

    def sweep(self) -> None:
        """Removes what is too old; where one part cannot, the others still do."""
        for part in (self.visits, self.photos, self.disk, self.presence):
            try:
                part.sweep()
            except Exception:
                log.exception("could not sweep")

    def start(self) -> None:
        """Sweeps every few seconds, for as long as anybody holds this."""
        args = weakref.ref(self), threading.Event()
        threading.Thread(target=_sweep, args=args, name="sweeper", daemon=True).start()

    def routes(self) -> list[Route]:
        """Where a page says that it is being closed."""

        def left(request: Request) -> Response:
            self.left(request.path_params["visit"])
            return Response(status_code=204)

        return [Route("/left/{visit}", left, methods=["POST"])]


def _sweep(held: weakref.ref[Household], pause: threading.Event) -> None:
    while (household := held()) is not None:
        household.sweep()
        del household
        pause.wait(OFTEN)


class Watched:
    """ASGI middleware: notes which pages are open, by the connection that each of them holds.

    Args:
        app: the application.
        household: what is bound to them.
    """

    def __init__(self, app: ASGIApp, household: Household):
        self.app, self.presence, self.full = app, household.presence, household.disk.full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        path = path_of(scope) if scope["type"] == "http" else ""
        if not path.startswith(HEARTBEAT) or len(path) > LONGEST:
            await self.app(scope, receive, send)
            return
        visit = path.removeprefix(HEARTBEAT)
        if not self.presence.seen(visit, 1, caller(scope)):
            await PlainTextResponse(self.full, 429)(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.presence.seen(visit, -1)
