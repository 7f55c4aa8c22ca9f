"""The comparison: every method paints for the same queries and is measured the same way.

A run's folder holds what was trained: `denoiser/` and any of the baselines' folders. For each
method that is there `compare` paints, measures, and keeps a row in `comparison/rows.json`; what is
already there is not painted again, so that an interrupted comparison goes on, unless it was asked
for otherwise, or the model, the decoder or a network that measures is another since. `write_report`
makes the tables and the picture of them.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rissole.evaluation.classes import LinearClassifier
from rissole.evaluation.copies import copies
from rissole.evaluation.distances import Gaussian, feature_metrics, frechet_distance
from rissole.evaluation.probe import probe_coherence
from rissole.evaluation.seams import seam_metrics
from rissole.experiments import published, whole_image  # noqa: F401 - they register their methods
from rissole.experiments.bench import UNPAINTED, Bench, Instruments
from rissole.experiments.cases import Case
from rissole.loading import fast_dtype
from rissole.storage.files import save_tensors
from rissole.training.bulk import decode_bytes
from rissole.training.checkpoint import write_json
from rissole.training.denoiser_stage import folder
from rissole.training.denoising import FewSteps
from rissole.training.method import METHODS, Method


def paint_case(bench: Bench, case: Case) -> tuple[Tensor, dict[str, Any]]:
    """uint8 pictures (N, 3, H, W) of a case, and what they cost."""
    if case.model in UNPAINTED:
        return UNPAINTED[case.model].pictures(bench, case), {}
    method, model = load_method(bench.run, case, bench.device)
    neighbors = bench.neighbors(case, method.neighbors_shown(model, case.k))
    cuda = bench.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    latents = method.paint(model, neighbors, case.painting, bench.seed)
    images = decode_bytes(bench.codec, latents)
    seconds = time.monotonic() - start
    cost = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "network_calls": method.network_calls(case.painting),
        "seconds_per_image_batched": seconds / len(images),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "peak_memory_batched_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        "minutes": _minutes(bench.run / case.model),
    }
    return images, cost


def _minutes(folder: Path) -> float | None:
    """Training time that `train` noted."""
    path = folder / "minutes.json"
    return json.loads(path.read_bytes())["minutes"] if path.exists() else None


def method_of(case: Case) -> Method:
    """The method that a case's model was trained by."""
    return next((one for one in METHODS if folder(one.name) == case.model), FewSteps)()


def load_method(run: Path, case: Case, device: str) -> tuple[Method, Any]:
    """A case's method and model, in the precision that the device paints with."""
    method = method_of(case)
    model = method.network.load(run / case.model)
    return method, model.to(device, fast_dtype(torch.device(device)))


def measure(
    bench: Bench, images: Tensor, reference: dict[str, dict], wanted: Tensor | None = None
) -> dict[str, Any]:
    """All measures of one case's pictures.

    Args:
        reference: of `references`.
        wanted: (N,) classes the pictures should show; adds the share of those that do.
    """
    row: dict[str, Any] = {"n": len(images)}
    for name, network in bench.networks.items():
        features = network.extract(images)
        own = feature_metrics(features, reference[name]["features"], network.name, resamples=10)
        own["fd_reconstructions"] = frechet_distance(features, reference[name]["reconstructions"])
        if wanted is not None:
            shown = reference[name]["classifier"].predict(features)
            own["class_agreement"] = (shown == wanted).double().mean().item()
        row[name] = own
    row |= seam_metrics(images)
    row["probe"] = probe_coherence(bench.probe, images, bench.held, bench.train)
    near = copies(images, bench.train, bench.held, bench.networks["features"])
    row["copies"] = {space: near[space]["share"] for space in near}
    return row


def references(bench: Bench) -> dict[str, dict]:
    """Features of training photos, the Gaussian of their reconstructions, perhaps a classifier.

    Returns:
        One entry per network.
    """
    count = len(bench.train)
    rebuilt = decode_bytes(bench.codec, bench.data["latents"][:count].float())
    found: dict[str, dict] = {}
    for name, network in bench.networks.items():
        features = network.extract(bench.train)
        found[name] = {
            "features": features,
            "reconstructions": Gaussian.fit(network.extract(rebuilt)),
        }
        if "labels" in bench.data:
            labels = bench.data["labels"][:count]
            found[name]["classifier"] = LinearClassifier.fit(features, labels)
    return found


def compare(
    run: Path,
    photos: Tensor,
    cases: list[Case],
    *,
    samples: int = 1024,
    device: str = "cuda",
    seed: int = 0,
    probe_steps: int = 300,
    on_row: Callable[[str, dict], None] | None = None,
) -> dict[str, dict]:
    """Paints and measures the cases whose models are there; returns rows by name.

    Args:
        photos: the uint8 photos of the run's stages.
        samples: pictures per case.
        probe_steps: training of the coherence probe.
        on_row: called with each new row.
    """
    out = run / "comparison"
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.json"
    rows = json.loads(path.read_bytes()) if path.exists() else {}
    instruments = Instruments.open(run, photos.shape[-1], device)
    made_by = {"seed": seed, "codec": instruments.digest, "networks": instruments.names}
    asked = {case: {"case": asdict(case), **made_by} for case in cases if _possible(case, run)}
    todo = [case for case in asked if not _kept(rows.get(case.name), asked[case], run, samples)]
    if not todo:
        return rows
    if stale := [case.name for case in todo if case.name in rows]:
        print(f"note: {len(stale)} rows are of other weights or settings: anew", file=sys.stderr)
    bench = Bench.open(
        run, photos, instruments, samples=samples, device=device, seed=seed, probe_steps=probe_steps
    )
    reference = references(bench)
    for case in todo:
        images, cost = paint_case(bench, case)
        row = measure(bench, images, reference, bench.wanted(case))
        rows[case.name] = {**asked[case], **cost, **row}
        save_tensors({"images": images[:16].contiguous()}, pictures_path(out, case.name))
        write_json(path, rows)
        if on_row:
            on_row(case.name, rows[case.name])
    return rows


def _possible(case: Case, run: Path) -> bool:
    """Whether a run has the model, and the classes, that a case needs."""
    if case.neighbors == "class" and not (run / "latents" / "classes.json").exists():
        return False
    return case.model in UNPAINTED or (run / case.model).is_dir()


def _kept(row: dict[str, Any] | None, asked: dict[str, Any], run: Path, samples: int) -> bool:
    """Whether a row holds what is asked for, painted and measured by what is there now."""
    if row is None or any(row.get(name) != value for name, value in asked.items()):
        return False
    model = asked["case"]["model"]
    if model in UNPAINTED and UNPAINTED[model].held_out:
        return True
    return row["n"] == samples and row.get("minutes") == _minutes(run / model)


def pictures_path(out: Path, name: str) -> Path:
    """File of the first pictures of a row."""
    return out / f"{''.join(c if c.isalnum() else '-' for c in name)}.safetensors"
