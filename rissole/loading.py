"""The parts of a bundle, from and to its folder, and where they compute."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from rissole.config import MAX_GUIDANCE_SCALE, MAX_NEIGHBORS, MAX_STEPS, RissoleError, quoted
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import load_denoiser
from rissole.models.interface import BlockDenoiser
from rissole.models.scheduler import Scheduler, load_scheduler, prediction_of
from rissole.retrieval.database import IN_BUNDLE, Database, open_database
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoding import IndexingParts
from rissole.retrieval.retriever import Retriever
from rissole.storage.files import write_atomic
from rissole.storage.hub import commit_of
from rissole.storage.manifest import (
    LEFT_OUT,
    NAME,
    fingerprint,
    harmless,
    latent_fingerprint,
    read_manifest,
    verify,
    write_manifest,
)
from rissole.storage.resolve import resolve
from rissole.storage.schema import STRICT, Name, read_json, reason
from rissole.storage.staging import copy_files, staged

CONFIG, CARD, SHOWCASE = "config.json", "README.md", "showcase.json"
WEIGHTS = ("autoencoder/", "denoiser/", "embedding/", "scheduler/")


class Defaults(TypedDict):
    """Shipped settings of a bundle, in the ranges that a recipe has; all but k may be missing."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    order: NotRequired[Literal["parallel", "sequential", "independent"]]
    grid: NotRequired[Literal[1, 2, 4]]
    num_inference_steps: NotRequired[Annotated[int, Field(ge=1, le=MAX_STEPS)]]
    guidance_scale: NotRequired[Annotated[float, Field(ge=0, le=MAX_GUIDANCE_SCALE)]]
    k: Annotated[int, Field(ge=1, le=MAX_NEIGHBORS)]


class BundleConfig(TypedDict):
    """The form of a bundle's `config.json`."""

    __pydantic_config__ = STRICT  # type: ignore[misc]

    name: Annotated[str, Field(pattern=f"^{NAME.pattern}$", max_length=200)]
    image_size: Annotated[int, Field(ge=16, le=2048)]  # pixels
    defaults: Defaults
    encoder: NotRequired[Name]  # what pictures are compared by


class Parts(NamedTuple):
    """The trained parts of a bundle, in the order in which a pipeline takes them."""

    codec: Codec
    denoiser: BlockDenoiser
    scheduler: Scheduler
    embedding: LatentEmbedding


def open_bundle(
    name: str | Path, revision: str | None = None, update: bool = False
) -> tuple[Path, str]:
    """Finds a bundle and checks every file: its folder, and the fingerprint of its weights.

    Args:
        name: a bundled name, a local folder or a Hub repository.
        revision: branch, tag or commit on the Hub.
        update: ask the Hub for a newer commit, even when a whole copy is in the cache.

    Raises:
        RissoleError: when it is not there, or damaged.
    """
    folder = resolve(name, revision, update=update)
    fetched = commit_of(folder) is not None  # the Hub adds files of its own
    tolerate = harmless if fetched else lambda path: False
    return folder, fingerprint(verify(folder, tolerate, remember=True), WEIGHTS)


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a bundle: its name, the size of pictures, and what is shipped.

    Raises:
        RissoleError: when it is missing or odd.
    """
    try:
        config: Any = read_json(folder / CONFIG, BundleConfig)
    except (OSError, ValueError) as error:
        raise RissoleError(
            f"the bundle's {CONFIG} is missing or incomplete: {reason(error)}"
        ) from error
    return config


def read_parts(folder: Path) -> Parts:
    """What `write_bundle` wrote, on the CPU and in float32.

    Raises:
        RissoleError: names the part that is missing, damaged or of a class that cannot serve.
    """
    parts = Parts(
        Codec.load(folder / "autoencoder"),
        load_denoiser(folder / "denoiser"),
        load_scheduler(folder / "scheduler"),
        LatentEmbedding.load(folder / "embedding"),
    )
    check_sizes(parts, read_config(folder)["image_size"])
    return parts


def check_sizes(parts: Parts, image_size: int) -> None:
    """Raises RissoleError unless the parts of a bundle paint pictures of the size it names."""
    channels, side, _ = parts.denoiser.latent_shape
    if parts.codec.latent_channels != channels:
        raise RissoleError(
            f"the autoencoder has {parts.codec.latent_channels} latent channels, the denoiser "
            f"{channels}"
        )
    if side * parts.codec.vae_scale_factor != image_size:
        size = side * parts.codec.vae_scale_factor
        raise RissoleError(f"the bundle's image_size is {image_size}, its networks paint {size}")
    if parts.embedding.dim != channels * parts.embedding.cells**2:
        raise RissoleError("the embedding was measured on latents of another shape")


def write_bundle(
    folder: Path,
    codec: Codec,
    denoiser: BlockDenoiser,
    scheduler: Scheduler,
    embedding: LatentEmbedding,
    config: dict[str, Any],
    card: str | None = None,
) -> None:
    """Writes everything of a bundle but its database and manifest."""
    codec.save(folder / "autoencoder")
    denoiser.save(folder / "denoiser")
    scheduler.save_pretrained(folder / "scheduler")
    embedding.save(folder / "embedding")
    write_config(folder, config)
    write_atomic(folder / CARD, (card or f"# {config['name']}\n").encode())


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes what `read_config` reads."""
    write_atomic(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())


def save_bundle(
    folder: str | Path,
    source: Path | Parts,
    database: Path,
    config: dict[str, Any],
    card: str | None = None,
    more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Writes a complete bundle with its manifest, whole or not at all.

    Args:
        folder: where to.
        source: a bundle whose files are copied, or what is written anew.
        database: folder of the database that goes with it.
        config: what `read_config` reads.
        card: text of another model card than that of a bundle which is copied.
        more: adds to the folder of the database.
    """
    with staged(folder) as stage:
        if isinstance(source, Path):
            # of another database, what the page opens with is another, too
            own = database == source / "database"
            copy_files(source, stage, skip=("database/", *(() if own else (SHOWCASE,))))
            write_config(stage, config)
        else:
            write_bundle(stage, *source, config)
        if card is not None:
            write_atomic(stage / CARD, card.encode())
        copy_files(database, stage / "database", skip=(LEFT_OUT,))
        more(stage / "database")
        write_manifest(stage, config["name"])


def open_bundle_database(folder: Path | None, other: str | Path | None = None) -> Database:
    """The database of a verified bundle, or another one that was made for it.

    Args:
        folder: of the bundle.
        other: folder, or `owner/name` of a data set on the Hub.

    Raises:
        RissoleError: when it is damaged or was made with another autoencoder.
    """
    if folder is None:
        raise RissoleError("a pipeline without a folder cannot check a database's encoder")
    manifest = read_manifest(folder)
    if other is None:
        return Database.open(folder / "database", fingerprint(manifest, IN_BUNDLE))
    return open_database(resolve(other, kind="dataset"), latent_fingerprint(manifest))


def indexing_parts(
    folder: Path | None, retriever: Retriever, torch_dtype: torch.dtype
) -> IndexingParts:
    """What it takes to make a database that fits a bundle.

    Args:
        folder: of the bundle.
        retriever: whose own encoder comes first, then those whose vectors databases keep.
        torch_dtype: of the denoiser.

    Raises:
        RissoleError: without a bundle that a database could belong to.
    """
    if folder is None:
        raise RissoleError("a pipeline without a folder has no bundle to index pictures for")
    own, every = retriever.encoder, retriever.encoders.values()
    return IndexingParts(
        codec=retriever.codec,
        encoders=(own, *(encoder for encoder in every if encoder.kept and encoder is not own)),
        image_size=retriever.image_size,
        latent_shape=retriever.database.latent_shape,
        made_for=latent_fingerprint(read_manifest(folder)),
        device=retriever.device,
        dtype=torch_dtype,
    )


def check_fit(
    denoiser: BlockDenoiser, scheduler: Scheduler, database: Database, image_size: int
) -> None:
    """Raises RissoleError unless a scheduler and a database are ones for a denoiser."""
    wanted, answered = prediction_of(scheduler).name, denoiser.prediction_type
    if wanted != answered:
        raise RissoleError(f"the scheduler wants {wanted}, the denoiser predicts {answered}")
    if database.latent_shape != denoiser.latent_shape:
        raise RissoleError("the database was made for another model: its latents differ in shape")
    if database.facts.image_size != image_size:
        size = database.facts.image_size
        raise RissoleError(f"the database has pictures of {size} pixels, the model {image_size}")


def device_of(name: str | torch.device | None) -> torch.device:
    """A device by its name; None is the fastest there is.

    Raises:
        RissoleError: when it cannot be used here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise RissoleError(f"device {quoted(str(name))} cannot be used here") from error


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raises RissoleError for what is no precision that networks compute in."""
    if dtype is not None and not getattr(dtype, "is_floating_point", False):
        raise RissoleError(f"torch_dtype must be such as torch.float32, not {quoted(dtype)}")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes in it, float32 elsewhere."""
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:  # torch names this check with an underscore, and not in every release
        fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.bfloat16 if fast and device.type in ("cpu", "cuda") else torch.float32


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which products are computed in bfloat16, where that is fast."""
    fast = fast_dtype(device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
