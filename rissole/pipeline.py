"""`RissolePipeline`: retrieve, paint, watch, repaint."""

from __future__ import annotations

import json
import secrets
import shutil
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin
from PIL import Image
from torch import Tensor

from rissole.autoencoder import Codec
from rissole.bundle import fingerprint, resolve, staged, verify, write_manifest
from rissole.config import MAX_SEED, Recipe, RissoleError, whole_number
from rissole.denoiser import Denoiser
from rissole.embedding import LatentEmbedding
from rissole.images import square, to_pil, to_tensor
from rissole.retrieval import Database, Hits
from rissole.sampler import Conditions, PaintStep, block_shares, canvas_noise, paint

WEIGHTS = ("autoencoder/", "denoiser/", "embedding/", "scheduler/")
EMPTY = 127  # grey level of blocks that are not painted yet


@dataclass(frozen=True)
class GenerationOutput:
    """Finished pictures.

    Attributes:
        images: the pictures.
        recipes: for each picture the settings that paint it again, `pipe(**recipe)`.
        attention: (rows, cols, k), how much each block of the first picture listened to each of
            `neighbors`; every row adds up to 1.
        neighbors: database ids, the columns of `attention`.
        latents: (B, C, S, S).
        network_calls: evaluations of the denoiser for all pictures.
    """

    images: list[Image.Image]
    recipes: list[dict[str, Any]]
    attention: np.ndarray
    neighbors: list[int]
    latents: Tensor = field(repr=False)
    network_calls: int

    @property
    def recipe(self) -> dict[str, Any]:
        """Recipe of the first picture."""
        return self.recipes[0]


class BlockStep:
    """What a watcher sees after one denoising step. See `RissolePipeline.stream`."""

    def __init__(self, step: PaintStep, previews: _Previews, order: list[int], inverse: Tensor):
        self.position, self.index, self.num_blocks = step.position, step.index, step.num_blocks
        self.step, self.total_steps = step.step, step.total_steps
        self.network_calls, self.neighbors = step.network_calls, order
        self.done, self.active = step.done.numpy(), step.active.numpy()
        self.output: GenerationOutput | None = None
        self._step, self._previews, self._inverse = step, previews, inverse

    @cached_property
    def attention(self) -> np.ndarray:
        """(rows, cols, k): shares of the neighbors so far; zeros for blocks not begun."""
        shares = block_shares(self._step.attention, len(self.done))[0]
        return shares[..., self._inverse].cpu().numpy()

    @cached_property
    def attention_map(self) -> np.ndarray:
        """(k, cells, cells): share of each neighbor on each cell of the canvas so far.

        Zeros where nothing is painted. A cell's shares add up to at most 1: the rest went to none
        of them.
        """
        return self._step.attention[0].cpu().numpy()[self._inverse.numpy()]

    @cached_property
    def preview(self) -> Image.Image:
        """The picture as far as it can be told, decoded on first use; grey where nothing is."""
        image = self._previews.decode(self._step)
        side = image.shape[0] // len(self.done)
        seen = (self.done | self.active).repeat(side, 0).repeat(side, 1)
        image[~seen] = EMPTY
        return Image.fromarray(image)


class _Previews:
    """Decodes the steps of one run.

    While a single block is painted, its surroundings stay as they are: they are decoded once per
    block, and then only the block with a margin, a quarter of the work.
    """

    MARGIN = 4  # latent cells around a block, for the decoder to look at

    def __init__(self, pipe: RissolePipeline):
        self._pipe = pipe
        self._around: dict[int, np.ndarray] = {}

    def decode(self, step: PaintStep) -> np.ndarray:
        """uint8 (H, W, 3)."""
        alone = step.position is not None and step.step < step.total_steps
        if alone and step.index in self._around:
            return self._with_block(self._around[step.index].copy(), step)
        image = np.array(self._pipe.decode(step.estimate)[0])
        if alone:
            self._around[step.index] = image.copy()
        return image

    def _with_block(self, image: np.ndarray, step: PaintStep) -> np.ndarray:
        size = step.estimate.shape[-1]
        cells = size // len(step.done)
        (top, bottom, above), (left, right, before) = (
            (max(0, p * cells - self.MARGIN), min(size, (p + 1) * cells + self.MARGIN), p * cells)
            for p in step.position
        )
        crop = step.estimate[..., top:bottom, left:right]
        pixels = np.array(self._pipe.decode(crop)[0])
        f = image.shape[0] // size
        y, x, side = (above - top) * f, (before - left) * f, cells * f
        block = pixels[y : y + side, x : x + side]
        image[above * f : above * f + side, before * f : before * f + side] = block
        return image


class RissolePipeline:
    """A trained model with its database.

    Example:
        >>> pipe = RissolePipeline.from_pretrained("cats-128")
        >>> hits = pipe.retrieve(item=17, k=8)
        >>> pipe(hits, seed=0).images[0].save("cat.png")
    """

    def __init__(
        self,
        codec: Codec,
        denoiser: Denoiser,
        scheduler: SchedulerMixin,
        embedding: LatentEmbedding,
        database: Database,
        config: dict[str, Any],
        fingerprint: str = "",
        folder: Path | None = None,
    ):
        """Puts the parts together; `from_pretrained` is the usual way.

        Args:
            config: `name`, `image_size` in pixels, and `defaults` for order, grid,
                num_inference_steps, guidance_scale and k.
            fingerprint: stands for all weights.
            folder: where the bundle lies, for `save_pretrained` to copy.
        """
        size = denoiser.config.latent_size
        if database.latent_shape != (denoiser.config.latent_channels, size, size):
            raise RissoleError(
                "the database was made for another model: its latents differ in shape"
            )
        self.codec, self.denoiser, self.scheduler = codec, denoiser, scheduler
        self.embedding, self.database, self.config = embedding, database, config
        self.fingerprint, self.folder = fingerprint, folder
        self._lock = threading.Lock()

    # --- loading and saving ---------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "cats-128",
        revision: str | None = None,
        database: str | Path | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> RissolePipeline:
        """Loads a bundle after checking every file against its manifest.

        Args:
            name: a bundled name, a local folder or a Hub repository.
            revision: branch, tag or commit on the Hub.
            database: folder of another database, made for the same autoencoder.
            device: "cpu", "cuda", ...; None takes the fastest there is.
            dtype: of the denoiser; None is bfloat16 where the processor computes in it.

        Raises:
            RissoleError: one line that says what is missing, damaged or unknown.
        """
        folder = resolve(name, revision)
        manifest = verify(folder)
        config = _read_config(folder / "config.json")
        where = _device(device)
        codec = Codec.load(folder / "autoencoder").to(where)
        denoiser = Denoiser.load(folder / "denoiser").to(where, dtype or _fast_dtype(where))
        return cls(
            codec,
            denoiser.to(memory_format=torch.channels_last),
            DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler"),
            LatentEmbedding.load(folder / "embedding"),
            _open_database(folder, manifest, database),
            config,
            fingerprint(manifest, WEIGHTS),
            folder,
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a complete bundle with its manifest, whole or not at all.

        Weights that were loaded are copied as their files, since the model may compute in a
        precision that holds less than they do.
        """
        with staged(folder) as stage:
            if self.folder is not None:
                hidden = shutil.ignore_patterns("manifest.json", "database", ".*")
                shutil.copytree(self.folder, stage, ignore=hidden, dirs_exist_ok=True)
            else:
                parts = (self.codec, self.denoiser, self.scheduler, self.embedding)
                write_bundle(stage, *parts, self.config)
            shutil.copytree(self.database.folder, stage / "database")
            (stage / "database" / "manifest.json").unlink(missing_ok=True)
            write_manifest(stage, self.config["name"])

    # --- facts ----------------------------------------------------------------------------------

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        return self.config["image_size"]

    @property
    def defaults(self) -> dict[str, Any]:
        """Shipped settings: order, grid, num_inference_steps, guidance_scale and k."""
        return dict(self.config["defaults"])

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.denoiser.parameters()).device

    def num_parameters(self) -> dict[str, int]:
        """Trained numbers of the denoiser and of the autoencoder."""
        parts = {"denoiser": self.denoiser, "autoencoder": self.codec}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    # --- retrieval ------------------------------------------------------------------------------

    def retrieve(
        self,
        image: Image.Image | None = None,
        text: str | None = None,
        item: int | None = None,
        k: int = 8,
        seed: int | None = None,
    ) -> Hits:
        """Finds the k nearest pictures of the database.

        Args:
            image: a query of any size.
            text: a query in words; needs a bundle with a text encoder.
            item: a picture of the database; it is not among its own neighbors.
            k: 1 to 16.
            seed: draws the random item that is taken when no query is given.

        Raises:
            RissoleError: for more than one query, an unknown item or k out of range.
        """
        if sum(q is not None for q in (image, text, item)) > 1:
            raise RissoleError("give one query: an image, a text or an item")
        item = None if item is None else whole_number(item, "item", 0, len(self.database) - 1)
        if text is not None:
            raise RissoleError("this bundle has no text encoder: query with an image or an item")
        if image is not None:
            picture = square(image, self.image_size)
            ids, scores = self.database.search(self._embed(picture), k)
            return Hits(ids, scores, [self.database.image(i) for i in ids], picture)
        if item is None:
            seed = secrets.randbits(62) if seed is None else whole_number(seed, "seed", 0, MAX_SEED)
            draw = torch.Generator().manual_seed(seed)
            item = int(torch.randint(len(self.database), (), generator=draw))
        ids, scores = self.database.search(self.database.vector(item), k, exclude=item)
        images = [self.database.image(i) for i in ids]
        return Hits(ids, scores, images, self.database.image(item), item)

    def encode(self, picture: Image.Image) -> Tensor:
        """Latents (1, C, S, S) of a picture of any size."""
        pixels = to_tensor(square(picture, self.image_size)).to(self.device)
        with self._lock, torch.inference_mode():
            return self.codec.encode(pixels).cpu()

    def similarity(self, query: Image.Image | int, ids: Iterable[int]) -> list[float]:
        """Cosine similarity of a picture or an item to database pictures, as in `retrieve`."""
        if isinstance(query, Image.Image):
            query = self._embed(square(query, self.image_size))
        else:
            query = self.database.vector(query)
        return [min(1.0, float(query @ self.database.vector(i))) for i in ids]

    def _embed(self, picture: Image.Image) -> np.ndarray:
        with self._lock, torch.inference_mode():
            latents = self.codec.encode(to_tensor(picture).to(self.device))
            return self.embedding(latents)[0].cpu().numpy()

    # --- painting -------------------------------------------------------------------------------

    def __call__(
        self, hits: Hits | None = None, *, num_images: int = 1, **settings: Any
    ) -> GenerationOutput:
        """Paints pictures. `pipe(**out.recipe)` paints one again, to the last bit.

        Args:
            hits: from `retrieve`; or give `neighbors`.
            num_images: picture i uses seed + i.
            **settings: as for `stream`.

        Returns:
            A `GenerationOutput`.

        Raises:
            RissoleError: for a setting out of range; the text names it.
        """
        num_images = whole_number(num_images, "num_images", 1, 10_000)
        settings["seed"] = _seed(settings.pop("generator", None), settings.get("seed"))
        init = settings.get("init")
        if isinstance(init, Mapping):  # paint it once, not once per picture
            settings["init"] = self(**init)
        outputs = []
        for number in range(num_images):
            steps = self.stream(hits, **{**settings, "seed": settings["seed"] + number})
            outputs.append(deque(steps, maxlen=1)[0].output)
        return _joined(outputs)

    def stream(
        self,
        hits: Hits | None = None,
        *,
        neighbors: Iterable[int] | None = None,
        block_neighbors: Mapping[tuple[int, int], Iterable[int]] | None = None,
        order: str | None = None,
        grid: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        seed: int | None = None,
        init: GenerationOutput | Mapping[str, Any] | None = None,
        blocks: Iterable[tuple[int, int]] | None = None,
        bundle: str | None = None,
        database: str | None = None,
    ) -> Iterator[BlockStep]:
        """Paints one picture and yields a `BlockStep` after every denoising step.

        Settings left out are the bundle's defaults. Close the iterator to stop.

        Args:
            hits: neighbors from `retrieve`.
            neighbors: database ids, instead of `hits`. A set: order has no effect.
            block_neighbors: `{(row, col): ids}` for blocks with neighbors of their own.
            order: "parallel", "sequential" or "independent".
            grid: blocks per side: 1, 2 or 4.
            num_inference_steps: 1 to 200.
            guidance_scale: 0 to 20; 1 is unguided.
            generator, seed: source of the noise; neither means a fresh random seed.
            init, blocks: repaint these blocks of an earlier output (or recipe), keep the others.
            bundle, database: fingerprints of a recipe; refused when they are not this pipeline's.

        Yields:
            `position` (row, col) or None for all blocks, `index` of `num_blocks`, `step` of
            `total_steps`, `preview` (PIL, decoded when asked for), `attention` (rows, cols, k) with
            the columns `neighbors`, `done` and `active` (rows, cols), `network_calls`, and on the
            very last step `output`.

        Raises:
            RissoleError: before anything is painted.
        """
        self._check_origin(bundle, database)
        if (hits is None) == (neighbors is None):
            raise RissoleError("give either hits or neighbors")
        if isinstance(init, Mapping):
            init = self(**init)
        if not isinstance(init, GenerationOutput | None):
            raise RissoleError("init must be an earlier output or its recipe")
        defaults = self.defaults
        recipe = Recipe.validated(
            bundle=self.fingerprint,
            database=self.database.fingerprint,
            neighbors=hits.ids if hits is not None else neighbors,
            block_neighbors=block_neighbors,
            order=_default(order, defaults["order"]),
            grid=_default(grid, defaults["grid"]),
            num_inference_steps=_default(num_inference_steps, defaults["num_inference_steps"]),
            guidance_scale=_default(guidance_scale, defaults["guidance_scale"]),
            seed=_seed(generator, seed),
            blocks=blocks,
            init=None if init is None else init.recipe,
        )
        self.database.check(recipe.all_neighbors)
        return self._stream(recipe, None if init is None else init.latents[:1])

    def _stream(self, recipe: Recipe, init: Tensor | None) -> Iterator[BlockStep]:
        ids = sorted(recipe.all_neighbors)  # a fixed order, so that a set has one sum
        columns = list(recipe.all_neighbors)
        inverse = torch.tensor([ids.index(i) for i in columns])
        dtype = next(self.denoiser.parameters()).dtype
        with self._lock, torch.inference_mode():
            neighbors = self.database.latents(ids)[None].to(self.device, dtype)
            features = self.denoiser.encode_neighbors(neighbors)
        conditions = Conditions(features, self._visible(recipe, ids), recipe.guidance_scale)
        shape = tuple(neighbors.shape[2:])
        steps = paint(
            self.denoiser,
            self.scheduler,
            canvas_noise(recipe.seed, shape)[None].to(self.device),
            conditions,
            order=recipe.order,
            num_inference_steps=recipe.num_inference_steps,
            init=None if init is None else init.to(self.device),
            blocks=recipe.blocks,
            lock=self._lock,
        )
        previews = _Previews(self)
        for step in steps:
            seen = BlockStep(step, previews, columns, inverse)
            if step.index == step.num_blocks and step.step == step.total_steps:
                seen.output = self._output(recipe, seen, step)
            yield seen

    def _output(self, recipe: Recipe, seen: BlockStep, step: PaintStep) -> GenerationOutput:
        return GenerationOutput(
            images=[seen.preview],
            recipes=[recipe.to_dict()],
            attention=seen.attention,
            neighbors=seen.neighbors,
            latents=step.estimate.cpu(),
            network_calls=step.network_calls,
        )

    def _visible(self, recipe: Recipe, ids: list[int]) -> Tensor:
        """bool (1, g, g, K): the neighbors each block listens to."""
        visible = torch.tensor([i in recipe.neighbors for i in ids])
        visible = visible.repeat(recipe.grid, recipe.grid, 1)
        for row, col, own in recipe.block_neighbors:
            visible[row, col] = torch.tensor([i in own for i in ids])
        return visible[None].to(self.device)

    def check(self, recipe: Recipe) -> None:
        """Whether this pipeline can paint a recipe.

        Raises:
            RissoleError: when it was made with other weights or with another database.
        """
        self._check_origin(recipe.bundle, recipe.database)
        layer: Recipe | None = recipe
        while layer is not None:
            self.database.check(layer.all_neighbors)
            layer = layer.init

    def _check_origin(self, bundle: str | None, database: str | None) -> None:
        for name, given, own in (
            ("other weights", bundle, self.fingerprint),
            ("another database", database, self.database.fingerprint),
        ):
            if given and given != own:
                raise RissoleError(f"the recipe was made with {name} ({given}, here {own})")

    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Pictures of latents (B, C, S, S)."""
        with self._lock, torch.inference_mode():
            return to_pil(self.codec.decode(latents.to(self.device)).cpu())

    def crop_block(self, image: Image.Image, position: tuple[int, int], grid: int) -> Image.Image:
        """The part of a picture that lies in a block."""
        side = image.width // grid
        top, left = position[0] * side, position[1] * side
        return image.crop((left, top, left + side, top + side))


def write_bundle(
    folder: Path,
    codec: Codec,
    denoiser: Denoiser,
    scheduler: SchedulerMixin,
    embedding: LatentEmbedding,
    config: dict[str, Any],
    card: str | None = None,
) -> None:
    """Writes everything of a bundle but its database and manifest."""
    codec.save(folder / "autoencoder")
    denoiser.save(folder / "denoiser")
    scheduler.save_pretrained(folder / "scheduler")
    embedding.save(folder / "embedding")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").write_text(card or f"# {config['name']}\n")


def default_scheduler() -> SchedulerMixin:
    """DPM-Solver++ (2M) on the flow-matching path (arXiv 2211.01095)."""
    return DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0
    )


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
        config["name"], config["image_size"], config["defaults"]["k"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RissoleError(f"the bundle's config.json is missing or incomplete: {error}") from error
    return config


def _open_database(folder: Path, manifest: dict, other: str | Path | None) -> Database:
    if other is None:
        return Database(folder / "database", fingerprint(manifest, "database/"))
    if not (Path(other) / "manifest.json").is_file():
        raise RissoleError(f"{other} is no database: it has no manifest.json")
    own = verify(other)
    wanted = fingerprint(manifest, ("autoencoder/", "embedding/"))
    if own.get("encoder") != wanted:
        raise RissoleError(
            f"database {Path(other).name} was made with another autoencoder: index it again"
        )
    return Database(other, fingerprint(own))


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RissoleError(f"device {name!r} cannot be used here") from error


def _fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes in it, float32 elsewhere."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:  # torch names this check with an underscore, and not in every release
        fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if fast and device.type in ("cpu", "cuda") else torch.float32


def _default(value: Any, shipped: Any) -> Any:
    return shipped if value is None else value


def _seed(generator: torch.Generator | None, seed: int | None) -> int:
    """The seed of a run; a generator's own the first time it is used, then drawn from it."""
    if generator is None:
        return secrets.randbelow(2**32) if seed is None else seed
    if seed is not None:
        raise RissoleError("give a generator or a seed, not both")
    fresh = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    untouched = torch.equal(generator.get_state(), fresh.get_state())
    drawn = int(torch.randint(2**32, (), generator=generator, device=generator.device))
    return generator.initial_seed() if untouched else drawn


def _joined(outputs: list[GenerationOutput]) -> GenerationOutput:
    first = outputs[0]
    return GenerationOutput(
        images=[image for out in outputs for image in out.images],
        recipes=[recipe for out in outputs for recipe in out.recipes],
        attention=first.attention,
        neighbors=first.neighbors,
        latents=torch.cat([out.latents for out in outputs]),
        network_calls=sum(out.network_calls for out in outputs),
    )
