"""Writes a bundle as a folder that any web server serves: the page, and a model that runs in it.

The folder mirrors the package (`app/web`, `export/web`), so that scripts find each other as they do
here, with beside them `model/` (graphs and the bundle's own weights), `database/`, `thumbs/` and
`runtime/`. `facts.json` says what the page must know before anything heavy is loaded.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from rissole.app.about import card_facts
from rissole.app.assets import FOLDER as APP
from rissole.app.choose import most_neighbors
from rissole.app.guard import classes_of
from rissole.app.presets import PRESETS
from rissole.export.exportable import check_exportable, check_tools
from rissole.export.linking import Weights, link
from rissole.export.onnx_graphs import graphs_of, record
from rissole.export.opening import write_opening
from rissole.export.runtime import copy_runtime
from rissole.models.denoiser import Denoiser
from rissole.pipeline import RissolePipeline
from rissole.retrieval.index import build
from rissole.retrieval.training_photos import TrainingPhotos
from rissole.storage.manifest import PAGE_SUFFIXES, write_manifest
from rissole.storage.staging import staged

PAGE = Path(__file__).parent / "web"
FACTS = "facts.json"
UNKNOWN = "000000000000"  # what `sw.js` has in place of the version
# half-precision weights, by the names that graphs know them by
WEIGHTS = {
    "denoiser.safetensors": "denoiser/model.safetensors",
    "autoencoder.safetensors": "autoencoder/diffusion_pytorch_model.safetensors",
    "encoder.safetensors": "encoder/encoder.safetensors",
}
# a browser lends threads only to pages that no other page can look into
HEADERS = {
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "cross-origin",
}

Report = Callable[[str], None]


def export_page(
    bundle: str | Path, out: Path, runtime: Path | None = None, say: Report = lambda line: None
) -> dict[str, Any]:
    """Writes the folder, whole or not at all.

    Args:
        bundle: as in `RissolePipeline.from_pretrained`.
        out: the folder; one that was exported before is replaced.
        runtime: where the browser's runtime lies, see `runtime.copy_runtime`.
        say: told what is done next.

    Returns:
        What `facts.json` holds.

    Raises:
        RissoleError: for a bundle that a browser cannot run, or a folder with other things in it.
    """
    check_tools()
    pipe = RissolePipeline.from_pretrained(bundle, device="cpu", torch_dtype=torch.float32)
    check_exportable(pipe)
    with staged(out) as stage:
        say("the runtime")
        copy_runtime(stage / "runtime", runtime)
        write_graphs(pipe, stage / "model", say)
        say("the database and the page")
        write_database(pipe, stage)
        write_scripts(stage)
        facts = facts_of(pipe) | {"training_photos": write_training_photos(pipe, stage)}
        facts |= {"opening": write_opening(pipe, stage)}
        seal(stage, facts)
    return facts


def write_graphs(pipe: RissolePipeline, stage: Path, say: Report) -> None:
    """Writes the graphs beside copies of the weights that they take."""
    assert pipe.folder is not None and isinstance(pipe.denoiser, Denoiser)
    stage.mkdir()
    files = {}
    for name, source in WEIGHTS.items():
        if (pipe.folder / source).is_file():
            files[name] = Path(shutil.copyfile(pipe.folder / source, stage / name))
    weights = Weights(files)
    for name, graph in graphs_of(pipe.codec, pipe.denoiser, pipe.retriever.encoder).items():
        say(f"the graph {name}")
        record(graph, stage / f"{name}.onnx")
        link(stage / f"{name}.onnx", weights)


def write_database(pipe: RissolePipeline, stage: Path) -> None:
    """Writes what the page searches, and each thumbnail under the page's address for it."""
    database, index = pipe.database, pipe.retriever.index(pipe.retriever.encoder)
    (stage / "database").mkdir()
    for name in ("latents.safetensors", "thumbnails.safetensors"):
        shutil.copyfile(database.folder / name, stage / "database" / name)
    # the encoder's own vectors: the file of the database may hold those of another
    vectors = np.stack([index.vector(item) for item in range(len(index))])
    build(stage / "database" / "index.faiss", lambda: iter([vectors]), *vectors.shape)
    thumbs = f"thumbs/{database.fingerprint}"
    (stage / thumbs).mkdir(parents=True)
    for item in range(len(database)):
        (stage / thumbs / f"{item}.webp").write_bytes(database.webp(item))
    (stage / thumbs / "classes.bin").write_bytes(classes_of(database))


def write_training_photos(pipe: RissolePipeline, stage: Path) -> dict[str, int] | None:
    """Copies what tells how near a picture is to training photos; its shape, or None without it."""
    assert pipe.folder is not None
    photos = TrainingPhotos.load(pipe.folder, pipe.denoiser.latent_shape[0])
    if photos is None:
        return None
    photos.save(stage)  # in the form that the scripts read, whatever was stored
    return {"count": len(photos.means), "cells": photos.cells}


def write_scripts(stage: Path) -> None:
    """Writes the page with its scripts and styles."""
    for source, target in ((APP, "app/web"), (PAGE, "export/web")):
        unread = shutil.ignore_patterns("*.ts", "index.html", "sw.js")
        shutil.copytree(source, stage / target, ignore=unread)
    for name in ("index.html", "sw.js"):  # a service worker governs what lies below it
        shutil.copyfile(PAGE / name, stage / name)


def facts_of(pipe: RissolePipeline) -> dict[str, Any]:
    """What the page must know of the bundle and its database."""
    config, database = pipe.denoiser.config, pipe.database
    channels, size, _ = pipe.denoiser.latent_shape
    encoder = pipe.retriever.encoder
    return {
        "name": pipe.config["name"],
        "bundle": pipe.fingerprint,
        "image_size": pipe.image_size,
        "defaults": pipe.defaults,
        "parameters": pipe.num_parameters(),
        "shape": {
            "channels": channels,
            "size": size,
            "halo": config.halo,
            "listeners": config.canvas_layers // 2 if config.canvas else 1,
            "flow_map": pipe.denoiser.flow_map,
            "strength": bool(config.strength),
        },
        "card": card_facts(pipe),
        "presets": [asdict(preset) for preset in PRESETS],
        "most": most_neighbors(pipe),
        "encoder": {"name": encoder.name, "label": encoder.label},
        "database": {
            "key": database.fingerprint,
            "label": database.label,
            "count": len(database),
            "classes": database.classes,
        },
    }


def listed(stage: Path) -> tuple[str, dict[str, int]]:
    """A hash over all files, and the size of each but for the single thumbnails."""
    contents, sizes = hashlib.sha256(), {}
    for path in sorted(path for path in stage.rglob("*") if path.is_file()):
        name = path.relative_to(stage).as_posix()
        contents.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
        if path.suffix != ".webp":
            sizes[name] = path.stat().st_size
    return contents.hexdigest()[: len(UNKNOWN)], sizes


def seal(stage: Path, facts: dict[str, Any]) -> None:
    """Gives a page its version, and says what is in it.

    The version goes into the service worker, too: browsers compare it byte by byte with theirs.
    """
    facts["version"], facts["files"] = listed(stage)
    worker = (stage / "sw.js").read_text(encoding="utf-8").replace(UNKNOWN, facts["version"])
    (stage / "sw.js").write_text(worker, encoding="utf-8")
    (stage / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    (stage / "README.md").write_text(card_of(facts), encoding="utf-8")
    write_manifest(stage, f"{facts['name']}-page", PAGE_SUFFIXES)


def card_of(facts: dict[str, Any]) -> str:
    """README.md of a static Space: its front matter, and what the folder is."""
    front = {
        "title": f"RISSOLE {facts['name']}"[:30],
        "emoji": "🧩",
        "colorFrom": "yellow",
        "colorTo": "red",
        "sdk": "static",
        "app_file": "index.html",
        "short_description": "Paints in your browser, block by block",
        "custom_headers": HEADERS,
    }
    text = (
        f"`{facts['name']}` as a page that paints in the visitor's own browser: no server computes "
        "anything.\nMade by `rissole export --web`; any web server can serve this folder. With the "
        "headers above a browser\nlends it threads."
    )
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n{text}\n"
