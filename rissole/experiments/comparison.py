"""The comparison: every method paints for the same queries and is measured the same way.

A run's folder holds what was trained: `denoiser/` and any of the baselines' folders. For each
method that is there `compare` paints, measures, and keeps a row in `comparison/rows.json`; what is
already there is not painted again, so that an interrupted comparison goes on, unless it was asked
for otherwise or its model was trained on since. `write_report` makes the tables and the picture of
them.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from rissole.config import GUIDANCE_SCALE, NUM_INFERENCE_STEPS, RissoleError
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
from rissole.experiments.retrieval_benchmark import peak_rss
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.pipeline import RissolePipeline, default_scheduler, fast_dtype
from rissole.sampling import canvas_noise, is_guided, set_levels
from rissole.storage.files import save_tensors
from rissole.training.gallery_stage import CPU_BATCH, decode_bytes, paint_many, training_neighbors
from rissole.training.latents_stage import read_latents
from rissole.training.trainer import write_json

GUIDANCE = (1.0, 1.3, 1.6, 2.0, 3.0)  # these two: what the ablations try
STEPS = (5, 8, 12, 16, 20, 30, 50)
UNPAINTED = ("photos", "reconstructions", "nearest neighbor")  # in place of a model


@dataclass(frozen=True)
class Case:
    """One row: a model and how it is used.

    Attributes:
        name: shown in the table.
        model: folder in the run, or "photos", "reconstructions" or "nearest neighbor".
        order, grid, num_inference_steps, guidance_scale: as everywhere.
        k: neighbors shown; 0 paints without.
        neighbors: "nearest", or in their place "random" pictures, or random ones of the query's
            "class", if photos have classes.
    """

    name: str
    model: str = "denoiser"
    order: str = "parallel"
    grid: int = 4
    num_inference_steps: int = NUM_INFERENCE_STEPS
    guidance_scale: float = GUIDANCE_SCALE
    k: int = 8
    neighbors: str = "nearest"


def methods(steps: int, guidance: float) -> list[Case]:
    """The rows of the comparison, the block denoiser at the given settings."""
    ours = Case("rissole", num_inference_steps=steps, guidance_scale=guidance)
    return [
        Case("photos, held out", "photos"),
        Case("reconstructions", "reconstructions"),
        ours,
        replace(ours, name="rissole, 2x2 blocks", grid=2),
        replace(ours, name="rissole, 1x1 block", grid=1),
        replace(ours, name="rissole, sequential", order="sequential"),
        replace(ours, name="rissole, independent", order="independent"),
        Case("published", "published", "independent", 2, 1000, 1.0, 10),
        Case("published, no retrieval", "published-no-retrieval", "independent", 2, 1000, 1.0, 0),
        Case("whole image", "whole-image", "whole", 1, 50, 1.0, 0),
        Case("whole image, retrieval", "whole-image-retrieval", "whole", 1, 50, guidance),
        Case("nearest neighbor, decoded", "nearest neighbor"),
    ]


def ablations(steps: int, guidance: float) -> list[Case]:
    """One change at a time to the block denoiser."""
    ours = Case("rissole", num_inference_steps=steps, guidance_scale=guidance)
    return [
        ours,
        *(replace(ours, name=f"k = {k}", k=k) for k in (1, 4, 16)),
        replace(ours, name="no neighbors", k=0),
        replace(ours, name="random pictures as neighbors", neighbors="random"),
        replace(ours, name="random pictures of the class", neighbors="class"),
        *(replace(ours, name=f"guidance {g}", guidance_scale=g) for g in GUIDANCE if g != guidance),
        *(replace(ours, name=f"{n} steps", num_inference_steps=n) for n in STEPS if n != steps),
        replace(ours, name="trained without halo", model="no-halo"),
        replace(ours, name="trained without canvas", model="no-canvas"),
    ]


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
    scheduler = default_scheduler()
    set_levels(scheduler, steps)
    levels = scheduler.sigmas[:-1].tolist()
    guided = sum(case.k > 0 and is_guided(level, case.guidance_scale) for level in levels)
    return (steps + guided) * (case.grid**2 if case.order == "sequential" else 1)


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


def cost_here(run: Path, case: Case, repeats: int = 3) -> dict[str, float | int]:
    """What one picture costs on this machine's processor, in a process of its own.

    Returns:
        `cpu_seconds`, the median of `repeats` after a short one to warm up, `cpu_threads`, and
        `cpu_peak_memory_gb`, the process's largest resident memory.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_cost_here, run, case, repeats).result()


def _cost_here(run: Path, case: Case, repeats: int) -> dict[str, float | int]:
    model, codec = load_model(run, case, "cpu"), Codec.load(run / "autoencoder")
    with safe_open(run / "latents" / "latents.safetensors", "pt") as file:
        near = file.get_slice("latents")[: max(shown(case, model), 1)][None].float()

    def once(case: Case) -> float:
        start = time.perf_counter()
        decode_bytes(codec, paint_latents(model, case, near[:, : shown(case, model)], 0))
        return time.perf_counter() - start

    once(replace(case, num_inference_steps=2))
    seconds = statistics.median(once(case) for _ in range(repeats))
    return {
        "cpu_seconds": seconds,
        "cpu_threads": torch.get_num_threads(),
        "cpu_peak_memory_gb": peak_rss() / 1e9,
    }


def add_costs(run: Path, on_row: Callable[[str, dict], None] | None = None) -> None:
    """Measures `cost_here` for all painted rows of a comparison that lack it."""
    path = run / "comparison" / "rows.json"
    rows = json.loads(path.read_text())
    for name, row in rows.items():
        if "parameters" in row and "cpu_seconds" not in row:
            case = Case(**row["case"])
            row |= cost_here(run, case, repeats=1 if network_calls(case) > 1000 else 3)
            write_json(path, rows)
            if on_row:
                on_row(name, row)


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
        save_tensors({"images": images[:16].contiguous()}, _pictures(out, case.name))
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


def _pictures(out: Path, name: str) -> Path:
    return out / f"{''.join(c if c.isalnum() else '-' for c in name)}.safetensors"


def write_report(run: Path, cases: list[Case], name: str) -> Path:
    """Writes `comparison/NAME.md`, a table, and `NAME.png`: a row per method, a column per query.

    The picture leaves out what photos can be recognised in.
    """
    out = run / "comparison"
    rows = json.loads((out / "rows.json").read_text())
    present = [c.name for c in cases if c.name in rows]
    header = ("", "parameters", "GPU minutes", "calls", "s, CPU", "GB, CPU", "s, GPU", "FD",
              "FD, check network", "KD x 1000", "precision", "recall", "seam ratio", "probe AUC",
              "copies")  # fmt: skip
    if any("class_agreement" in rows[n]["features"] for n in present):
        header += ("right class",)
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(_cells(n, rows[n]))} |" for n in present]
    (out / f"{name}.md").write_text("\n".join(lines) + "\n")
    if painted := [n for n in present if "parameters" in rows[n]]:
        _sheet(out, painted).save(out / f"{name}.png")
    return out / f"{name}.md"


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    features, check = row["features"], row.get("check", {})
    low, high = features["fd_ci95"]
    copied = max(row["copies"].values())
    return [
        name,
        f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else "",
        f"{row['minutes']:.1f}" if row.get("minutes") else "",
        f"{row['network_calls']:,}" if "network_calls" in row else "",
        f"{row['cpu_seconds']:.2f}" if "cpu_seconds" in row else "",
        f"{row['cpu_peak_memory_gb']:.2f}" if "cpu_seconds" in row else "",
        f"{row['seconds_per_image_batched']:.4f}" if row.get("device", "cpu") != "cpu" else "",
        f"{features['fd']:.1f} ({low:.1f} to {high:.1f})",
        f"{check['fd']:.1f}" if check else "",
        f"{1000 * features['kd']:.2f}",
        f"{features['precision']:.2f}",
        f"{features['recall']:.2f}",
        f"{row['seam_ratio']:.3f}",
        f"{row['probe']['auc']:.2f}",
        f"{100 * copied:.1f} %",
        *([f"{100 * agreement:.0f} %"] if (agreement := features.get("class_agreement")) else []),
    ]


def class_sheet(
    pipe: RissolePipeline, *, columns: int = 10, seed: int = 0, **settings: Any
) -> Image.Image:
    """A row of painted pictures per class of a database, each guided by pictures of that class.

    Args:
        pipe: whose database has classes.
        columns: pictures of each class, each guided by a random picture of it and its neighbors.
        seed: of the first picture; every other one has the next seed.
        settings: as for `RissolePipeline.stream`.

    Raises:
        RissoleError: when the database knows no classes.
    """
    names = pipe.database.classes
    if not names:
        raise RissoleError("the database knows no classes")
    k, rows = pipe.defaults["k"], []
    for number, name in enumerate(tqdm(names, "classes", leave=False, disable=None)):
        seeds = range(seed + number * columns, seed + (number + 1) * columns)
        found = [pipe.retrieve(label=name, k=k, seed=own) for own in seeds]
        painted = [pipe(hits, seed=own, **settings) for hits, own in zip(found, seeds, strict=True)]
        rows.append([output.images[0] for output in painted])
    return _labelled(names, rows, 90)


def _sheet(out: Path, names: list[str], columns: int = 8, label: int = 190) -> Image.Image:
    """The same queries down the columns."""
    pictures = [load_file(_pictures(out, n))["images"][:columns] for n in names]
    rows = [[Image.fromarray(x.permute(1, 2, 0).numpy()) for x in row] for row in pictures]
    return _labelled(names, rows, label)


def _labelled(names: list[str], rows: list[list[Image.Image]], label: int) -> Image.Image:
    """Rows of pictures behind their names; small pictures are enlarged by whole pixels."""
    times = max(1, 64 // rows[0][0].width)
    size = times * rows[0][0].width
    width, step = label + len(rows[0]) * (size + 2), size + 2
    sheet = Image.new("RGB", (width, len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for r, (name, row) in enumerate(zip(names, rows, strict=True)):
        draw.text((6, r * step + size // 2 - 6), name, fill="black")
        for c, picture in enumerate(row):
            large = picture.resize((size, size), Image.Resampling.NEAREST)
            sheet.paste(large, (label + c * step, r * step))
    return sheet
