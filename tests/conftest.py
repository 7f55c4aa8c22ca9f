"""A tiny real model with a tiny real database, made once per test run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from loopback_hub import Client, LoopbackHub, running
from PIL import Image
from safetensors.torch import save_file
from small_bundle import make_bundle
from visiting import PATIENCE, Visit

from rissole.data.images import to_tensor
from rissole.loading import write_bundle
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.models.scheduler import default_scheduler
from rissole.pipeline import RissolePipeline
from rissole.retrieval.contents import build_database
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.training_photos import TrainingPhotos
from rissole.storage.manifest import latent_fingerprint, read_manifest, write_manifest

SIZE = 128
TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TINY = DenoiserConfig(
    channels=(16, 32), canvas_channels=(16, 32), canvas_layers=2, block_layers=1, head_channels=16
)


def pytest_configure() -> None:
    """Processes that run beside each other share the cores: a thread each, their servers too.

    And signals that end a run are heard by all of them, and servers may take their time.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
    usual = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    for name, handler in usual.items():  # a shell and `nohup` start others deaf to them
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    for part in ("connect", "read", "write", "pool"):  # five seconds are little on a busy machine
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, PATIENCE / 1000)


def picture(seed: int) -> Image.Image:
    """A smooth random picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIZE, SIZE), Image.BICUBIC)


def seeded(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Random weights that are the same on every run, zero-initialized layers among them.

    Biases and null tokens, too: what a layer's constructor draws differs from run to run.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        spread = 1 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.02
        if parameter.dim() > 1 or name.endswith(("bias", "null")):
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete bundle with random weights and 24 pictures."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    codec = Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0))
    pictures = [picture(i) for i in range(24)]
    latents = torch.cat([codec.encode(to_tensor(p)) for p in pictures])
    # random weights give latents of any size; the codec owns the scale that makes them standard
    codec.model.register_to_config(
        shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item()
    )
    codec = Codec(codec.model)
    latents = torch.cat([codec.encode(to_tensor(p)) for p in pictures])
    embedding = LatentEmbedding.fit(latents)
    build_database(folder / "database", pictures, codec, embedding, "colors", latents)
    defaults = {"order": "parallel", "grid": 4, "num_inference_steps": 4, "guidance_scale": 1.5,
                "k": 4}  # fmt: skip
    card = {"name": "tiny", "image_size": SIZE, "defaults": defaults}
    denoiser = seeded(Denoiser(TINY), 1)
    write_bundle(folder, codec, denoiser, default_scheduler(), embedding, card)
    TrainingPhotos.fit(latents[:18], latents[18:]).save(folder)
    write_manifest(folder, "tiny")
    return folder


@pytest.fixture(scope="session")
def pipe(tiny_bundle: Path) -> RissolePipeline:
    """The tiny pipeline."""
    return RissolePipeline.from_pretrained(tiny_bundle)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete open_clip model with random weights, as it would lie on the Hub."""
    open_clip = pytest.importorskip("open_clip")
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    folder.mkdir()
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    config = {"model_cfg": TINY_CLIP, "preprocess_cfg": half}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.CLIP(
        TINY_CLIP["embed_dim"],
        open_clip.CLIPVisionCfg(**TINY_CLIP["vision_cfg"]),
        open_clip.CLIPTextCfg(**TINY_CLIP["text_cfg"]),
    )
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where vectors are kept, and what comes from a Hub; shared by the tests of a module."""
    return tmp_path_factory.mktemp("rissole-cache")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A Hub on loopback; repositories are added to it."""
    with running(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def client(hub: LoopbackHub, cache: Path) -> Iterator[Client]:
    """A process that resolves names there."""
    with Client(cache, hub.url) as process:
        yield process


@pytest.fixture
def reading(tiny_bundle, clip_folder, cache, monkeypatch) -> RissolePipeline:
    """The tiny pipeline with a text encoder."""
    monkeypatch.setenv("RISSOLE_CACHE", str(cache))
    return RissolePipeline.from_pretrained(tiny_bundle, clip=str(clip_folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a manifest and no model in it, called tiny."""
    return make_bundle(tmp_path / "tiny")


@pytest.fixture(scope="session")
def databases(pipe: RissolePipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one more database for the tiny bundle: ten pictures of two classes."""
    folder = tmp_path_factory.mktemp("databases")
    pictures, classes = [picture(100 + i) for i in range(10)], ["calm", "wild"] * 5
    build_database(folder / "moods", pictures, pipe.codec, pipe.embedding, "moods", classes=classes)
    made_for = latent_fingerprint(read_manifest(pipe.folder))
    write_manifest(folder / "moods", "moods", encoder=made_for)
    return folder


@pytest.fixture(scope="session")
def address(pipe: RissolePipeline, databases: Path) -> Iterator[str]:
    """Where a real server with the tiny pipeline listens."""
    from rissole.app.server import serve  # slow to import, and most tests need no page

    app, url, _ = serve(pipe, "127.0.0.1", databases=[databases], prevent_thread_lock=True)
    yield url
    app.get_blocks().close()


@pytest.fixture(scope="session")
def browser():
    """A real Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser found: none of {', '.join(names)} is installed")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        sync_api.expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def contexts(browser):
    """Contexts of the browser by their options: one that has seen the page opens it faster."""
    return {}


@pytest.fixture
def visit(browser, contexts, address, request):
    """A visit of the page, by default on a desktop; nothing may go wrong in it."""
    options = getattr(request, "param", {})
    key = str(sorted(options.items()))
    visit = Visit(browser, address, contexts.get(key), **options)
    contexts[key] = visit.context
    yield visit
    visit.leave()
    assert visit.troubles == []


@pytest.fixture
def under_way(pipe, monkeypatch):
    """The paintings under way on the server, one entry each."""
    stream, entries = pipe.stream, []

    def counted(*args, **options):
        entries.append(None)
        try:
            yield from stream(*args, **options)
        finally:
            entries.pop()

    monkeypatch.setattr(pipe, "stream", counted)
    return entries


@pytest.fixture
def endless(under_way, pipe, monkeypatch):
    """The same, of paintings that show their first step until they are ended."""
    stream = pipe.stream

    def going_on(*args, **options):
        for step in stream(*args, **options):
            while True:
                yield step

    monkeypatch.setattr(pipe, "stream", going_on)
    return under_way


@pytest.fixture(scope="session")
def photos() -> torch.Tensor:
    """uint8 (48, 3, SIZE, SIZE) to train on."""
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(48)])


@pytest.fixture(scope="session")
def run(tiny_bundle: Path, photos: torch.Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an autoencoder and its latents, where a denoiser can be trained."""
    from rissole.training.neighborhoods import make_latents  # slow, and few tests train

    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(tiny_bundle / "autoencoder", folder / "autoencoder")
    (folder / "latents").mkdir()
    make_latents(folder / "autoencoder", photos, folder / "latents", "cpu")
    return folder
