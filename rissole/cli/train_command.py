"""`rissole train`: one stage of a run."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rissole.config import (
    RissoleError,
)

if TYPE_CHECKING:
    from torch import Tensor

    from rissole.data.photos import Labelled
from rissole.cli import options

# in this order; the three feature networks differ in their seed
STAGES = (
    "critic", "autoencoder", "decoder", "features", "check", "encoder", "latents", "denoiser",
    "gallery",
)  # fmt: skip
FEATURE_SEEDS = {"features": 0, "check": 1, "critic": 7}
NEEDED = {
    "decoder": ("autoencoder",),
    "latents": ("autoencoder",),
    "gallery": ("autoencoder", "features", "latents", "denoiser"),
}


def train(
    stage: Annotated[str, typer.Option(help=f"What to train: {', '.join(STAGES)}, in this order.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Photos: a folder of pictures, a parquet file, or a folder of such.",
            show_default="needed for all but the denoiser",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the run; each stage writes, and reads, a part of it.")
    ] = Path("runs/cats-128"),
    minutes: Annotated[float, typer.Option(help="Wall time to spend on the stage.")] = 10.0,
    steps: Annotated[
        int | None, typer.Option(help="Stop after so many steps, if that is earlier.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side in pixels to which photos are cut.")] = 128,
    space: Annotated[
        str,
        typer.Option(
            help="latent: the stage autoencoder trains one. pixel: it only measures the scale of "
            "the photos, which are then painted as they are; for small ones."
        ),
    ] = "latent",
    preset: Annotated[
        str,
        typer.Option(
            help="What the stage denoiser trains: rissole, or to compare with it published, "
            "published-no-retrieval, whole-image, whole-image-retrieval, no-halo, no-canvas."
        ),
    ] = "rissole",
    config: Annotated[
        Path | None,
        typer.Option(help='JSON file with settings of the stage, such as {"batch_size": 64}.'),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            help="Part of the learning-rate schedule, for a denoiser trained in sessions."
        ),
    ] = "0,1",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what the stage wrote before.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of weights, batches and noise.")] = 0,
    device: options.Device = None,
) -> None:
    """Train one stage; Ctrl-C keeps what was learned so far.

    critic: features that judge the decoder, may be left out. autoencoder: pictures to latents and
    back. decoder: sharpens it, latents stay. features, check: networks that measure pictures.
    encoder: finds neighbors in place of the latents, may be left out. latents: encode all photos,
    find who is whose neighbor, mostly within a class if photos have one. denoiser: paint blocks.
    gallery: paint the pictures to retrieve from, and write the finished model to OUT/bundle.
    """
    if stage not in STAGES:
        raise RissoleError(f"--stage must be one of {', '.join(STAGES)}, not {stage!r}")
    _check_preset(preset)
    if space not in ("latent", "pixel"):
        raise RissoleError(f"--space must be latent or pixel, not {space!r}")
    if not 0 < minutes < math.inf or (steps is not None and steps < 1):
        raise RissoleError("--minutes and --steps must be above 0")
    options.check_size(size)
    settings = {} if config is None else _stage_settings(config, stage, preset)
    target = _target(out, stage, preset)
    if target.exists() and not resume and stage != "decoder":
        raise RissoleError(f"{target} exists: add --resume to go on, or choose another --out")
    if stage == "denoiser":
        settings |= {"schedule": _schedule(schedule), "preset": preset}
    if stage == "autoencoder":
        _check_cells(size, pixels=space == "pixel")
        settings["space"] = space
    if stage != "latents":
        settings["seed"] = seed
    budget = (minutes, steps)
    result = _run_stage(stage, data, out, size, budget, options.fastest(device), settings)
    if os.environ.get("RANK", "0") != "0":  # one of several processes reports
        return
    for name, value in result.items():
        typer.echo(f"{name}  {value:.5g}" if isinstance(value, float) else f"{name}  {value}")
    typer.echo(f"written to {target}")


def _check_preset(preset: str) -> None:
    from rissole.training.presets import PRESETS

    if preset not in PRESETS:
        raise RissoleError(f"--preset must be one of {', '.join(PRESETS)}, not {preset!r}")


def _target(out: Path, stage: str, preset: str) -> Path:
    """What a stage writes."""
    if stage in FEATURE_SEEDS:
        return out / f"{stage}.safetensors"
    if stage == "denoiser" and preset != "rissole":
        return out / preset
    return out / {"gallery": "bundle", "decoder": "autoencoder"}.get(stage, stage)


def _stage_settings(path: Path, stage: str, preset: str) -> dict[str, Any]:
    from rissole.training.settings import read_settings

    return read_settings(path, stage, preset)


def _check_cells(size: int, pixels: bool) -> None:
    """Refuse sizes that an autoencoder cannot halve; warn of those that do not cut into blocks."""
    whole = 16 if pixels else 64
    if not pixels and size % 8:
        raise RissoleError(f"--size must be a multiple of {whole}, not {size}")
    if size % whole:
        typer.echo(f"note: denoisers paint only sizes that are multiples of {whole}", err=True)


def _schedule(text: str) -> tuple[float, float]:
    try:
        start, end = (float(part) for part in text.split(","))
    except ValueError as error:
        raise RissoleError(f"--schedule must be two numbers such as 0,0.5, not {text!r}") from error
    if not 0 <= start < end <= 1:
        raise RissoleError(f"--schedule must rise within 0 to 1, not {text!r}")
    return start, end


def _run_stage(
    stage: str,
    data: Path | None,
    out: Path,
    size: int,
    budget: tuple[float, int | None],
    device: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Run one stage in the folder of a run and return its figures."""
    if stage == "denoiser":
        return _train_denoiser(out, budget, device, settings)
    if _processes() > 1:
        raise RissoleError("only the stage denoiser is shared by several processes")
    if data is None:
        raise RissoleError(f"--data is needed for the stage {stage}")
    for earlier in NEEDED.get(stage, ()):
        if not (path := _target(out, earlier, "rissole")).exists():
            raise RissoleError(f"{path} is missing: run --stage {earlier} first")
    from rissole.data.photos import load_labelled

    photos = load_labelled(data, size)
    out.mkdir(parents=True, exist_ok=True)
    if stage in ("autoencoder", "decoder"):
        return _train_codec(stage, photos.photos, out, budget, device, settings)
    if stage in FEATURE_SEEDS:
        return _train_features(stage, photos.photos, out, budget, device, settings)
    if stage == "encoder":
        return _train_encoder(photos, out, budget, device, settings)
    if stage == "gallery":
        return _paint_gallery(photos.photos, out, device, settings)
    return _make_latents(photos, out, device, settings)


def _processes() -> int:
    """How many `accelerate launch` or torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _train_features(
    stage: str,
    photos: Tensor,
    out: Path,
    budget: tuple[float, int | None],
    device: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Train a network that measures pictures."""
    from rissole.data.photos import split
    from rissole.training.representation import train_features

    minutes, steps = budget
    photos, _ = split(photos)  # what is held out must be new to this network, too
    settings["seed"] += FEATURE_SEEDS[stage]
    target = _target(out, stage, "")
    network = train_features(photos, minutes, steps=steps, out=target, device=device, **settings)
    return {"network": network.name}


def _train_encoder(
    photos: Labelled,
    out: Path,
    budget: tuple[float, int | None],
    device: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Train an encoder that finds neighbors, and compare it with latents where that is possible."""
    from rissole.training.encoder_stage import train_encoder
    from rissole.training.trainer import Budget

    result = train_encoder(
        photos.photos, out / "encoder", Budget(*budget), device=device, **settings
    )
    if (out / "features.safetensors").exists() and (out / "autoencoder").is_dir():
        result |= options.flat(_encoder_quality(photos, out, device))
    return result


def _encoder_quality(photos: Labelled, out: Path, device: str) -> dict[str, Any]:
    """How good the neighbors are that the encoder of a run finds, next to latents and chance."""
    from rissole.data.photos import split
    from rissole.evaluation.network import FeatureNetwork
    from rissole.models.autoencoder import Codec
    from rissole.retrieval.embedding import LatentEmbedding
    from rissole.retrieval.encoders import LatentEncoder, LearnedEncoder
    from rissole.training.encoder_stage import neighbor_quality
    from rissole.training.latents_stage import encode_photos

    codec = Codec.load(out / "autoencoder")
    some = split(photos.photos)[0][:2048]
    embedding = LatentEmbedding.fit(encode_photos(codec, some, device))
    encoders = (LatentEncoder(embedding), LearnedEncoder.load(out / "encoder").to(device))
    judge = FeatureNetwork.load(out / "features.safetensors", device)
    labels = photos.labels if photos.classes else None
    return neighbor_quality(photos.photos, codec, encoders, judge, labels=labels)


def _make_latents(
    photos: Labelled, out: Path, device: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Encode photos and find their neighbors, by the run's encoder if it has one."""
    from rissole.retrieval.encoders import LearnedEncoder
    from rissole.training.latents_stage import make_latents

    encoder = LearnedEncoder.load(out / "encoder") if (out / "encoder").is_dir() else None
    made = make_latents(
        out / "autoencoder", photos.photos, out / "latents", device, encoder=encoder,
        labels=photos.labels, classes=photos.classes, **settings,
    )  # fmt: skip
    return {name: " x ".join(map(str, tensor.shape)) for name, tensor in made.items()}


def _paint_gallery(
    photos: Tensor, out: Path, device: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Paint the pictures to retrieve from and write the finished bundle."""
    from rissole.training.gallery_stage import paint_gallery, write_gallery_bundle

    label = settings.pop("label", "synthesized pictures")
    latents, classes, figures = paint_gallery(out, photos, device=device, **settings)
    write_gallery_bundle(out, latents, out / "bundle", name=out.name, label=label, classes=classes)
    return figures


def _train_codec(
    stage: str,
    photos: Tensor,
    out: Path,
    budget: tuple[float, int | None],
    device: str,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Train the autoencoder, or its decoder alone, or measure what stands in for it."""
    if settings.pop("space", "latent") == "pixel":
        from rissole.data.photos import split
        from rissole.models.autoencoder import Codec, PixelSpace

        codec = Codec(PixelSpace.fit(split(photos)[0]))
        codec.save(out / "autoencoder")
        return {"latent_scale": codec.scale, "latent_shift": codec.shift}
    from rissole.evaluation.network import FeatureNetwork
    from rissole.training.autoencoder_stage import (
        AutoencoderTraining,
        train_autoencoder,
        train_decoder,
    )
    from rissole.training.trainer import Budget

    seed, folder = settings.pop("seed"), out / "autoencoder"
    if stage == "autoencoder":
        chosen = AutoencoderTraining(**settings)
        result = train_autoencoder(
            photos, folder, Budget(*budget), settings=chosen, device=device, seed=seed
        )
    else:
        chosen = AutoencoderTraining(**{"peak_rate": 2e-4, **settings})
        path = out / "critic.safetensors"
        critic = FeatureNetwork.load(path) if path.exists() else None
        result = train_decoder(
            photos, folder, Budget(*budget), critic=critic, settings=chosen, device=device,
            seed=seed,
        )  # fmt: skip
    return result


def _train_denoiser(
    out: Path, budget: tuple[float, int | None], device: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Train the denoiser, or what it is compared with, on the latents of an earlier stage."""
    from rissole.training.latents_stage import read_latents
    from rissole.training.presets import train_preset
    from rissole.training.trainer import Budget

    data = read_latents(out)
    preset = settings.pop("preset")
    if _processes() > 1:
        from accelerate import PartialState

        device = str(PartialState().device)
    return train_preset(
        preset,
        data,
        _target(out, "denoiser", preset),
        Budget(*budget),
        device=device,
        **settings,
    )
