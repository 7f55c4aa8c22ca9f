"""Query encoders: what "near" means when neighbors are searched.

Every encoder turns pictures into unit vectors that are compared by cosine. It sees each picture
twice, as pixels and as the latent that the codec made of them, and takes what it likes. Its `id`
names the method and its weights, and is stored with the vectors it made: vectors of two encoders
cannot be compared, and nothing in the numbers would tell.
"""

from __future__ import annotations

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.retrieval.embedding import LatentEmbedding
from rissole.storage.files import save_tensors

NAMES = ("latent", "latent-corner", "learned", "clip")
CLIP = "MobileCLIP2-S0"  # 11 M weights see pictures, 63 M read words; see `ClipEncoder.load`
GET_CLIP = "pip install open_clip_torch, then give --clip"


class QueryEncoder(ABC):
    """Pictures, and perhaps words, to unit vectors.

    Attributes:
        name: one of `NAMES`.
        id: stands for the method and its weights.
        dim: length of a vector.
        reads_text: whether `text` works.
    """

    name: str
    id: str
    dim: int
    reads_text = False

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
        raise RissoleError(f"the encoder {self.name} cannot read text: {GET_CLIP}")

    def to(self, device: torch.device | str) -> QueryEncoder:
        """Moves the weights, if any; returns itself."""
        return self


class LatentEncoder(QueryEncoder):
    """The whole latent, pooled, relative to the average picture; always there."""

    name = "latent"

    def __init__(self, embedding: LatentEmbedding):
        self.embedding, self.dim = embedding, embedding.dim
        self.id = f"latent-{_digest([embedding.mean, torch.tensor(embedding.cells)])}"

    def __call__(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """See `QueryEncoder`."""
        return self.embedding(latents)


class CornerEncoder(QueryEncoder):
    """The latent of the top-left block of a 2x2 grid, as RISSOLE was published (2408.17095)."""

    name = "latent-corner"

    def __init__(self, latent_channels: int, latent_size: int):
        self.side = latent_size // 2
        self.dim = latent_channels * self.side**2
        self.id = f"latent-corner-{latent_channels}x{self.side}x{self.side}"

    def __call__(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """See `QueryEncoder`."""
        return F.normalize(latents[..., : self.side, : self.side].float().flatten(1), dim=1)


@dataclass(frozen=True)
class LearnedConfig:
    """Shape of a `LearnedEncoder`.

    Attributes:
        image_size: side in pixels to which pictures are scaled.
        channels: width at each stage; multiples of 16. Each stage halves the resolution.
        blocks: residual blocks per stage.
        dim: length of a vector.
    """

    image_size: int = 128
    channels: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 2
    dim: int = 192


class LearnedEncoder(nn.Module, QueryEncoder):
    """A small network, trained without labels on the bundle's own photos and stored in it.

    See `rissole.training.encoder`. It is never the network that samples are measured with.
    """

    name = "learned"

    def __init__(self, config: LearnedConfig | None = None):
        super().__init__()
        self.config = config or LearnedConfig()
        widths = self.config.channels
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1)]
        for before, width in zip((widths[0], *widths), widths, strict=False):
            layers.append(nn.Conv2d(before, width, 4, stride=2, padding=1))
            layers += [_Residual(width) for _ in range(self.config.blocks)]
        self.trunk = nn.Sequential(*layers, nn.GroupNorm(widths[-1] // 16, widths[-1]), nn.SiLU())
        # where things are matters as much as what they are: blocks meet blocks at their own place
        self.head = nn.Linear(4 * widths[-1], self.config.dim)
        self.register_buffer("mean", torch.zeros(self.config.dim))

    @property
    def dim(self) -> int:  # type: ignore[override]
        """Length of a vector."""
        return self.config.dim

    @property
    def id(self) -> str:  # type: ignore[override]
        """Stands for the weights in the half precision in which they are stored."""
        return f"learned-{_digest([t.half() for t in self.state_dict().values()])}"

    def represent(self, pixels: Tensor) -> Tensor:
        """(B, dim) of pictures (B, 3, H, W) in [-1, 1], neither centred nor of unit length."""
        size = self.config.image_size
        if pixels.shape[-2:] != (size, size):
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        maps = self.trunk(pixels.to(self.mean.dtype))
        return self.head(F.adaptive_avg_pool2d(maps, 2).flatten(1))

    def forward(self, pixels: Tensor, latents: Tensor | None = None) -> Tensor:
        """See `QueryEncoder`."""
        return F.normalize(self.represent(pixels.to(self.mean.device)) - self.mean, dim=1).float()

    __call__ = nn.Module.__call__
    to = nn.Module.to

    def save(self, folder: str | Path) -> None:
        """Writes `encoder.safetensors`, in half precision."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().half().cpu().contiguous() for k, v in self.state_dict().items()}
        meta = {"config": json.dumps(asdict(self.config))}
        save_tensors(state, Path(folder) / "encoder.safetensors", metadata=meta)

    @classmethod
    def load(cls, folder: str | Path) -> LearnedEncoder:
        """Reads what `save` wrote.

        Raises:
            RissoleError: when the file is missing or damaged.
        """
        path = Path(folder) / "encoder.safetensors"
        try:
            with safe_open(path, "pt") as file:
                raw = json.loads(file.metadata()["config"])
                state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            encoder = cls(LearnedConfig(**{**raw, "channels": tuple(raw["channels"])}))
            encoder.load_state_dict(state)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RissoleError(f"no usable encoder in {path.parent.name}/: {error}") from error
        return encoder.eval().requires_grad_(False)


class _Residual(nn.Module):
    """x + two convolutions, normalised in groups of 16 channels: alike in batches of any size."""

    def __init__(self, channels: int):
        super().__init__()
        groups = channels // 16
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ClipEncoder(QueryEncoder):
    """A CLIP model of `open_clip`: pictures and words in one space (arXiv 2103.00020)."""

    name = "clip"
    reads_text = True

    def __init__(self, model: nn.Module, tokenizer: object, source: str):
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
        self.id = f"clip-{name}-{_digest(model.state_dict().values())}"

    @classmethod
    def load(cls, source: str = CLIP) -> ClipEncoder:
        """Loads a model by name, from the Hub or from a folder.

        Args:
            source: a model of `open_clip`, with the first of its pretrained weights
                (`MobileCLIP2-S0` or another, such as `ViT-B-32`, after a colon a certain one:
                `ViT-B-32:laion2b_s34b_b79k`); `owner/name` on the Hub; or a folder.

        Raises:
            RissoleError: one line, when open_clip or the model is not there.
        """
        try:
            import open_clip
        except ImportError as error:
            raise RissoleError(f"text queries need another package: {GET_CLIP}") from error
        name, tag = _clip_name(source, open_clip)
        try:
            with _no_log():  # it says in many lines what the error will say in one
                model = open_clip.create_model(name, pretrained=tag, require_pretrained=True)
            return cls(model, open_clip.get_tokenizer(name), source)
        # a download fails in as many ways as the client of the Hub has errors
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise RissoleError(f"cannot load the CLIP model {source}: {reason}") from error

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


def _clip_name(source: str, open_clip: object) -> tuple[str, str | None]:
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


def _digest(tensors: Sequence[Tensor]) -> str:
    """12 hex digits that stand for the contents of tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
