"""What is seen of the page before any script runs: title, card of a link, icon, first picture."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from PIL import Image
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from rissole.app.assets import FOLDER, asset
from rissole.app.guard import path_of, to_webp
from rissole.app.offer import Offer
from rissole.app.patches import STAY
from rissole.app.showcase import PICTURE, Showcase

FAVICON = FOLDER / "favicon.svg"
CARD = (1200, 630)  # pixels, as sites that show a link want it
MARGIN = 45
LARGEST = 1024  # pixels of a side
COARSE = 64  # below that pixels are shown as squares, as on the canvas
GROUND = "#f6f3ee"
_TOLD = re.compile(rb'<meta\s+(?:property="og:|name="twitter:)[^>]*>')


@dataclass(frozen=True)
class Front:
    """What the page's address answers with before any script runs.

    Attributes:
        words: texts of the page, safe to stand in HTML.
        showcase: what the page opens with.
        path: of the page below that of the server.
    """

    words: Mapping[str, str]
    showcase: Showcase | None
    path: str = ""

    @cached_property
    def picture(self) -> Image.Image | None:
        """The finished picture of the showcase; None where there is none, or it is broken."""
        if self.showcase is None:
            return None
        data = self.showcase.messages[-1]["frame"].removeprefix(PICTURE)
        try:  # a bundle may come from anybody
            with Image.open(io.BytesIO(base64.b64decode(data)), formats=["WEBP"]) as image:
                return image.convert("RGB") if max(image.size) <= LARGEST else None
        except (OSError, ValueError, Image.DecompressionBombError):
            return None

    @cached_property
    def card(self) -> bytes:
        """The picture as sites show it beside a link to the page: a JPEG of `CARD` pixels."""
        card, file = Image.new("RGB", CARD, GROUND), io.BytesIO()
        if self.picture is not None:
            side = CARD[1] - 2 * MARGIN
            large = self.picture.resize((side, side), Image.Resampling.LANCZOS)
            card.paste(large, ((CARD[0] - side) // 2, MARGIN))
        card.save(file, "JPEG", quality=88)
        return file.getvalue()

    @cached_property
    def poster(self) -> str:
        """The picture for the first paint, until the page's scripts draw it."""
        if self.picture is None:
            return ""
        data = base64.b64encode(to_webp(self.picture, 90)).decode()
        look = "pixelated" if self.picture.width < COARSE else "auto"
        shown = f":root {{ --rs-poster: url({PICTURE}{data}); --rs-poster-look: {look} }}\n"
        return f"{shown}html:not([data-whole]) .wrap.full.translucent {{ visibility: hidden }}\n"

    def faced(self, page: bytes, request: Request) -> bytes:
        """The library's page with our name, description and picture in place of its own.

        Args:
            page: HTML.
            request: what it answers: addresses in cards have to be whole.
        """
        opens = "p" in request.query_params  # a link paints a picture of its own
        style = f"<style>{'' if opens else self.poster}{asset('opening.css')}</style>"
        head = f"{self._tags(str(request.base_url))}{STAY}{style}</head>"
        return _TOLD.sub(b"", page).replace(b"</head>", head.encode(), 1)

    def _tags(self, address: str) -> str:
        title, lead = self.words["title"], self.words["lead"]
        said = {"og:title": title, "og:description": lead, "og:type": "website"}
        said["og:url"] = f"{address}{self.path}"
        if self.picture is not None:
            width, height = CARD
            size = {"og:image:width": str(width), "og:image:height": str(height)}
            card = f"{address}card.jpg" + (f"?of={self.path}" if self.path else "")
            said |= {"og:image": card, "og:image:alt": title, **size}
        tags = "".join(
            f'<meta property="{name}" content="{html.escape(html.unescape(text))}">'
            for name, text in said.items()
        )
        described = f'<meta name="description" content="{html.escape(html.unescape(lead))}">'
        kind = "summary_large_image" if self.picture is not None else "summary"
        return f'{described}{tags}<meta name="twitter:card" content="{kind}">'


class Fronts:
    """The fronts of all pages of a server.

    Args:
        words: texts of the pages, safe to stand in HTML.
        offer: the worlds, with a page each.
    """

    def __init__(self, words: Mapping[str, str], offer: Offer):
        self._fronts = {p.path: Front(words, p.showcase, p.path) for p in offer}

    def faced(self, page: bytes, request: Request) -> bytes:
        """A page of the library as its world shows it; any other answer as it is."""
        front = self._fronts.get(path_of(request.scope).removeprefix("/"))
        return page if front is None else front.faced(page, request)

    def routes(self) -> list[Route]:
        """What serves the pictures of the cards."""

        def answer(request: Request) -> Response:
            front = self._fronts.get(request.query_params.get("of", ""))
            if front is None or front.picture is None:
                return PlainTextResponse("no such picture", status_code=404)
            known = {"Cache-Control": "public, max-age=3600"}
            return Response(front.card, 200, known, "image/jpeg")

        return [Route("/card.jpg", answer)]
