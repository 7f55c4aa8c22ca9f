"""The worlds that visitors switch between: a page for each, its address, and the menu of them."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rissole.app.about import card_facts
from rissole.app.databases import Sources
from rissole.app.guard import path_of
from rissole.app.routes import listed
from rissole.app.showcase import Showcase, read_showcase
from rissole.config import Recipe, RissoleError, quoted
from rissole.retrieval.database import Database


@dataclass(frozen=True, eq=False)
class Place:
    """A world, and where its page is.

    Attributes:
        sources: its model with all its databases.
        showcase: what its page opens with; None where the bundle has nothing stored.
        license: of its weights, as its card has it; empty where it says nothing.
        path: of its page below that of the server, "" for the world that opens first.
    """

    sources: Sources
    showcase: Showcase | None
    license: str
    path: str

    @classmethod
    def of(cls, sources: Sources, first: bool) -> Place:
        """The place of a world that may have to be loaded for it."""
        pipe, name = sources.start, sources.world.name
        license_ = card_facts(pipe).get("license", "")
        return cls(sources, read_showcase(pipe), license_, "" if first else name)

    @property
    def name(self) -> str:
        """Of its bundle."""
        return self.sources.world.name

    @property
    def address(self) -> str:
        """Of its page, as seen from any other one."""
        return self.path or "./"

    @property
    def picture(self) -> str:
        """Address of a picture that shows what it is about, as seen from any page."""
        if self.showcase is not None:
            return self.showcase.messages[-1]["frame"]
        return f"thumbs/{self.sources.key}/0.webp"

    def holds(self, bundle: str | None, database: str | None) -> bool:
        """Whether a recipe with these fingerprints is painted here."""
        if bundle is None or bundle != self.sources.world.fingerprint:
            return False
        return database in (None, *(entry.key for entry in self.sources.entries()))


class Offer:
    """All worlds of a server, the one that opens first at the front.

    Args:
        sources: of each.

    Raises:
        RissoleError: for two of one name, or a name that the page needs for something else.
    """

    def __init__(self, sources: Sequence[Sources]):
        self.places = [Place.of(each, first=each is sources[0]) for each in sources]
        names = [place.name for place in self.places]
        for name in names:
            if names.count(name) > 1:
                raise RissoleError(f"two bundles on offer are called {quoted(name)}")
            if listed("GET", f"/{name}"):
                raise RissoleError(f"a bundle on offer cannot be called {quoted(name)}")

    def __iter__(self) -> Iterator[Place]:
        return iter(self.places)

    @property
    def names(self) -> list[str]:
        """Of the bundles."""
        return [place.name for place in self.places]

    def named(self, name: str) -> Place | None:
        """The world of a bundle; only those on offer."""
        return next((place for place in self.places if place.name == name), None)

    def holding(self, bundle: str | None, database: str | None) -> Place | None:
        """Where a recipe with these fingerprints is painted; None where none of them can."""
        return next((place for place in self.places if place.holds(bundle, database)), None)

    def other(self, recipe: Recipe, here: Sources) -> Place | None:
        """The world of a recipe where that is another one than here."""
        place = self.holding(recipe.bundle, recipe.database)
        return None if place is None or place.sources is here else place

    def opened(self, key: str) -> Database | None:
        """The database of that key if it is in use in any of them."""
        found = (place.sources.opened(key) for place in self.places)
        return next((database for database in found if database is not None), None)


def menu(offer: Offer, here: Place, label: str) -> str:
    """The menu of worlds; nothing where there is only one.

    Args:
        offer: what there is.
        here: the one on show.
        label: what the menu is called.
    """
    if len(offer.places) < 2:
        return ""
    links = "".join(_link(place, place is here) for place in offer)
    return f'<nav id="rs-worlds" aria-label="{html.escape(label)}">{links}</nav>'


def _link(place: Place, here: bool) -> str:
    name, license_ = html.escape(place.name), html.escape(place.license)
    current = ' aria-current="page"' if here else ""
    image = f'<img src="{html.escape(place.picture)}" alt="" width="36" height="36">'
    small = f"<small>{license_}</small>" if license_ else ""
    return f'<a href="{place.address}"{current}>{image}<span>{name}{small}</span></a>'


class Signposts:
    """ASGI middleware: a link opens in the world that it was painted in.

    With the page of a world goes the address of its showcase, which browsers then fetch at once.

    Args:
        app: the application.
        offer: the worlds.
    """

    def __init__(self, app: ASGIApp, offer: Offer):
        self.app, self.offer = app, offer
        self._places = {f"/{place.path}": place for place in offer}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or sends it to another page."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        path = path_of(scope)
        place, there = self._places.get(path), self._elsewhere(path, scope["query_string"])
        if there is not None:
            await RedirectResponse(there, 307)(scope, receive, send)
        elif place is None or place.showcase is None:
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, _announcing(place.showcase, send))

    def _elsewhere(self, path: str, query: bytes) -> str | None:
        """Where a request for a page is to go on; None where it is right."""
        asked = f"?{query.decode('latin-1')}" if query else ""
        first = self.offer.places[0]
        if path == f"/{first.name}":  # its page has no name of its own
            return f"{first.address}{asked}"
        here = self._places.get(path)
        if here is None or not asked:
            return None
        named = parse_qs(query.decode("latin-1"))
        bundle, database = (named.get(name, [None])[0] for name in "bd")
        there = self.offer.holding(bundle, database)
        return None if there in (None, here) else f"{there.address}{asked}"


def _announcing(showcase: Showcase, send: Send) -> Send:
    link = f"<{showcase.address}>; rel=preload; as=fetch; crossorigin=anonymous".encode()

    async def announced(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"link", link)]}
        await send(message)

    return announced
