"""The gallery a bundle carries, synthesized so that no photo needs to be shipped.

The model paints many pictures, each guided by neighbors of a training photo. Those too near to a
photo are dropped; of the rest the most realistic are kept, no two of them alike. Where people
graded pictures, how likely a defect is counts as much.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from rissole.config import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, RissoleError
from rissole.evaluation.lite import LiteNetwork
from rissole.evaluation.network import FeatureNetwork
from rissole.loading import fast_dtype, write_bundle
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.retrieval.contents import build_database, decode_all
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LearnedEncoder
from rissole.storage.files import save_tensors
from rissole.storage.manifest import name_like, write_manifest
from rissole.storage.staging import staged
from rissole.training.bulk import (
    Painting,
    batch_size,
    decode_bytes,
    paint_batch,
    training_neighbors,
)
from rissole.training.defects import DefectJudges, defect_files
from rissole.training.hyperparameters import GallerySettings
from rissole.training.neighborhoods import digest, read_latents
from rissole.training.reconstruction import RESOLUTION
from rissole.training.selection import select
from rissole.training.together import tell

DEFAULTS = {
    "order": "parallel",
    "grid": 4,
    "num_inference_steps": NUM_INFERENCE_STEPS,
    "guidance_scale": GUIDANCE_SCALE,
    "k": 8,
}
FEW = 2  # steps of a flow map


def paint_gallery(
    run: Path,
    photos: Tensor,
    settings: GallerySettings | None = None,
    *,
    device: str = "cuda",
    seed: int = 0,
) -> tuple[Tensor, list[str] | None, dict[str, float | str]]:
    """Paints candidates and chooses among them.

    What looks real tells EfficientNet-Lite0 where its weights are installed, else the network of
    the stage `features`, which knows the photos but hardly what a good eye looks like. Where people
    have graded pictures, how likely a defect is counts as much.

    Where photos have classes, every class gets as many pictures, judged by its own photos, from the
    half of its candidates that a linear classifier of the photos finds most typical of it.

    Args:
        run: folder of the earlier stages.
        photos: the uint8 photos of those stages.
        settings: of the stage.
        device: where to paint.
        seed: of queries and noise.

    Returns:
        Latents (count, C, S, S) in half precision, the class of each, and figures on the choice.

    Raises:
        RissoleError: where there are more classes than pictures.
    """
    settings = settings or GallerySettings()
    count, candidates = settings.count, settings.candidates
    data = read_latents(run, photos)
    _check_classes(data, count)
    denoiser = Denoiser.load(run / settings.paint_with).to(device)
    codec = Codec.load(run / "autoencoder").to(device)
    network = FeatureNetwork.open(run / "features.safetensors", device)
    judge = realism_judge(photos.shape[-1], device)
    queries = _queries(data, candidates, seed)
    neighbors = training_neighbors(data, queries, k=8, seed=seed, reach=24)
    steps, scale = settings.num_inference_steps, settings.guidance_scale
    how = Painting(settings.order, settings.grid, steps, scale)
    latents = paint_kept(denoiser, neighbors, how, seed, painted_folder(run))
    known = None if "labels" not in data else (data["labels"][queries], data["labels"])
    images = decode_bytes(codec, latents)
    near, defects = settings.near_share, _defects(run, images, device)
    kept, figures = select(images, photos, network, count, known, near, judge, defects)
    classes = None if known is None else _named(run, known[0][kept])
    return latents[kept].half(), classes, figures


def _check_classes(data: dict[str, Tensor], count: int) -> None:
    """Refuses a gallery in which not every class gets a picture: all get as many."""
    if (kinds := len(_kinds(data))) > count:
        raise RissoleError(f"{count} pictures are too few for a gallery of {kinds} classes")


def _defects(run: Path, images: Tensor, device: str) -> Tensor | None:
    """How many clear defects to expect in pictures (N,), where people have graded some."""
    return DefectJudges.open(run, device).grade(images) if defect_files(run) else None


def _named(run: Path, labels: Tensor) -> list[str]:
    """Names of a run's classes (N,)."""
    names = json.loads((run / "latents" / "classes.json").read_bytes())
    return [names[i] for i in labels.tolist()]


def realism_judge(size: int, device: str) -> LiteNetwork | None:
    """What knows good pictures of `size` pixels from poor ones, if it is installed."""
    try:
        judge = LiteNetwork.pretrained("lite0", resolution=min(RESOLUTION, 4 * size))
    except RissoleError as error:
        tell(f"note: the run's own features judge what looks real; better do ImageNet's. {error}")
        return None
    return judge.to(device)


def painted_folder(run: Path) -> Path:
    """Where pictures lie until the gallery is chosen of them."""
    return run / "state" / "gallery"


def paint_kept(
    model: Denoiser, neighbors: Tensor, how: Painting, seed: int, folder: Path
) -> Tensor:
    """Paints as `paint_many` does; whoever asks for the same again goes on where it was ended.

    Args:
        model: in float32; a copy of it paints, in what is fast on its device.
        neighbors, how, seed: of `paint_many`.
        folder: gets a file for every batch, named by all that it follows from.
    """
    device = next(model.parameters()).device
    own = torch.tensor(seed, dtype=torch.uint64)
    key = digest({**model.state_dict(), "neighbors": neighbors, "seed": own})
    key = hashlib.sha256(f"{key} {how} {device.type}".encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    painter = copy.deepcopy(model).to(fast_dtype(device))
    batch, parts = batch_size(device), []
    starts = range(0, len(neighbors), batch)
    for start in tqdm(starts, desc="painting", unit="batch", leave=False, disable=None):
        path = folder / f"{key}-{start:07}.safetensors"
        try:
            parts.append(load_file(path)["latents"])
        except (OSError, SafetensorError, KeyError):  # not painted yet, or damaged since
            made = paint_batch(painter, neighbors[start : start + batch], how, seed + start)
            save_tensors({"latents": made}, path)
            parts.append(made)
    return torch.cat(parts)


def _queries(data: dict[str, Tensor], count: int, seed: int) -> Tensor:
    """Numbers of training pictures at random, as many of each class, one class after another.

    Pictures of a class come again when it has too few.
    """
    generator, kinds = torch.Generator().manual_seed(seed), _kinds(data)
    if not kinds:
        return torch.randint(len(data["latents"]), (count,), generator=generator)
    order = torch.randperm(len(data["labels"]), generator=generator)
    wanted = torch.arange(count // len(kinds))
    each = [order[data["labels"][order] == kind] for kind in kinds]
    return torch.cat([members[wanted % len(members)] for members in each])


def _kinds(data: dict[str, Tensor]) -> list[int]:
    """Numbers of the classes, if photos have any."""
    return [n for n in data["labels"].unique().tolist() if n >= 0] if "labels" in data else []


def write_gallery_bundle(
    run: Path,
    latents: Tensor,
    out: Path,
    *,
    name: str = "cats-128",
    label: str = "synthesized pictures",
    card: str | None = None,
    defaults: dict | None = None,
    classes: list[str] | None = None,
    paint_with: str = "denoiser",
) -> None:
    """Writes a complete bundle whose database are the pictures of some latents.

    Args:
        run: folder of the earlier stages; with an `encoder/` the bundle searches by it.
        latents: (N, C, S, S) from `paint_gallery`.
        card: text of the model card, README.md.
        defaults: settings of a run that the bundle ships.
        classes: the class of each picture.
        paint_with: folder of the network.
    """
    denoiser = Denoiser.load(run / paint_with)
    codec = Codec.load(run / "autoencoder")
    embedding = LatentEmbedding.load(run / "latents")
    with torch.inference_mode():
        pictures = decode_all(codec, latents)
    usual = DEFAULTS | ({"num_inference_steps": FEW} if denoiser.flow_map else {})
    config = {"name": name, "image_size": pictures[0].width, "defaults": defaults or usual}
    learned = None
    if (run / "encoder").is_dir():
        learned = LearnedEncoder.load(run / "encoder")
        config["encoder"] = learned.name
    with staged(out) as stage:
        write_bundle(stage, codec, denoiser, default_scheduler(), embedding, config, card)
        if learned is not None:
            learned.save(stage / "encoder")
        found_by = learned or embedding
        build_database(stage / "database", pictures, codec, found_by, label, latents, classes)
        write_manifest(stage, name_like(name))
    shutil.rmtree(painted_folder(run), ignore_errors=True)
