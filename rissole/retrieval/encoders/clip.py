"""CLIP: pictures and words in one space."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rissole.config import RissoleError
from rissole.retrieval.encoders.base import BundleParts, QueryEncoder, digest
from rissole.storage.hub import Repo, fetch_files

CLIP = "MobileCLIP2-S0"  # 11 M weights see pictures, 63 M read words; see `ClipEncoder.load`
# its weights may be used for anything (MIT); 605 MB as the Hub lists them, 151 M numbers
MIT_CLIP, MIT_CLIP_MB = "ViT-B-32:laion2b_s34b_b79k", 605
FILES = ("open_clip_config.json", "open_clip_model.safetensors")  # of a model on the Hub
GET_CLIP = f"start with --clip {CLIP}, or give clip= in Python"


class ClipEncoder(QueryEncoder):
    """A CLIP model of `open_clip`: pictures and words in one space (arXiv 2103.00020)."""

    name = "clip"
    label = "About the same thing (CLIP)"
    reads_text = True
    what = "CLIP model"
    advice = GET_CLIP

    def __init__(self, model: Any, tokenizer: Any, source: str):
        """Wraps a loaded model.

        Args:
            model: with `encode_image`, `encode_text` and `visual`.
            tokenizer: texts to token numbers.
            source: where it came from, part of the `id`.
        """
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        size = model.visual.image_size
        self.size = size if isinstance(size, int) else size[0]
        self.mean, self.std = (
            torch.tensor(values).view(3, 1, 1)
            for values in (model.visual.image_mean, model.visual.image_std)
        )
        self.dim = self.text(["a picture"]).shape[1]
        name = Path(source).name if Path(source).is_dir() else source
        self.id = f"clip-{name}-{digest(model.state_dict().values())}"

    @classmethod
    def load(cls, source: str | Path = CLIP, called: str | None = None) -> ClipEncoder:
        """Loads a model by name, from the Hub or from a folder.

        Args:
            source: a model of `open_clip`, with the first of its pretrained weights
                (`MobileCLIP2-S0` or another, such as `ViT-B-32`, after a colon a certain one:
                `ViT-B-32:laion2b_s34b_b79k`); `owner/name` on the Hub; or a folder.
            called: what its vectors are marked with, beside its weights; as `source` if left out.

        Raises:
            RissoleError: one line, when open_clip or the model is not there.
        """
        try:
            import open_clip
        except ImportError as error:
            raise RissoleError(
                "text queries need another package: pip install open_clip_torch"
            ) from error
        source = str(source)
        name, tag = _clip_name(source, open_clip)
        try:
            with _no_log():  # it says in many lines what the error will say in one
                model = open_clip.create_model(name, pretrained=tag, require_pretrained=True)
            return cls(model, open_clip.get_tokenizer(name), called or source)
        # a download fails in as many ways as the client of the Hub has errors
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise RissoleError(f"cannot load the CLIP model {source}: {reason}") from error

    @classmethod
    def from_bundle(cls, bundle: BundleParts) -> None:
        """See `QueryEncoder`: no bundle brings one, the user names a model to `load`."""
        return

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    def __call__(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """See `QueryEncoder`."""
        pixels = pixels.to(self.device)
        size = (self.size, self.size)
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(-1, 1)
        mean, std = self.mean.to(self.device), self.std.to(self.device)
        return self._unit(self.model.encode_image((pixels / 2 + 0.5 - mean) / std))

    def text(self, words: Sequence[str]) -> Tensor:
        """See `QueryEncoder`."""
        return self._unit(self.model.encode_text(self.tokenizer(list(words)).to(self.device)))

    def to(self, device: torch.device | str) -> ClipEncoder:
        """Moves the model; returns itself."""
        self.model.to(device)
        return self

    @staticmethod
    def _unit(vectors: Tensor) -> Tensor:
        return F.normalize(vectors.float(), dim=-1)


def fetch_clip(source: str, told: Callable[[int, int], None]) -> Path | str:
    """Brings the files of a model here, where that is known to be a matter of two files.

    Args:
        source: as `ClipEncoder.load` takes it.
        told: is called with (bytes that have arrived, bytes in all).

    Returns:
        What to load it from.

    Raises:
        RissoleError: one line, when the Hub cannot be reached or has no such model.
    """
    if Path(source).is_dir():
        return source
    repo = source.removeprefix("hf-hub:") if "/" in source else _repository(source)
    return source if repo is None else fetch_files(Repo(repo), FILES, told)


def _repository(source: str) -> str | None:
    """Where the weights of a model of open_clip are on the Hub."""
    import open_clip

    name, tag = _clip_name(source, open_clip)
    known = open_clip.get_pretrained_cfg(name, tag) or {}
    return str(known.get("hf_hub") or "").strip("/") or None


@contextmanager
def _no_log() -> Iterator[None]:
    """Silences the root logger, which open_clip writes to."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)


def _clip_name(source: str, open_clip: Any) -> tuple[str, str | None]:
    """Name and weights tag of a model, as open_clip wants them."""
    if Path(source).is_dir():
        return f"local-dir:{Path(source).absolute()}", None
    if "/" in source:
        return source if source.startswith("hf-hub:") else f"hf-hub:{source}", None
    name, _, tag = source.partition(":")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not tags or (tag and tag not in tags):
        raise RissoleError(f"open_clip has no weights {source!r}; the default is {CLIP}")
    return name, tag or tags[0]
