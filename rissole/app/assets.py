"""The page's HTML, CSS, JavaScript and texts, kept in files of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "web"


def asset(name: str) -> str:
    """The text of one file of this folder, for example `canvas.js`."""
    return (FOLDER / name).read_text(encoding="utf-8")


def texts() -> dict[str, Any]:
    """Every text of the page, by part; the same object is handed to the scripts."""
    return json.loads(asset("texts.json"))
