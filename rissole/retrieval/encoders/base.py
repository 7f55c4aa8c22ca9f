"""What a query encoder is, and the registry of those that there are.

Every encoder turns pictures into unit vectors that are compared by cosine. It sees each picture
twice, as pixels and as the latent that the codec made of them, and takes what it likes. Its `id`
names the method and its weights, and is stored with the vectors it made: vectors of two encoders
cannot be compared, and nothing in the numbers would tell.

An encoder from outside the package is a class that registers itself:

    @ENCODERS.register
    class ColorEncoder(QueryEncoder):
        name, label, id, dim = "color", "Alike in color", "color-4x4", 48

        def __call__(self, pixels, latents):
            return F.normalize(F.adaptive_avg_pool2d(pixels, 4).flatten(1).float(), dim=1)

        @classmethod
        def from_bundle(cls, bundle):
            return cls()

`retrieve(encoder="color")`, `--encoder color` and the page's menu then have it.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.registry import Registry
from rissole.retrieval.embedding import LatentEmbedding


@dataclass(frozen=True)
class BundleParts:
    """What an encoder can be made of.

    Attributes:
        embedding: of latents, measured on the bundle's photos.
        latent_shape: (C, S, S).
        folder: the bundle, verified; None for a pipeline that was put together by hand.
    """

    embedding: LatentEmbedding
    latent_shape: tuple[int, ...]
    folder: Path | None = None


class QueryEncoder(ABC):
    """Pictures, and perhaps words, to unit vectors.

    Attributes:
        name: by which it is asked for; letters, digits, dashes.
        label: what near means to it, for people.
        id: stands for the method and its weights.
        dim: length of a vector.
        reads_text: whether `text` works.
        kept: whether a database that is built keeps its vectors: they take long to make.
        what: what is loaded, for messages.
        advice: how one gets it, where a bundle alone does not bring it.
    """

    name: str
    label: str
    id: str
    dim: int
    reads_text: bool = False
    kept: bool = True
    what: ClassVar[str] = "encoder"
    advice: str = ""

    @classmethod
    @abstractmethod
    def from_bundle(cls, bundle: BundleParts) -> QueryEncoder | None:
        """The encoder for a bundle, on the CPU; None where the bundle lacks what it needs.

        Called for every bundle that is opened: what is heavy is better loaded on first use.

        Raises:
            RissoleError: one line, when what it needs is there and damaged.
        """

    @abstractmethod
    def __call__(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Unit vectors (B, dim), float32.

        Args:
            pixels: (B, 3, H, W) in [-1, 1].
            latents: (B, C, S, S) of the same pictures.
        """

    def text(self, words: Sequence[str]) -> Tensor:
        """Unit vectors (B, dim) of texts.

        Raises:
            RissoleError: when this encoder cannot read.
        """
        raise RissoleError(f"the encoder {self.name} cannot read text: {text_advice()}")

    def to(self, device: torch.device | str) -> QueryEncoder:
        """Moves the weights, if any; returns itself."""
        return self


ENCODERS: Registry[type[QueryEncoder]] = Registry("encoder")


def encoder_names() -> list[str]:
    """Names of all encoders, whether or not a bundle has them."""
    return ENCODERS.names()


def load_encoders(
    bundle: BundleParts, given: Iterable[QueryEncoder] = ()
) -> dict[str, QueryEncoder]:
    """The encoders for a bundle by name, in the order in which people are shown them.

    Args:
        bundle: what they are made of.
        given: encoders that are loaded already, in place of those that the bundle would bring.

    Raises:
        RissoleError: one line, when one cannot be loaded.
    """
    loaded = {encoder.name: encoder for encoder in given}
    kinds = {kind.name: kind for kind in ENCODERS}
    found = {name: loaded.get(name) or kind.from_bundle(bundle) for name, kind in kinds.items()}
    return {name: made for name, made in (found | loaded).items() if made is not None}


def missing_encoder(name: str) -> RissoleError:
    """Says why an encoder is not there: unknown, or what it needs is not given."""
    try:
        kind = ENCODERS[name]
    except RissoleError as unknown:
        return unknown
    if kind.advice:
        return RissoleError(f"no {kind.what} is loaded: {kind.advice}")
    return RissoleError(f"this bundle has no encoder {name!r}")


def text_advice() -> str:
    """How one gets an encoder that reads text."""
    return next((kind.advice for kind in ENCODERS if kind.reads_text), "")


def text_missing() -> str:
    """Why words other than names of classes find nothing."""
    return f"no text encoder is loaded: {text_advice()}"


def digest(tensors: Iterable[Tensor]) -> str:
    """12 hex digits that stand for the contents of tensors."""
    contents = hashlib.sha256()
    for tensor in tensors:
        contents.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return contents.hexdigest()[:12]
