"""What is behind a picture: latents one can look at, and the facts of the model card."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image
from torch import Tensor

from rissole.loading import CARD
from rissole.pipeline import RissolePipeline


def latent_picture(latents: Tensor) -> Image.Image:
    """The first three channels of latents (1, C, S, S) as red, green and blue, S x S pixels.

    Each channel is stretched between its 2nd and 98th percentile.
    """
    values = latents[0].float().numpy()[:3]
    values = np.concatenate([values] * 3)[:3] if len(values) < 3 else values
    low, high = np.percentile(values, (2, 98), axis=(1, 2), keepdims=True)
    scaled = ((values - low) / np.maximum(high - low, 1e-6)).clip(0, 1) * 255
    return Image.fromarray(scaled.round().astype(np.uint8).transpose(1, 2, 0))


def card_facts(pipe: RissolePipeline) -> dict[str, str]:
    """Facts of the bundle, as plain text; what its card does not say is left out.

    Returns:
        "name", "pictures", "label", "bundle" and "database" (fingerprints), and from the card
        "license", "data", "limits"
    """
    path = None if pipe.folder is None else pipe.folder / CARD
    card = path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""
    license_ = re.search(r"^license:\s*(\S+)", card, re.M)
    found = {
        "name": pipe.config["name"],
        "pictures": f"{len(pipe.database):,}",
        "label": pipe.database.label,
        "bundle": pipe.fingerprint,
        "database": pipe.database.fingerprint,
        "license": _license(license_.group(1)) if license_ else "",
        "data": _section(card, "Data"),
        "limits": _section(card, "Limits"),
    }
    return {name: text for name, text in found.items() if text}


def _license(name: str) -> str:
    """The Hub's name of a license as people write it: CC BY-NC 4.0 for cc-by-nc-4.0, CC0 1.0."""
    name = re.sub(r"^cc-(by[a-z-]*)-([\d.]+)$", lambda m: f"CC {m[1].upper()} {m[2]}", name)
    return re.sub(r"^cc0-([\d.]+)$", r"CC0 \1", name)


def _section(card: str, title: str) -> str:
    """The text under a heading, in one paragraph without marks."""
    found = re.search(rf"^#+ {title}\s*\n(.*?)(?=^#+ |\Z)", card, re.M | re.S)
    return " ".join(re.sub(r"[*`_]", "", found.group(1)).split()) if found else ""
