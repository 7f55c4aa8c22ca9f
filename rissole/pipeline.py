"""`RissolePipeline`: retrieve, denoise, decode."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from rissole import loading
from rissole.config import MAX_SEED, Recipe, RissoleError, quoted, whole_number
from rissole.cost import work_of
from rissole.data.images import CALLER, Caps, ImageSource, to_pil
from rissole.models.autoencoder import Codec
from rissole.models.interface import BlockDenoiser
from rissole.models.scheduler import Scheduler
from rissole.outputs import BlockStep, GenerationOutput, Previews, last_output
from rissole.request import Init, Origin, checked_recipe
from rissole.retrieval.database import Database, Hits
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoded import EncodedNeighbors
from rissole.retrieval.encoders import BundleParts, ClipEncoder, QueryEncoder, load_encoders
from rissole.retrieval.encoding import IndexingParts
from rissole.retrieval.retriever import Retriever
from rissole.sampling import Plan, canvas_noise, paint, told_strength, visible_neighbors
from rissole.storage.hub import commit_of


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
        denoiser: BlockDenoiser,
        scheduler: Scheduler,
        embedding: LatentEmbedding,
        database: Database,
        config: dict[str, Any],
        fingerprint: str | None = None,
        folder: Path | None = None,
        encoders: Iterable[QueryEncoder] = (),
    ):
        """Puts the parts together; `from_pretrained` is the usual way.

        Args:
            config: `name`, `image_size` in pixels, and `defaults` for order, grid,
                num_inference_steps, guidance_scale and k.
            fingerprint: stands for all weights.
            folder: where the bundle lies, for `save_pretrained` to copy.
            encoders: query encoders beside those that the bundle has, see `load_encoders`.

        Raises:
            RissoleError: when the parts do not fit one another.
        """
        self.codec, self.denoiser, self.scheduler = codec, denoiser, scheduler
        self.embedding, self.config = embedding, config
        self.fingerprint, self.folder = fingerprint, folder
        self._lock = threading.Lock()  # one evaluation of a network at a time
        self._encoded = EncodedNeighbors()
        loading.check_fit(denoiser, scheduler, database, self.image_size)
        named = load_encoders(BundleParts(embedding, database.latent_shape, folder), encoders)
        default = config.get("encoder", "latent")
        self.retriever = Retriever(database, codec, named, self.image_size, default, self._lock)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "cats-128",
        revision: str | None = None,
        database: str | Path | None = None,
        device: str | None = None,
        torch_dtype: torch.dtype | None = None,
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
            torch_dtype: of the denoiser; None is bfloat16 where the processor computes in it.
            encoder: what pictures are compared by, see `encoder_names`; None is as shipped.
            clip: a CLIP model that makes text queries possible, see `ClipEncoder.load`.
            update: ask the Hub for a newer commit, even when a whole copy is in the cache.

        Raises:
            RissoleError: one line that says what is missing, damaged or unknown.
        """
        folder, weights = loading.open_bundle(name, revision, update)
        config, where = loading.read_config(folder), loading.device_of(device)
        pipe = cls(
            *loading.read_parts(folder),
            loading.open_bundle_database(folder, database),
            config,
            weights,
            folder,
            () if clip is None else [ClipEncoder.load(clip)],
        ).to(where, torch_dtype or loading.fast_dtype(where))
        return pipe if encoder is None else pipe.with_encoder(encoder)

    def to(
        self, device: str | torch.device | None = None, torch_dtype: torch.dtype | None = None
    ) -> RissolePipeline:
        """Moves the networks, those of pipelines that share them as well; returns itself.

        Args:
            device: where all of them compute; None leaves them where they are.
            torch_dtype: precision of the denoiser; None leaves it as it is.

        Raises:
            RissoleError: for a device that cannot be used here, or what is no precision.
        """
        loading.check_dtype(torch_dtype)
        where = self.device if device is None else loading.device_of(device)
        self.denoiser.to(where, torch_dtype)
        self.codec.to(where)
        for encoder in self.retriever.encoders.values():
            encoder.to(where)
        return self

    def with_database(self, database: str | Path | Database) -> RissolePipeline:
        """The same model, nothing of it copied, with another database.

        Args:
            database: folder, `owner/name` of a data set on the Hub, or an opened one.

        Raises:
            RissoleError: when it is damaged or was made with another autoencoder.
        """
        if not isinstance(database, Database):
            database = loading.open_bundle_database(self.folder, database)
        loading.check_fit(self.denoiser, self.scheduler, database, self.image_size)
        return self._with(self.retriever.with_database(database))

    def with_pictures(
        self, pictures: Iterable[ImageSource], label: str = "your photos", caps: Caps = CALLER
    ) -> RissolePipeline:
        """The same model with a database of a few pictures, see `Retriever.gather`."""
        return self.with_database(self.retriever.gather(pictures, label, caps))

    def with_encoder(self, name: str) -> RissolePipeline:
        """The same model and database, where pictures are compared by another encoder.

        Raises:
            RissoleError: when there is none of that name here.
        """
        return self._with(self.retriever.with_encoder(name))

    def _with(self, retriever: Retriever) -> RissolePipeline:
        other = copy(self)
        other.retriever = retriever
        return other

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes a complete bundle with its manifest, whole or not at all.

        Weights that were loaded are copied as their files, since the model may compute in a
        precision that holds less than they do.
        """
        if self.database.in_memory:
            raise RissoleError("pictures of one visit are not saved: index them in a folder")
        parts = loading.Parts(self.codec, self.denoiser, self.scheduler, self.embedding)
        loading.save_bundle(folder, self.folder or parts, self.database.folder, self.config)

    def indexing_parts(self) -> IndexingParts:
        """What `build_index` needs of this pipeline to make a database that fits it.

        Raises:
            RissoleError: for a pipeline without a bundle that a database could belong to.
        """
        return loading.indexing_parts(self.folder, self.retriever, self.torch_dtype)

    @property
    def image_size(self) -> int:
        """Side of a picture in pixels."""
        return self.config["image_size"]

    @property
    def commit(self) -> str | None:
        """Commit of the bundle on the Hub; None when it does not come from there."""
        return commit_of(self.folder) if self.folder is not None else None

    @property
    def defaults(self) -> dict[str, Any]:
        """Shipped settings: order, grid, num_inference_steps, guidance_scale and k."""
        return dict(self.config["defaults"])

    @property
    def _origin(self) -> Origin:
        return Origin(self.fingerprint, self.database)

    @property
    def database(self) -> Database:
        """The pictures that can be neighbors."""
        return self.retriever.database

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.denoiser.parameters()).device

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of the denoiser."""
        return next(self.denoiser.parameters()).dtype

    def num_parameters(self) -> dict[str, int]:
        """Trained numbers of the denoiser and of the autoencoder."""
        parts = {"denoiser": self.denoiser, "autoencoder": self.codec}
        return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}

    def retrieve(
        self,
        image: ImageSource | None = None,
        text: str | None = None,
        item: int | None = None,
        k: int = 8,
        seed: int | None = None,
        label: str | None = None,
        encoder: str | None = None,
    ) -> Hits:
        """Finds the k nearest pictures of the database; see `Retriever.retrieve`.

        Args:
            image, text, item: the query, one of them at most; without, a random item. An image is
                a path, bytes, a PIL image, an array or a tensor, see `images.load_image`.
            k: 1 to 16.
            seed: draws the random item.
            label: only pictures of this class.
            encoder: what they are compared by, in place of `self.retriever.encoder`.

        Raises:
            RissoleError: one line that says what is wrong with the query.
        """
        return self.retriever.retrieve(image, text, item, k, seed, label, encoder)

    def __call__(
        self,
        hits: Hits | Recipe | None = None,
        *,
        num_images: int = 1,
        init: Init = None,
        **settings: Any,
    ) -> GenerationOutput:
        """Paints pictures. `pipe(**out.recipe)` paints one again, to the last bit.

        Args:
            hits: from `retrieve`, or a checked recipe; or give `neighbors`.
            num_images: picture i uses seed + i.
            init, settings: as for `recipe`.

        Raises:
            RissoleError: for a setting out of range; the text names it.
        """
        num_images = whole_number(num_images, "num_images", 1, 10_000)
        first = self.recipe(hits, init=init, **settings)
        whole_number(first.seed + num_images - 1, "the last seed", 0, MAX_SEED)
        if first.init is not None and not isinstance(init, GenerationOutput):
            init = self(first.init)  # once, not once per picture
        outputs = []
        for number in range(num_images):
            steps = self._paint(replace(first, seed=first.seed + number), init)
            outputs.append(last_output(steps))
        return GenerationOutput.joined(outputs)

    def stream(
        self, hits: Hits | Recipe | None = None, *, init: Init = None, **settings: Any
    ) -> Generator[BlockStep, None, None]:
        """Paints one picture and yields a `BlockStep` after every denoising step.

        Args:
            hits: from `retrieve`, or a checked recipe; or give `neighbors`.
            init, settings: as for `recipe`. An output at hand spares painting what it holds, also
                where a recipe has an `init` of its own.

        Returns:
            An iterator over the steps; close it to stop. The last step has the `output`.

        Raises:
            RissoleError: before anything is painted.
        """
        return self._paint(self.recipe(hits, init=init, **settings), init)

    def recipe(
        self, hits: Hits | Recipe | None = None, *, init: Init = None, **settings: Any
    ) -> Recipe:
        """Checks settings, once for all that follows, and completes them with the bundle's own.

        Args:
            hits: from `retrieve`; or a checked recipe, which leaves nothing to set.
            init: an earlier output, or its recipe, whose `blocks` are painted anew.
            settings: the attributes of a `Recipe`, `neighbors` in place of `hits`; and `generator`
                in place of `seed`, where neither means a random one. What is left out, or None, is
                as in the bundle's `defaults`.

        Raises:
            RissoleError: names what is out of range, or not of this bundle and database.
        """
        recipe = checked_recipe(hits, {**settings, "init": init}, self.defaults)
        return self._origin.own(recipe, init)

    def check(self, recipe: Recipe) -> None:
        """Raises RissoleError for a recipe of other weights or of another database, or for none."""
        if not isinstance(recipe, Recipe):
            raise RissoleError(f"only a checked recipe can be compared, not {quoted(recipe)}")
        self._origin.own(recipe)

    def work(self, recipe: Recipe) -> float:
        """What a recipe costs, without what it is painted upon, see `cost.work_of`."""
        return work_of(recipe, self.denoiser, self.scheduler)

    def _paint(self, recipe: Recipe, init: Any) -> Generator[BlockStep, None, None]:
        """Paints a recipe that was checked, upon `init` if that is an output."""
        if recipe.init is not None and not isinstance(init, GenerationOutput):
            init = self(recipe.init)
        ids = sorted(recipe.all_neighbors)  # a fixed order, so that a set has one sum
        with self._lock, torch.inference_mode():
            features = self._encoded(self.denoiser, self.database, ids)
        visible, usual = (x.to(self.device) for x in visible_neighbors(recipe, ids))
        plan = Plan(
            canvas_noise(recipe.seed, self.denoiser.latent_shape)[None].to(self.device),
            features,
            visible,
            recipe.guidance_scale,
            recipe.num_inference_steps,
            recipe.order,
            None if init is None else init.latents[:1].to(self.device),
            recipe.blocks,
            strength=told_strength(recipe.strength, visible, usual),
            usual=usual,
            follow=recipe.strength,
        )
        previews = Previews(self.decode)
        for step in paint(self.denoiser, self.scheduler, plan, self._lock):
            yield BlockStep(step, previews, recipe)

    def decode(self, latents: Tensor, draft: bool = False) -> list[Image.Image]:
        """Pictures of latents (B, C, S, S).

        Args:
            latents: what to decode.
            draft: in the precision of the denoiser, for pictures that are on show for a moment:
                where that is bfloat16, half the time for a level or two of difference in 255.
        """
        low = draft and self.torch_dtype == torch.bfloat16
        rough = torch.autocast(self.device.type, torch.bfloat16, enabled=low)
        with self._lock, torch.inference_mode(), rough:
            return to_pil(self.codec.decode(latents.to(self.device)).cpu())
