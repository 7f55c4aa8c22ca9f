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
from rissole.app.guard import to_webp
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
    """

    words: Mapping[str, str]
    showcase: Showcase | None

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
        head = f"{self._tags(str(request.base_url))}{style}</head>"
        return _TOLD.sub(b"", page).replace(b"</head>", head.encode(), 1)

    def _tags(self, address: str) -> str:
        title, lead = self.words["title"], self.words["lead"]
        said = {"og:title": title, "og:description": lead, "og:type": "website", "og:url": address}
        if self.picture is not None:
            width, height = CARD
            size = {"og:image:width": str(width), "og:image:height": str(height)}
            said |= {"og:image": f"{address}card.jpg", "og:image:alt": title, **size}
        tags = "".join(
            f'<meta property="{name}" content="{html.escape(html.unescape(text))}">'
            for name, text in said.items()
        )
        described = f'<meta name="description" content="{html.escape(html.unescape(lead))}">'
        kind = "summary_large_image" if self.picture is not None else "summary"
        return f'{described}{tags}<meta name="twitter:card" content="{kind}">'

    def routes(self) -> list[Route]:
        """What serves the picture of the card."""

        def answer(request: Request) -> Response:
            if self.picture is None:
                return PlainTextResponse("no such picture", status_code=404)
            return Response(self.card, 200, {"Cache-Control": "public, max-age=3600"}, "image/jpeg")

        return [Route("/card.jpg", answer)]
