"""The comparison: every method paints for the same queries and is measured the same way.

A run's folder holds what was trained: `denoiser/` and any of the baselines' folders. For each
method that is there `compare` paints, measures, and keeps a row in `comparison/rows.json`; what is
already there is not painted again, so that an interrupted comparison goes on, unless it was asked
for otherwise or its model was trained on since. `write_report` makes the tables and the picture of
them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.photos import split
from rissole.evaluation.classes import LinearClassifier
from rissole.evaluation.copies import copies
from rissole.evaluation.distances import Gaussian, feature_metrics, frechet_distance, interval
from rissole.evaluation.network import FeatureNetwork
from rissole.evaluation.probe import CoherenceProbe, probe_coherence, train_probe
from rissole.evaluation.seams import seam_jumps, seam_ratio
from rissole.experiments.baselines import (
    BASELINES,
    PUBLISHED_GRID,
    Baseline,
    paint_baseline,
    solver,
)
from rissole.experiments.cases import UNPAINTED, Case
from rissole.loading import fast_dtype
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.sampling import canvas_noise
from rissole.sampling import network_calls as calls_of
from rissole.storage.files import save_tensors
from rissole.training.gallery_stage import CPU_BATCH, decode_bytes, paint_many, training_neighbors
from rissole.training.latents_stage import read_latents
from rissole.training.trainer import write_json


@dataclass
class Bench:
    """What all cases share: photos, latents, codec, networks that measure."""

    run: Path
    train: Tensor
    held: Tensor
    data: dict[str, Tensor]
    codec: Codec
    networks: dict[str, FeatureNetwork]
    probe: CoherenceProbe
    device: str
    samples: int
    seed: int

    @classmethod
    def open(
        cls, run: Path, photos: Tensor, samples: int, device: str, seed: int, probe_steps: int
    ) -> Bench:
        """Reads a run's autoencoder, latents and feature networks; trains the probe."""
        train, held = split(photos)
        data = read_latents(run, photos)
        networks = {p.stem: FeatureNetwork.load(p, device) for p in (run / "features.safetensors",
                    run / "check.safetensors") if p.exists()}  # fmt: skip
        if "features" not in networks:
            raise RissoleError(f"{run}/features.safetensors is missing: run --stage features first")
        codec = Codec.load(run / "autoencoder").to(device)
        probe = train_probe(train, steps=probe_steps, seed=seed, device=device)
        return cls(run, train, held, data, codec, networks, probe, device, samples, seed)

    def queries(self) -> Tensor:
        """Numbers (N,) of the training pictures whose neighbors guide the samples."""
        generator = torch.Generator().manual_seed(self.seed)
        count = len(self.data["latents"])
        if self.samples <= count:
            return torch.randperm(count, generator=generator)[: self.samples]
        return torch.randint(count, (self.samples,), generator=generator)

    def neighbors(self, case: Case) -> Tensor:
        """Latents (N, k, C, S, S) that a case is shown."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        count, shape = len(self.data["latents"]), (self.samples, case.k)
        if case.neighbors == "random":
            return self.data["latents"][torch.randint(count, shape, generator=generator)]
        if case.neighbors == "class":
            wanted, picked = self.data["labels"][self.queries()], torch.empty(shape).long()
            for kind in wanted.unique():
                members = (self.data["labels"] == kind).nonzero()[:, 0]
                draw = torch.randint(len(members), shape, generator=generator)
                picked[wanted == kind] = members[draw][wanted == kind]
            return self.data["latents"][picked]
        return training_neighbors(self.data, self.queries(), case.k)

    def wanted(self, case: Case) -> Tensor | None:
        """Classes (N,) that a case's pictures should show, those of the queries, if known."""
        if "labels" not in self.data:
            return None
        if case.model == "photos":
            return self.data["held_labels"][: len(self.held)]
        return self.data["labels"][self.queries()]


def paint_case(bench: Bench, case: Case) -> tuple[Tensor, dict[str, Any]]:
    """uint8 pictures (N, 3, H, W) of a case, and what they cost."""
    if case.model == "photos":
        return bench.held, {}
    if case.model == "reconstructions":
        latents = bench.data["latents"][bench.queries() % len(bench.train)]
        return decode_bytes(bench.codec, latents.float()), {}
    if case.model == "nearest neighbor":
        return decode_bytes(bench.codec, bench.neighbors(case)[:, 0].float()), {}
    model = load_model(bench.run, case, bench.device)
    neighbors = bench.neighbors(replace(case, k=shown(case, model)))
    cuda = bench.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    images = decode_bytes(bench.codec, paint_latents(model, case, neighbors, bench.seed))
    seconds = time.monotonic() - start
    cost = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "network_calls": network_calls(case),
        "seconds_per_image_batched": seconds / len(images),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "peak_memory_batched_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
        "minutes": _minutes(bench.run / case.model),
    }
    return images, cost


def _minutes(folder: Path) -> float | None:
    """Training time that `train` noted."""
    path = folder / "minutes.json"
    return json.loads(path.read_text())["minutes"] if path.exists() else None


def load_model(run: Path, case: Case, device: str) -> Denoiser | Baseline:
    """A case's model, in the precision that pictures are painted with on the device."""
    kind = Baseline if case.model in BASELINES else Denoiser
    return kind.load(run / case.model).to(device, fast_dtype(torch.device(device)))


def shown(case: Case, model: Denoiser | Baseline) -> int:
    """How many neighbors a case's model is handed; some look at a fixed number or at none."""
    return case.k if isinstance(model, Denoiser) else max(case.k, model.config.neighbors)


def network_calls(case: Case) -> int:
    """Evaluations of the network for one picture."""
    steps = case.num_inference_steps
    if case.model in BASELINES:
        blocks = PUBLISHED_GRID**2 if case.model.startswith("published") else 1  # one after another
        return steps * blocks * (1 + (case.guidance_scale != 1))
    groups = case.grid**2 if case.order == "sequential" else 1
    return calls_of(default_scheduler(), steps, case.guidance_scale if case.k else 1.0, groups)


def paint_latents(model: Denoiser | Baseline, case: Case, neighbors: Tensor, seed: int) -> Tensor:
    """Paints a picture for each row of neighbors (N, K, C, S, S): latents (N, C, S, S)."""
    batch = 256 if next(model.parameters()).is_cuda else CPU_BATCH
    if isinstance(model, Denoiser):
        return paint_many(
            model, neighbors, order=case.order, grid=case.grid, batch=batch, seed=seed,
            num_inference_steps=case.num_inference_steps, guidance_scale=case.guidance_scale,
        )  # fmt: skip
    device, published = next(model.parameters()).device, case.model.startswith("published")
    generator = torch.Generator(device).manual_seed(seed)
    parts = []
    starts = range(0, len(neighbors), batch)
    for start in tqdm(starts, desc="painting", unit="batch", leave=False, disable=None):
        near = neighbors[start : start + batch].to(device).float()
        near = near if published else near[:, : max(case.k, 1)]
        noise = [canvas_noise(seed + start + i, tuple(near.shape[2:])) for i in range(len(near))]
        scheduler = solver(case.num_inference_steps) if published else default_scheduler()
        painted = paint_baseline(
            model, scheduler, torch.stack(noise).to(device), near, generator=generator,
            num_inference_steps=case.num_inference_steps, guidance_scale=case.guidance_scale,
        )  # fmt: skip
        parts.append(painted.cpu())
    return torch.cat(parts)


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
    at, beside = seam_jumps(images)
    row["seam_ratio"] = seam_ratio(images)
    row["seam_ratio_ci95"] = interval(lambda i: float(at[i].sum() / beside[i].sum()), len(at))
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
    rows = json.loads(path.read_text()) if path.exists() else {}
    todo = [
        c for c in cases if _possible(c, run) and not _kept(rows.get(c.name), c, run, samples, seed)
    ]
    if not todo:
        return rows
    bench = Bench.open(run, photos, samples, device, seed, probe_steps)
    reference = references(bench)
    for case in todo:
        images, cost = paint_case(bench, case)
        row = measure(bench, images, reference, bench.wanted(case))
        rows[case.name] = {"case": asdict(case), "seed": seed, **cost, **row}
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


def _kept(row: dict[str, Any] | None, case: Case, run: Path, samples: int, seed: int) -> bool:
    """Whether a row holds what is asked for, painted by the model as it is now."""
    if row is None or row["case"] != asdict(case) or row.get("seed", seed) != seed:
        return False
    if case.model == "photos":  # all there are, whatever is asked for
        return True
    return row["n"] == samples and row.get("minutes") == _minutes(run / case.model)


def pictures_path(out: Path, name: str) -> Path:
    """File of the first pictures of a row."""
    return out / f"{''.join(c if c.isalnum() else '-' for c in name)}.safetensors"
