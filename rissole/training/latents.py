"""Stage 2: latents of all photos and their mirror images, and who is whose neighbor."""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from rissole.autoencoder import Codec
from rissole.embedding import LatentEmbedding
from rissole.training.photos import split, to_float

POOL = 64  # neighbors kept per picture; training draws its few from them
DUPLICATE = 0.98  # cosine above which another photo counts as the same one


def encode_photos(codec: Codec, photos: Tensor, device: str) -> Tensor:
    """Latents (2 N, C, S, S) of uint8 photos: N as they are, then their N mirror images."""
    batch = 4 if device == "cpu" else 64  # larger ones outgrow a CPU's caches
    codec = codec.to(device)
    both = torch.cat([photos, photos.flip(-1)])
    parts = tqdm(both.split(batch), desc="encoding photos", unit="batch", leave=False, disable=None)
    with torch.inference_mode():
        return torch.cat([codec.encode(to_float(part).to(device)).cpu() for part in parts])


def neighbor_table(embeddings: Tensor, queries: Tensor | None = None, pool: int = POOL) -> Tensor:
    """The nearest pictures of each, best first, without itself, its mirror image and duplicates.

    Args:
        embeddings: (2 N, dim) of the database: N pictures, then their mirror images.
        queries: (M, dim); None means the database's own pictures, the case of training.

    Returns:
        int64 (M, pool) ids.
    """
    own = queries is None
    queries = embeddings if own else queries
    index = faiss.IndexFlatIP(embeddings.shape[1])
    index.add(np.ascontiguousarray(embeddings.numpy()))
    scores, ids = index.search(np.ascontiguousarray(queries.numpy()), min(4 * pool, index.ntotal))
    half = len(embeddings) // 2
    banned = scores > DUPLICATE
    if own:
        self_id = np.arange(len(embeddings))[:, None] % half
        banned |= ids % half == self_id
    order = np.argsort(banned, axis=1, kind="stable")[:, :pool]  # allowed ones first, in order
    return torch.from_numpy(np.take_along_axis(ids, order, axis=1))


def make_latents(autoencoder: Path, photos: Tensor, out: Path, device: str) -> dict[str, Tensor]:
    """Encodes photos, finds neighbors and writes both to `out`; reads them when they are there.

    Returns:
        `latents` (2 N, C, S, S) float16 and `neighbors` (2 N, 64) of the training photos;
        `held_latents` and `held_neighbors` of the held-out ones (neighbors among training photos).
    """
    path = out / "latents.safetensors"
    if path.exists():
        return load_file(path)
    codec = Codec.load(autoencoder)
    train, held = (encode_photos(codec, p, device) for p in split(photos))
    embedding = LatentEmbedding.fit(train)
    vectors = embedding(train)
    data = {
        "latents": train.half(),
        "neighbors": neighbor_table(vectors),
        "held_latents": held.half(),
        "held_neighbors": neighbor_table(vectors, embedding(held)),
    }
    embedding.save(out)
    save_file(data, path)
    return data
