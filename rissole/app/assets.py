"""The page's HTML, CSS, JavaScript and texts, kept in files of their own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "web"


def asset(name: str) -> str:
    """The text of one file of this folder, for example `canvas.js`."""
    return (FOLDER / name).read_text(encoding="utf-8")


def texts() -> dict[str, Any]:
    """Every text of the page, by part; the same object is handed to the scripts."""
    return json.loads(asset("texts.json"))


def filled(text: str, **values: Any) -> str:
    """A text with its values, as `fill` of `web/shared/values.js` does it.

    "{calls}" becomes the value, "{calls:call|calls}" the word that goes with that number.
    """

    def one(found: re.Match) -> str:
        value, words = str(values[found[1]]), found[2]
        return value if words is None else words.split("|")[value != "1"]

    return re.sub(r"\{(\w+)(?::([^}]*))?\}", one, text)
