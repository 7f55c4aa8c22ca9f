"""`RissolePipeline`: retrieve, paint, watch, repaint."""

from __future__ import annotations

import json
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin
from PIL import Image
from torch import Tensor

from rissole.autoencoder import Codec
from rissole.bundle import (
    LEFT_OUT,
    copy_files,
    fingerprint,
    harmless,
    read_manifest,
    resolve,
    staged,
    verify,
    write_manifest,
)
from rissole.config import MAX_SEED, Recipe, RissoleError, quoted, whole_number
from rissole.denoiser import Denoiser
from rissole.embedding import LatentEmbedding
from rissole.encoders import (
    GET_CLIP,
    NAMES,
    ClipEncoder,
    CornerEncoder,
    LatentEncoder,
    LearnedEncoder,
    QueryEncoder,
)
from rissole.hub import commit_of
from rissole.images import ImageSource, load_image, square, to_pil, to_tensor
from rissole.retrieval import IN_BUNDLE, Database, Hits, open_database
from rissole.sampler import Conditions, PaintStep, block_shares, canvas_noise, paint
from rissole.vectors import VectorIndex

WEIGHTS = ("autoencoder/", "denoiser/", "embedding/", "scheduler/")
MAX_PICTURES = 256  # in a database that lives in memory
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
        last = step.index == step.num_blocks and step.step == step.total_steps
        image = np.array(self._pipe.decode(step.estimate, draft=not last)[0])
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
        pixels = np.array(self._pipe.decode(crop, draft=True)[0])
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
        encoders: Iterable[QueryEncoder] = (),
    ):
        """Puts the parts together; `from_pretrained` is the usual way.

        Args:
            config: `name`, `image_size` in pixels, and `defaults` for order, grid,
                num_inference_steps, guidance_scale and k.
            fingerprint: stands for all weights.
            folder: where the bundle lies, for `save_pretrained` to copy.
            encoders: further query encoders, beside those that compare latents.
        """
        channels, size = denoiser.config.latent_channels, denoiser.config.latent_size
        _check_shape(database, (channels, size, size))
        self.codec, self.denoiser, self.scheduler = codec, denoiser, scheduler
        self.embedding, self.database, self.config = embedding, database, config
        self.fingerprint, self.folder = fingerprint, folder
        always = (LatentEncoder(embedding), CornerEncoder(channels, size))
        self.encoders = {encoder.name: encoder for encoder in (*always, *encoders)}
        self._indexes: dict[str, VectorIndex] = {}
        self._lock, self._index_lock = threading.Lock(), threading.Lock()

    # --- loading and saving ---------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "cats-128",
        revision: str | None = None,
        database: str | Path | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        encoder: str | None = None,
        clip: str | None = None,
        update: bool = False,
    ) -> RissolePipeline:
        """Loads a bundle after checking every file against its manifest.

        Args:
            name: a bundled name, a local folder or a Hub repository.
            revision: branch, tag or commit on the Hub.
            database: folder or Hub data set of another database, made for the same autoencoder.
            device: "cpu", "cuda", ...; None takes the fastest there is.
            dtype: of the denoiser; None is bfloat16 where the processor computes in it.
            encoder: what pictures are compared by: "latent", "latent-corner" (as published),
                "learned" (if the bundle has one) or "clip"; None is as shipped.
            clip: a CLIP model that makes text queries possible, see `ClipEncoder.load`.
            update: ask the Hub for a newer commit, even when a whole copy is in the cache.

        Raises:
            RissoleError: one line that says what is missing, damaged or unknown.
        """
        folder = resolve(name, revision, update=update)
        fetched = commit_of(folder) is not None
        tolerate = harmless if fetched else lambda path: False
        manifest = verify(folder, tolerate, remember=True)
        config = _read_config(folder / "config.json")
        where = _device(device)
        further: list[QueryEncoder] = []
        if (folder / "encoder").is_dir():
            further.append(LearnedEncoder.load(folder / "encoder").to(where))
        if clip is not None:
            further.append(ClipEncoder.load(clip).to(where))
        codec = Codec.load(folder / "autoencoder").to(where)
        denoiser = Denoiser.load(folder / "denoiser").to(where, dtype or fast_dtype(where))
        pipe = cls(
            codec,
            denoiser.to(memory_format=torch.channels_last),
            DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler"),
            LatentEmbedding.load(folder / "embedding"),
            _open_database(folder, manifest, database),
            config,
            fingerprint(manifest, WEIGHTS),
            folder,
            further,
        )
        if encoder is not None:
            pipe.config = {**config, "encoder": pipe.find_encoder(encoder).name}
        return pipe

    def with_database(self, database: str | Path | Database) -> RissolePipeline:
        """The same model, nothing of it copied, with another database.

        Args:
            database: folder, `owner/name` of a data set on the Hub, or an opened one.

        Raises:
            RissoleError: when it is damaged or was made with another autoencoder.
        """
        if not isinstance(database, Database):
            if self.folder is None:
                raise RissoleError("a pipeline without a folder cannot check a database's encoder")
            database = _open_database(self.folder, read_manifest(self.folder), database)
        _check_shape(database, self.database.latent_shape)
        other = copy(self)
        other.database, other._indexes = database, {}
        return other

    def with_pictures(
        self, pictures: Iterable[ImageSource], label: str = "your photos"
    ) -> RissolePipeline:
        """The same model with a database of a few pictures that lives as long as the result.

        Nothing is written to disk. What is no picture is left out and named in
        `result.database.info["skipped"]`.

        Args:
            pictures: files, bytes or PIL images, 1 to 256 of them.
            label: what they are, for people.

        Raises:
            RissoleError: when none of them is a picture.
        """
        images, skipped = [], []
        for source in islice(pictures, MAX_PICTURES + 1):
            try:
                images.append(square(load_image(source), self.image_size))
            except RissoleError as error:
                skipped.append(str(error))
        if not 1 <= len(images) <= MAX_PICTURES:
            reason = f": {skipped[0]}" if skipped and not images else ""
            raise RissoleError(f"give 1 to {MAX_PICTURES} pictures{reason}")
        latents = torch.cat([self.encode(image) for image in images])
        with torch.inference_mode():
            database = Database.in_memory(latents, images, self.encoders["latent"], label)
        database.info["skipped"] = skipped
        return self.with_database(database)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a complete bundle with its manifest, whole or not at all.

        Weights that were loaded are copied as their files, since the model may compute in a
        precision that holds less than they do.
        """
        if self.database.in_memory:
            raise RissoleError("pictures of one visit are not saved: index them in a folder")
        with staged(folder) as stage:
            if self.folder is not None:
                copy_files(self.folder, stage, skip=("database/",))
            else:
                parts = (self.codec, self.denoiser, self.scheduler, self.embedding)
                write_bundle(stage, *parts, self.config)
            copy_files(self.database.folder, stage / "database", skip=(LEFT_OUT,))
            write_manifest(stage, self.config["name"])

    # --- facts ----------------------------------------------------------------------------------

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        return self.config["image_size"]

    @property
    def commit(self) -> str | None:
        """Commit of the bundle on the Hub; None when it does not come from there."""
        return commit_of(self.folder) if self.folder is not None else None

    @property
    def encoder(self) -> QueryEncoder:
        """What pictures are compared by, unless `retrieve` is told otherwise."""
        return self.find_encoder(self.config.get("encoder", "latent"))

    @property
    def text_queries(self) -> bool:
        """Whether `retrieve(text=...)` works: a CLIP model was given."""
        return any(encoder.reads_text for encoder in self.encoders.values())

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
        label: str | None = None,
        encoder: str | None = None,
    ) -> Hits:
        """Finds the k nearest pictures of the database.

        Args:
            image: a query of any size.
            text: a query in words; needs a text encoder, see `text_queries`.
            item: a picture of the database; it is not among its own neighbors.
            k: 1 to 16.
            seed: draws the random item that is taken when no query is given.
            label: only pictures of this class, the random item included.
            encoder: what they are compared by, in place of `self.encoder`.

        Raises:
            RissoleError: for more than one query, an unknown item or k out of range.
        """
        if sum(q is not None for q in (image, text, item)) > 1:
            raise RissoleError("give one query: an image, a text or an item")
        used = self._text_encoder() if text is not None else self.encoder
        used = used if encoder is None else self.find_encoder(encoder)
        item = None if item is None else whole_number(item, "item", 0, len(self.database) - 1)
        picture = None if image is None else square(image, self.image_size)
        if image is None and text is None and item is None:
            item = self._random_item(seed, label)
        index = self._index(used)
        vector = index.vector(item) if item is not None else self._embed(used, picture, text)
        ids, scores = self.database.search(vector, k, exclude=item, label=label, index=index)
        return Hits(
            ids,
            scores,
            images=[self.database.image(i) for i in ids],
            query=picture if item is None else self.database.image(item),
            item=item,
            labels=self.database.labels(ids),
            text=text,
        )

    def find_encoder(self, name: str) -> QueryEncoder:
        """A query encoder by its name.

        Raises:
            RissoleError: when there is none of that name here.
        """
        if name in self.encoders:
            return self.encoders[name]
        if name == "clip":
            raise RissoleError(f"no CLIP model is loaded: {GET_CLIP}")
        if name in NAMES:
            raise RissoleError(f"this bundle has no encoder {name!r}")
        raise RissoleError(f"encoder must be one of {', '.join(NAMES)}, not {quoted(name)}")

    def prepare(self, encoder: str) -> None:
        """Makes the database's vectors for an encoder now rather than at the first query.

        Takes some 60 ms a picture for CLIP on two cores, once: they are kept.

        Raises:
            RissoleError: when the encoder is not there or the database was made with another.
        """
        self._index(self.find_encoder(encoder))

    def _text_encoder(self) -> QueryEncoder:
        reading = (encoder for encoder in self.encoders.values() if encoder.reads_text)
        found = next(reading, None)
        if found is None:
            raise RissoleError(f"no text encoder is loaded: {GET_CLIP}")
        return found

    def _random_item(self, seed: int | None, label: str | None) -> int:
        seed = secrets.randbits(62) if seed is None else whole_number(seed, "seed", 0, MAX_SEED)
        draw = torch.Generator().manual_seed(seed)
        if label is None:
            return int(torch.randint(len(self.database), (), generator=draw))
        members = self.database.members(label).nonzero()[0]
        if not len(members):
            raise RissoleError(f"the database has no picture of class {quoted(label)}")
        return int(members[int(torch.randint(len(members), (), generator=draw))])

    def _index(self, encoder: QueryEncoder) -> VectorIndex:
        """The database's index for an encoder, made on first use where it has none."""
        with self._index_lock:
            if encoder.id not in self._indexes:
                self._indexes[encoder.id] = self.database.index_for(encoder)
            return self._indexes[encoder.id]

    def _embed(
        self, encoder: QueryEncoder, picture: Image.Image | None, text: str | None
    ) -> np.ndarray:
        if text is not None:
            if not text.strip():
                raise RissoleError("the text to search for is empty")
            with torch.inference_mode():
                return encoder.text([text])[0].cpu().numpy()
        latents = self.encode(picture).to(self.device)
        with torch.inference_mode():
            return encoder(to_tensor(picture).to(self.device), latents)[0].cpu().numpy()

    def encode(self, picture: Image.Image) -> Tensor:
        """Latent (1, C, S, S), on the CPU, of a picture of any size."""
        pixels = to_tensor(square(picture, self.image_size)).to(self.device)
        with self._lock, torch.inference_mode():
            return self.codec.encode(pixels).float().cpu()

    def similarity(self, query: Image.Image | int, ids: Iterable[int]) -> list[float]:
        """Cosine similarity of a picture or an item to database pictures, as in `retrieve`."""
        index = self._index(self.encoder)
        if isinstance(query, Image.Image):
            vector = self._embed(self.encoder, square(query, self.image_size), None)
        else:
            vector = index.vector(query)
        return [min(1.0, float(vector @ index.vector(i))) for i in ids]

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
                shown = ascii(str(given))[1:-1][:20]  # a recipe may come from anybody
                raise RissoleError(f"the recipe was made with {name} ({shown}, here {own})")

    def decode(self, latents: Tensor, draft: bool = False) -> list[Image.Image]:
        """Pictures of latents (B, C, S, S).

        Args:
            latents: what to decode.
            draft: in the precision of the denoiser, for pictures that are on show for a moment:
                where that is bfloat16, half the time for a level or two of difference in 255.
        """
        low = draft and next(self.denoiser.parameters()).dtype == torch.bfloat16
        rough = torch.autocast(self.device.type, torch.bfloat16, enabled=low)
        with self._lock, torch.inference_mode(), rough:
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
        return Database(folder / "database", fingerprint(manifest, IN_BUNDLE))
    return open_database(resolve(other, kind="dataset"), latent_fingerprint(manifest))


def latent_fingerprint(manifest: Mapping[str, Any]) -> str:
    """Stands for what makes the latents and vectors of a bundle's databases."""
    return fingerprint(manifest, ("autoencoder/", "embedding/"))


def _check_shape(database: Database, wanted: tuple[int, ...]) -> None:
    if database.latent_shape != wanted:
        raise RissoleError("the database was made for another model: its latents differ in shape")


def _device(name: str | None) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RissoleError(f"device {name!r} cannot be used here") from error


def fast_dtype(device: torch.device) -> torch.dtype:
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
