"""What an owner may say on the page."""

from __future__ import annotations

import argparse
import html
import os
import re
from dataclasses import dataclass
from typing import Any

from rissole.config import RissoleError, quoted

_SITE = re.compile(r"(https?://)?[\w.*-]+(:\d+)?")
OPTIONS = {
    "title": "name of the page, also in the browser's tab and where a link is shown",
    "lead": "the line below it",
    "examples": "gallery pictures to begin with in place of the presets, as numbers or "
    "NUMBER=NAME, separated by commas",
    "frames": "sites that may show the page in a frame, separated by commas",
}


@dataclass(frozen=True)
class Face:
    """What an owner may say; what is left empty is as shipped.

    Attributes:
        title: name of the page.
        lead: the line below it.
        examples: (number in the gallery, name) of pictures to begin with.
        frames: sites that may show the page in a frame.
    """

    title: str = ""
    lead: str = ""
    examples: tuple[tuple[int, str], ...] = ()
    frames: tuple[str, ...] = ()

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Adds one option for each; what is left out comes from the environment."""
        for name, told in OPTIONS.items():
            variable = f"RISSOLE_{name.upper()}"
            known = os.environ.get(variable, "")
            parser.add_argument(f"--{name}", default=known, help=f"{told} [${variable}]")

    @classmethod
    def given(cls, options: argparse.Namespace) -> Face:
        """What is said among parsed options.

        Raises:
            RissoleError: for an example that is no number, or a site that is none.
        """
        sites = _parts(options.frames)
        for site in sites:
            if not _SITE.fullmatch(site):
                raise RissoleError(f"frames takes sites such as example.org, not {quoted(site)}")
        examples = tuple(map(_example, _parts(options.examples)))
        return cls(options.title.strip(), options.lead.strip(), examples, tuple(sites))

    def told(self, words: dict[str, Any]) -> dict[str, Any]:
        """The texts of the page with these in them, safe to stand in HTML."""
        said = {"title": self.title, "lead": self.lead}
        own = {name: html.escape(text) for name, text in said.items() if text}
        return {**words, "page": {**words["page"], **own}}


AS_SHIPPED = Face()


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _example(text: str) -> tuple[int, str]:
    number, _, name = text.partition("=")
    if not number.strip().isdecimal():
        raise RissoleError(f"examples takes numbers of gallery pictures, not {quoted(text)}")
    return int(number), name.strip()
