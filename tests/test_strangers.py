"""Bundles, databases and pictures that somebody odd made: each is refused in one clear line.

The manifests fit the files, as whoever publishes such a thing can have it.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import zlib
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from conftest import picture
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rissole.config import RissoleError
from rissole.data.images import read_recipe, save_png
from rissole.pipeline import RissolePipeline
from rissole.storage.manifest import write_manifest

NAN, INF = float("nan"), float("inf")
AUTOENCODER, SCHEDULER = "autoencoder/config.json", "scheduler/scheduler_config.json"
FACTS, GONE = "database/database.json", object()
JSON_CHANGES = [
    *(("config.json", "name", v) for v in (GONE, 3, "", "a b", "../x", "x" * 500)),
    *(("config.json", "image_size", v) for v in (GONE, 0, -128, 64, 256, 128.0, "128", 10**9)),
    *(("config.json", "defaults", v) for v in (GONE, None, [], {}, {"k": 0}, {"k": 17})),
    *(("config.json", "defaults", {"k": 4, **v}) for v in (
        {"order": "odd"}, {"grid": 3}, {"num_inference_steps": 0}, {"guidance_scale": NAN},
        {"guidance_scale": 1e9}, {"color": 1},
    )),
    ("config.json", "encoder", "no-such"), ("config.json", "more", 1),
    *((AUTOENCODER, "_class_name", v) for v in (GONE, None, 3, "UNet2DModel", "VQModel", "os")),
    *((AUTOENCODER, "num_encoder_blocks", v) for v in (
        [10**6] * 3, [1, 1, 2], [1, 1], [], 3, [1, 1, -1], [1, 1, 1.5], [64] * 16,
    )),
    *((AUTOENCODER, "encoder_block_out_channels", v) for v in ([10**9] * 3, [16, 16], [0] * 3)),
    *((AUTOENCODER, "scaling_factor", v) for v in (0, 0.0, -1.0, NAN, INF, 1e300, "1", None)),
    *((AUTOENCODER, "shift_factor", v) for v in (NAN, 1e300, "0")),
    *((AUTOENCODER, "latent_channels", v) for v in (0, 3, 8, 10**6, 4.5)),
    (AUTOENCODER, "in_channels", 4), (AUTOENCODER, "out_channels", 1), (AUTOENCODER, "act_fn", "x"),
    (AUTOENCODER, "more", 1), (AUTOENCODER, "force_upcast", "yes"),
    *((SCHEDULER, "_class_name", v) for v in (
        GONE, [], "DDPMScheduler", "EulerAncestralDiscreteScheduler", "SchedulerMixin",
        "DPMSolverSDEScheduler", "EDMEulerScheduler", "DDIMScheduler",
    )),
    *((SCHEDULER, "algorithm_type", v) for v in ("sde-dpmsolver++", "sde-dpmsolver", "x", 3)),
    *((SCHEDULER, "prediction_type", v) for v in ("epsilon", "odd", None)),
    *((SCHEDULER, "num_train_timesteps", v) for v in (0, -1, 10**9, 1000.5, "1000")),
    (SCHEDULER, "trained_betas", [0.1] * 20_000), (SCHEDULER, "beta_end", NAN),
    (SCHEDULER, "solver_order", 10**6), (SCHEDULER, "more", 1),
    *((FACTS, "count", v) for v in (GONE, 0, -24, 23, 25, 10**12, 24.0, "24", True)),
    *((FACTS, "label", v) for v in (GONE, 3, None, [])),
    *((FACTS, "image_size", v) for v in (GONE, 0, 64, "128")),
    *((FACTS, "encoder", v) for v in ("latent", {}, {"name": "latent"}, {"name": 1, "id": 2})),
    *((FACTS, "index", v) for v in (
        None, "exact", {"type": "LSH"}, {"type": "IVF4,SQfp16", "probes": 2},
        {"type": "exact", "probes": 4}, {"type": "exact", "recall_at_8": 2}, {"more": 1},
    )),
    *((FACTS, "classes", v) for v in ("calm", [1], [None], {"a": 1})),
    (FACTS, "format", 2), (FACTS, "more", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def strange(tiny_bundle, tmp_path_factory) -> Path:
    """A copy of the tiny bundle; what a test changes is whole again for the next."""
    folder = tmp_path_factory.mktemp("strange") / "tiny"
    shutil.copytree(tiny_bundle, folder)
    return folder


@pytest.fixture
def refused(strange, tiny_bundle):
    """Writes a file anew, expects one line, and puts the file back."""

    def refused(path: str, data: bytes | None) -> str:
        file = strange / path
        file.unlink()  # never changed in place: it may be mapped into memory
        if data is not None:
            file.write_bytes(data)
        write_manifest(strange, "tiny")
        try:
            with pytest.raises(RissoleError) as caught:
                RissolePipeline.from_pretrained(strange)
        finally:
            shutil.copyfile(tiny_bundle / path, file)
        text = str(caught.value)
        assert text and len(text.splitlines()) == 1 and len(text) < 400
        assert str(strange) not in text
        return text

    return refused


@pytest.mark.parametrize(("path", "name", "value"), JSON_CHANGES)
def test_odd_settings(refused, strange, path, name, value):
    data = json.loads((strange / path).read_bytes()) | {name: value}
    if value is GONE:
        del data[name]
    refused(path, json.dumps(data).encode())


@pytest.mark.parametrize("path", ["config.json", AUTOENCODER, SCHEDULER, FACTS])
@pytest.mark.parametrize("data", [None, b"", b"[]", b"null", b"{", b"\xff", b"[" * 9999, b"{}"])
def test_files_that_are_no_settings(refused, path, data):
    refused(path, data)


TENSORS = [
    "denoiser/model.safetensors",
    "autoencoder/diffusion_pytorch_model.safetensors",
    "embedding/embedding.safetensors",
    "database/latents.safetensors",
    "database/thumbnails.safetensors",
]


def changed_tensors(tensors: dict, how: str) -> dict:
    name = sorted(tensors)[0]
    first = tensors[name]
    if how == "missing":
        return {k: v for k, v in tensors.items() if k != name}
    new = {
        "too many": lambda: {"more": torch.zeros(1)},
        "other shape": lambda: {name: first[None].contiguous()},
        "other kind": lambda: {name: first.to(torch.int16)},
        "double": lambda: {name: first.double()},
        "not finite": lambda: {name: torch.full_like(first, NAN)},
        "short": lambda: {name: first[:-1].contiguous()},
    }[how]()
    return {**tensors, **new}


@pytest.mark.parametrize("path", TENSORS)
@pytest.mark.parametrize(
    "how", ["missing", "too many", "other shape", "other kind", "double", "short", "not finite"]
)
def test_odd_tensors(refused, strange, tmp_path, path, how):
    tensors = load_file(strange / path)
    if how == "not finite" and "thumbnails" in path:
        tensors["offsets"] = -tensors["offsets"]  # whole numbers are always finite
        how = "too many"
    with safe_open(strange / path, "pt") as file:
        noted = file.metadata()
    save_file(changed_tensors(tensors, how), tmp_path / "odd", noted)
    refused(path, (tmp_path / "odd").read_bytes())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"canvas_layers": 10**6}, "canvas_layers"),
        ({"channels": [10**6, 10**6]}, "channels"),
        ({"channels": [16, 64]}, "shape"),
        ({"head_channels": 7}, "head_channels"),
        ({"latent_size": 48}, "image_size"),
        ({"halo": -4}, "halo"),
        ({"dropout": NAN}, "dropout"),
        ({"more": 1}, "more"),
        ({"_class_name": "os.system"}, "denoiser must be one of"),
    ],
)
def test_odd_shapes_of_the_denoiser(refused, strange, tmp_path, change, words):
    path = TENSORS[0]
    with safe_open(strange / path, "pt") as file:
        config = json.loads(file.metadata()["config"]) | change
    save_file(load_file(strange / path), tmp_path / "odd", {"config": json.dumps(config)})
    assert words in refused(path, (tmp_path / "odd").read_bytes())


def indexed(vectors: np.ndarray, kind: str, metric: int = faiss.METRIC_INNER_PRODUCT) -> bytes:
    index = faiss.index_factory(vectors.shape[1], kind, metric)
    index.train(vectors)
    index.add(vectors)
    return faiss.serialize_index(index).tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda v: indexed(v, "Flat", faiss.METRIC_L2),
        lambda v: indexed(2 * v, "Flat"),
        lambda v: indexed(v * NAN, "Flat"),
        lambda v: indexed(v[:-1], "Flat"),
        lambda v: indexed(v[:, :-1].copy(), "Flat"),
        lambda v: indexed(v, "PCA8,Flat"),
        lambda v: indexed(v, "LSH", faiss.METRIC_L2),
        lambda v: indexed(v, "IVF2,Flat"),
        lambda v: indexed(v, "IVF2,SQfp16"),
        lambda v: indexed(v, "HNSW8"),
        lambda v: indexed(v, "SQ8"),
        lambda v: indexed(v, "Flat")[:-1],
        lambda v: indexed(v, "Flat")[:40],
        lambda v: b"IxFI",
        lambda v: b"",
        lambda v: None,
    ],
)
def test_odd_indexes(refused, strange, make):
    index = faiss.read_index(str(strange / "database/index.faiss"))
    refused("database/index.faiss", make(index.reconstruct_n()))


def painted(pipe: RissolePipeline) -> str:
    out = pipe(neighbors=[1, 2], seed=3, num_inference_steps=1)
    return hashlib.sha256(out.images[0].tobytes()).hexdigest()


def test_after_all_of_it_the_same_bundle_paints_the_same_picture(refused, strange, pipe):
    refused("config.json", b"{}")
    write_manifest(strange, "tiny")
    assert painted(RissolePipeline.from_pretrained(strange)) == painted(pipe)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


RECIPES = [
    b"", b"{", b"[]", b"3", b"null", b"[" * 99_999, b'{"neighbors": []}', b'{"neighbors": [-1]}',
    b'{"neighbors": [1], "seed": 1e400}', b'{"neighbors": [1], "seed": -1}', b"\xff\xfe",
    b'{"neighbors": [1], "more": 1}', b'{"neighbors": "1"}', b'{"neighbors": [1], "grid": 3}',
    b'{"neighbors": [1], "guidance_scale": NaN}', b'{"neighbors": [99999]}', b'{"a": {"a": {}}}',
    b'{"neighbors": [1], "blocks": [[0, 0]]}', b'{"neighbors": [1], "order": "<b>"}',
    b'{"neighbors": [1], "bundle": "ffffffffffff"}', b'{"seed": ' + b"9" * 5000 + b"}",
]  # fmt: skip


@pytest.mark.parametrize("text", RECIPES)
def test_odd_recipes_in_pictures(pipe, text):
    buffer = io.BytesIO()
    save_png(picture(0).resize((8, 8)), buffer)
    whole = buffer.getvalue()
    png = whole[:33] + chunk(b"tEXt", b"rissole\0" + text) + whole[33:]
    with pytest.raises(RissoleError) as caught:
        pipe(**(read_recipe(png) or {"neighbors": []}))
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 300
