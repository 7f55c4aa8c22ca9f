"""Latents of all photos and their mirror images, and who is whose neighbor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from rissole.blocks import crop_blocks
from rissole.config import RissoleError
from rissole.data.photos import portion, split, to_float
from rissole.models.autoencoder import Codec
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LatentEncoder, QueryEncoder
from rissole.storage.files import save_tensors
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import POOL
from rissole.training.ways import Ways, changed, draw_ways

DUPLICATE = 0.98  # cosine above which another photo counts as the same one


def encode_photos(
    codec: Codec,
    photos: Tensor,
    device: str,
    ways: Ways | None = None,
    number: int = 0,
    mirrored: bool = True,
) -> Tensor:
    """Latents (2 N, C, S, S) of uint8 photos: N as they are, then their N mirror images.

    Args:
        ways, number: how they are changed before; None leaves them.
        mirrored: whether the mirror images are wanted.
    """
    codec = codec.to(device)
    both = torch.cat([photos, photos.flip(-1)]) if mirrored else photos
    parts = tqdm(
        both.split(portion(photos.shape[-1], device)),
        desc="encoding photos",
        unit="batch",
        leave=False,
        disable=None,
    )

    def encode(part: Tensor) -> Tensor:
        pixels = to_float(part.to(device))
        return codec.encode(pixels if ways is None else changed(pixels, ways, number)).cpu()

    with torch.inference_mode():
        return torch.cat([encode(part) for part in parts])


def neighbor_table(
    vectors: Tensor,
    queries: Tensor | None = None,
    pool: int = POOL,
    *,
    unlike: Callable[[Tensor], Tensor] | None = None,
    device: str = "cpu",
    chunk: int = 512,
) -> Tensor:
    """The nearest pictures of each, best first, without itself, its mirror image and duplicates.

    Compares `chunk` queries at a time with all pictures: some 200 MB for 100,000 of them.

    Args:
        vectors: unit vectors (2 N, dim) of the database: N pictures, then their mirror images.
        queries: (M, dim); None means the database's own pictures, the case of training.
        unlike: for numbers (m,) of queries, bool (m, 2 N): pictures that come last, however near.
        device: where to compare.

    Returns:
        int64 (M, pool) ids; where fewer may be neighbors, they are repeated.

    Raises:
        RissoleError: when a picture has no other to be its neighbor.
    """
    base, own = vectors.to(device), queries is None
    asked = vectors if queries is None else queries
    number = torch.arange(len(base), device=device) % (len(base) // 2)
    parts = []
    for rows in torch.arange(len(asked), device=device).split(chunk):
        scores = asked[rows.cpu()].to(device) @ base.T
        banned = scores > DUPLICATE
        if own:
            banned |= number == number[rows][:, None]
        if unlike is not None:
            scores = scores - 4.0 * unlike(rows)  # cosines differ by 2 at most
        best = scores.masked_fill_(banned, -torch.inf).topk(min(pool, len(base)))
        parts.append(_repeated(best.indices, best.values.isfinite().sum(1), pool).cpu())
    return torch.cat(parts)


def _repeated(ids: Tensor, found: Tensor, pool: int) -> Tensor:
    """The first `found` (M,) of the ids (M, K) over and over, up to (M, pool)."""
    if not found.all():
        raise RissoleError("too few different photos: one has no other to be its neighbor")
    slot = torch.arange(pool, device=ids.device) % found[:, None]
    return ids.gather(1, slot)


def block_tables(
    latents: Tensor,
    *,
    grid: int = 4,
    pool: int = POOL // 2,
    device: str = "cpu",
    chunk: int = 512,
) -> Tensor:
    """For every block, the pictures whose block at the same place is nearest, best first.

    Blocks are compared by their latents, averaged over 2x2 cells. Neither a picture itself nor its
    mirror image is its neighbor, nor a duplicate of the whole picture.

    Args:
        latents: (2 N, C, S, S): N pictures, then their mirror images.
        grid: blocks on a side.
        pool: neighbors kept per block.
        device: where to compare.
        chunk: pictures compared at a time with all.

    Returns:
        int32 (grid * grid, 2 N, pool); where fewer may be neighbors, they are repeated.

    Raises:
        RissoleError: when a picture has no other to be its neighbor.
    """
    count = len(latents)
    cells = F.avg_pool2d(latents.to(device).float(), 2)
    blocks = crop_blocks(cells, grid).flatten(2)  # (2 N, g * g, C * cells)
    whole = LatentEmbedding.fit(latents)(latents.to(device))
    number = torch.arange(count, device=device) % (count // 2)
    parts = []
    for rows in torch.arange(count, device=device).split(chunk):
        banned = (whole[rows] @ whole.T > DUPLICATE) | (number == number[rows][:, None])
        found = (~banned).sum(1)
        far = [torch.cdist(b[rows], b).masked_fill_(banned, torch.inf) for b in blocks.unbind(1)]
        nearest = [d.topk(min(pool, count), largest=False).indices for d in far]
        kept = [_repeated(ids, found.clamp(max=ids.shape[1]), pool) for ids in nearest]
        parts.append(torch.stack(kept).int().cpu())
    return torch.cat(parts, dim=1)


def make_latents(
    autoencoder: Path,
    photos: Tensor,
    out: Path,
    device: str,
    *,
    labels: Tensor | None = None,
    classes: Sequence[str] = (),
    encoder: QueryEncoder | None = None,
    same_class: float = 0.75,
    own_blocks: bool = False,
    ways: int = 1,
) -> dict[str, Tensor]:
    """Encodes photos, finds neighbors and writes both to `out`; reads what is there of the same.

    Args:
        labels: (N,) classes of the photos, -1 for none; numbers into `classes`, which are noted.
        encoder: what neighbors are found by; the pooled latents by default.
        same_class: share of pictures whose neighbors are of their own class.
        own_blocks: whether to find neighbors of every single block, too: `block_tables`.
        ways: in how many ways training photos are encoded, the first of them as they are.

    Returns:
        `latents` (2 N, C, S, S) float16 and `neighbors` (2 N, 64) of the training photos;
        `held_latents` and `held_neighbors` of the held-out ones (neighbors among training photos);
        with classes also `labels` (2 N,) and `held_labels`; on request `block_neighbors`; with
        several ways `changed` (ways - 1, 2 N, C, S, S) float16 and `ways` (ways, 8), see `Ways`.
    """
    path = out / "latents.safetensors"
    codec = Codec.load(autoencoder)
    made_of = (
        {
            "autoencoder": codec_digest(codec, decoder=False),
            "photos": digest({"photos": photos}),
            "neighbors": "" if encoder is None else encoder.id,
            "classes": f"{same_class} {classes} {digest({} if labels is None else {'': labels})}",
        }
        | ({"blocks": "own"} if own_blocks else {})
        | ({"ways": str(ways)} if ways > 1 else {})
    )
    if path.exists() and _noted(path) == made_of:
        return load_file(path)
    known = None if labels is None or not len(classes) else labels
    data, embedding = _computed(codec, photos, known, encoder, same_class, device)
    if own_blocks:
        data["block_neighbors"] = block_tables(data["latents"], device=device)
    data |= in_other_ways(codec, photos, ways, device)
    return write_latents(out, data, embedding, made_of, [] if known is None else list(classes))


def in_other_ways(codec: Codec, photos: Tensor, count: int, device: str) -> dict[str, Tensor]:
    """Latents of the training photos in all of some ways but the first, and what is told of them.

    Nothing where there is no other way.
    """
    if count == 1:
        return {}
    ways, train = draw_ways(count), split(photos)[0]
    others = [encode_photos(codec, train, device, ways, i).half() for i in range(1, count)]
    return {"changed": torch.stack(others), "ways": ways.told}


def write_latents(
    out: Path,
    data: dict[str, Tensor],
    embedding: LatentEmbedding,
    made_of: dict[str, str],
    classes: list[str],
) -> dict[str, Tensor]:
    """Writes what `make_latents` returns, with what it follows from; returns it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "classes.json").unlink(missing_ok=True)
    if classes:
        write_json(out / "classes.json", classes)
    embedding.save(out)
    save_tensors(data, out / "latents.safetensors", metadata=made_of)
    return data


def _computed(
    codec: Codec,
    photos: Tensor,
    labels: Tensor | None,
    encoder: QueryEncoder | None,
    same_class: float,
    device: str,
) -> tuple[dict[str, Tensor], LatentEmbedding]:
    """What `make_latents` returns, and the embedding of the latents."""
    parts = split(photos)
    latents = [encode_photos(codec, part, device) for part in parts]
    embedding = LatentEmbedding.fit(latents[0])
    encoder = (encoder or LatentEncoder(embedding)).to(device)
    vectors, held = (_vectors(encoder, p, z, device) for p, z in zip(parts, latents, strict=True))
    data: dict[str, Tensor] = {}
    unlike: list[Callable[[Tensor], Tensor] | None] = [None, None]
    if labels is not None:
        kinds = [x.repeat(2) for x in split(labels)]
        data = {"labels": kinds[0], "held_labels": kinds[1]}
        unlike = [_unlike(own, kinds[0], same_class, device) for own in kinds]
    data |= {
        "latents": latents[0].half(),
        "neighbors": neighbor_table(vectors, unlike=unlike[0], device=device),
        "held_latents": latents[1].half(),
        "held_neighbors": neighbor_table(vectors, held, unlike=unlike[1], device=device),
    }
    return data, embedding


def read_latents(run: Path, photos: Tensor | None = None) -> dict[str, Tensor]:
    """What `make_latents` wrote to a run's folder.

    Args:
        photos: what the caller takes for the photos of the run.

    Raises:
        RissoleError: when it is missing, was made by another autoencoder than the run's or of other
            photos; nothing that was trained on it would fit.
    """
    path = run / "latents" / "latents.safetensors"
    if not path.exists():
        raise RissoleError(f"{path} is missing: run --stage latents first")
    noted = _noted(path)
    if "autoencoder" in noted and (run / "autoencoder").is_dir():
        current = codec_digest(Codec.load(run / "autoencoder"), decoder=False)
        if noted["autoencoder"] != current:
            raise RissoleError(
                f"the autoencoder in {run} was trained on after {path.parent} was made: run "
                "--stage latents --resume, and train denoisers anew"
            )
    if photos is not None and noted.get("photos", own := digest({"photos": photos})) != own:
        raise RissoleError(
            f"these are not the photos that {path.parent} was made of: give the same --data and "
            "--size"
        )
    return load_file(path)


def _noted(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def codec_digest(codec: Codec, *, decoder: bool = True) -> str:
    """Changes when pictures of latents would; without the decoder, when latents of photos would."""
    known = codec.model.state_dict()
    weights = {k: v for k, v in known.items() if decoder or "decoder" not in k}
    return digest(weights | {"scale": torch.tensor([codec.scale, codec.shift])})


def digest(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits that stand for names, shapes and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()[:16]


def _vectors(encoder: QueryEncoder, photos: Tensor, latents: Tensor, device: str) -> Tensor:
    """Unit vectors (2 N, dim), on the CPU, of photos and their mirror images."""
    pairs = zip(torch.cat([photos, photos.flip(-1)]).split(256), latents.split(256), strict=True)
    with torch.inference_mode():
        made = [encoder(to_float(p).to(device), z.to(device)).float().cpu() for p, z in pairs]
    return torch.cat(made)


def _unlike(own: Tensor, base: Tensor, share: float, device: str) -> Callable[[Tensor], Tensor]:
    """For `neighbor_table`: pictures of other classes (of `base`), for a share of the queries."""
    generator = torch.Generator().manual_seed(0)
    bound = ((torch.rand(len(own), generator=generator) < share) & (own >= 0)).to(device)
    own, base = own.to(device), base.to(device)
    return lambda rows: bound[rows][:, None] & (own[rows][:, None] != base)
