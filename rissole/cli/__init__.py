"""Command line: `python -m rissole COMMAND`.

Commands only translate options; what they do lives in the modules they import when called, so
that `--help` answers at once. Wrong input ends with exit code 2 and one line on stderr.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rissole.config import (
    GUIDANCE_SCALE,
    MAX_GUIDANCE_SCALE,
    MAX_SEED,
    MAX_STEPS,
    NUM_INFERENCE_STEPS,
    RissoleError,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from rissole.data.photos import Labelled
    from rissole.pipeline import BlockStep, GenerationOutput, RissolePipeline
    from rissole.retrieval.building import IndexReport

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Small diffusion models that paint a picture block by block, each block guided by the "
        "matching blocks of similar pictures. Start with: python -m rissole sample"
    ),
)

Bundle = Annotated[
    str, typer.Option(help="Model to use: a bundled name, a folder, or owner/name on the Hub.")
]
Database = Annotated[
    str | None,
    typer.Option(
        help="Folder made by `index`, or owner/name of one on the Hub, used in place of the "
        "bundle's own gallery."
    ),
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1 or mps.", show_default="the fastest present")
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="What pictures are compared by: latent, latent-corner (as first published), learned "
        "or clip.",
        show_default="as shipped",
    ),
]
Clip = Annotated[
    str | None,
    typer.Option(
        help="CLIP model that reads text: a name of open_clip such as MobileCLIP2-S0, owner/name "
        "on the Hub, or a folder.",
        show_default="none",
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        help="parallel: all blocks at once. sequential: one after another. "
        "independent: blocks do not see each other, as first published.",
        show_default="as shipped",
    ),
]
Grid = Annotated[
    int | None, typer.Option(help="Blocks per side: 1, 2 or 4.", show_default="as shipped")
]
Steps = Annotated[
    int | None,
    typer.Option(help="Denoising steps per block, 1 to 200.", show_default="as shipped"),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="0 to 20; 1 is off, more is clearer and less varied, 0 leaves the neighbors out.",
        show_default="as shipped",
    ),
]
Neighbors = Annotated[
    int | None,
    typer.Option("--k", help="How many neighbors to retrieve, 1 to 16.", show_default="as shipped"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 2 for wrong input, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    try:
        code = command.main(
            args=arguments or ["--help"], prog_name="python -m rissole", standalone_mode=False
        )
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        message = _explain(error)
        if message is None:
            raise
        typer.echo(f"error: {message}", err=True)
        return 2
    if code == 130:
        typer.echo("interrupted", err=True)
    return int(code or 0)


def _explain(error: Exception) -> str | None:
    """One line for errors that the user can mend; None for our own mistakes."""
    if hasattr(error, "format_message"):  # every usage error of typer
        text = error.format_message()
    elif isinstance(error, RissoleError):
        text = str(error)
    elif isinstance(error, OSError) and error.strerror:
        name = f" {error.filename}" if error.filename else ""
        text = f"{error.strerror.lower()}{name}"
    elif isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("rissole"):
        text = f"the package {error.name} is missing: pip install -r requirements.txt"
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        text = "out of memory: another --device may have more"  # torch's class for accelerators
    elif type(error).__name__ == "SafetensorError" or "failed writing file" in str(error):
        text = str(error)  # a full disk, in the words of the libraries that write weights
    else:
        return None
    return " ".join(text.split()) or type(error).__name__


def _closed_pipe() -> int:
    """The reader of our output has left (`| head`): end quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


# --- sample -------------------------------------------------------------------------------------


@app.command()
def sample(
    bundle: Bundle = "cats-128",
    out: Annotated[
        Path,
        typer.Option(help="PNG to write; several become cat-0.png, cat-1.png, ... or cat-%03d.png"),
    ] = Path("cat.png"),
    seed: Annotated[
        int | None,
        typer.Option(help="Same seed, same picture. Image i uses seed + i.", show_default="random"),
    ] = None,
    query: Annotated[
        Path | None, typer.Option(help="Picture whose nearest neighbors guide the painting.")
    ] = None,
    item: Annotated[
        int | None, typer.Option(help="Use the neighbors of this picture of the database.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Words that the neighbors match; needs --clip.")
    ] = None,
    neighbors: Annotated[
        str | None, typer.Option(help="Name the neighbors yourself, such as 3,17,5.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Only neighbors of this class.", show_default="all")
    ] = None,
    k: Neighbors = None,
    order: Order = None,
    grid: Grid = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    num_images: Annotated[int, typer.Option(help="How many pictures to paint.")] = 1,
    database: Database = None,
    encoder: Encoder = None,
    clip: Clip = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a bundle on the Hub.", show_default="main"),
    ] = None,
    device: Device = None,
) -> None:
    """Paint pictures and save them as PNG, each with the recipe that paints it again.

    Without --query, --text, --item or --neighbors every picture starts from a random item of the
    database.
    """
    chosen = _one_query(query, text, item, neighbors, only)
    paths = _output_paths(out, num_images)
    seed = secrets.randbelow(2**32) if seed is None else seed
    _check_seeds(seed, num_images)
    settings = {
        "order": order,
        "grid": grid,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
    }
    from rissole.data.images import save_png

    pipe = _load(bundle, database, device, encoder=encoder, clip=clip, revision=revision)
    for index, path in enumerate(paths):
        start = time.perf_counter()
        condition = _condition(pipe, chosen, k, seed + index)
        stream = pipe.stream(**condition, **settings, seed=seed + index)
        output = _follow(stream, f"{path.name} ({index + 1} of {len(paths)})")
        save_png(output.images[0], path, output.recipe)
        ids = ", ".join(map(str, output.recipe["neighbors"]))
        seconds = time.perf_counter() - start
        typer.echo(f"{path}  seed {seed + index}  neighbors {ids}  {seconds:.1f} s")


def _one_query(
    query: Path | None, text: str | None, item: int | None, neighbors: str | None, only: str | None
) -> dict[str, Any]:
    """The one way of choosing neighbors that was given, read and checked; empty for none."""
    given = {"image": query, "text": text, "item": item, "neighbors": neighbors}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise RissoleError("give only one of --query, --text, --item and --neighbors")
    if only is not None and neighbors is not None:
        raise RissoleError("give only one of --neighbors and --only")
    if query is not None:
        from rissole.data.images import load_image

        chosen["image"] = load_image(query)
    if neighbors is not None:
        chosen["neighbors"] = _numbers(neighbors)
    if only is not None:
        chosen["label"] = only
    return chosen


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,18}", part) for part in parts):
        raise RissoleError(f"--neighbors must be numbers such as 3,17,5, not {text[:60]!r}")
    return [int(part) for part in parts]


def _output_paths(out: Path, count: int) -> list[Path]:
    """Where each picture goes, with the folder made; checked before any painting starts."""
    if out.suffix.lower() != ".png":
        raise RissoleError(f"--out must end in .png, not {out.name!r}")
    if not 1 <= count <= 10_000:
        raise RissoleError(f"--num-images must be from 1 to 10000, not {count}")
    if re.search(r"%0?\d?d", out.name):
        names = [re.sub(r"%0?\d?d", lambda m, i=i: m[0] % i, out.name) for i in range(count)]
    elif count > 1:
        names = [f"{out.stem}-{i}{out.suffix}" for i in range(count)]
    else:
        names = [out.name]
    out.parent.mkdir(parents=True, exist_ok=True)
    return [out.with_name(name) for name in names]


def _check_seeds(first: int, count: int) -> None:
    """Refuse seeds out of range, the last of several pictures' included, before any work."""
    if not 0 <= first <= MAX_SEED - (count - 1):
        raise RissoleError(f"seed must be from 0 to {MAX_SEED - (count - 1)}, not {first}")


def _load(bundle: str, database: str | None, device: str | None, **options: Any) -> RissolePipeline:
    from rissole.pipeline import RissolePipeline

    pipe = RissolePipeline.from_pretrained(bundle, database=database, device=device, **options)
    if pipe.commit:
        typer.echo(f"{bundle} at commit {pipe.commit}", err=True)
    return pipe


def _condition(
    pipe: RissolePipeline, chosen: dict[str, Any], k: int | None, seed: int
) -> dict[str, Any]:
    """Arguments of `pipe` that carry the neighbors: named ones, or those of the query."""
    if "neighbors" in chosen:
        return chosen
    k = pipe.defaults["k"] if k is None else k
    return {"hits": pipe.retrieve(**chosen, k=k, seed=seed)}


def _follow(stream: Iterator[BlockStep], title: str) -> GenerationOutput:
    """Run a painting to its end under a progress bar that counts denoising steps."""
    from tqdm import tqdm

    output = None
    # disable=None: no bar where stderr is no terminal, so that logs and errors stay one line
    with closing(stream), tqdm(desc=title, unit="step", leave=False, disable=None) as bar:
        for step in stream:
            bar.total = step.num_blocks * step.total_steps
            if step.num_blocks > 1:
                bar.set_postfix_str(f"block {step.index} of {step.num_blocks}", refresh=False)
            bar.update()
            output = step.output
    assert output is not None  # the last step of a stream carries it
    return output


# --- sheet --------------------------------------------------------------------------------------


@app.command()
def sheet(
    bundle: Bundle = "cifar10-32",
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    columns: Annotated[int, typer.Option(help="Pictures of each class.")] = 10,
    seed: Annotated[
        int, typer.Option(help="Seed of the first picture; the next has seed + 1.")
    ] = 0,
    order: Order = None,
    grid: Grid = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    database: Database = None,
    device: Device = None,
) -> None:
    """Paint a row of pictures for every class of a database, each from neighbors of that class."""
    if not 1 <= columns <= 100:
        raise RissoleError(f"--columns must be from 1 to 100, not {columns}")
    _output_paths(out, 1)
    from rissole.experiments.comparison import class_sheet

    pipe = _load(bundle, database, device)
    _check_seeds(seed, columns * len(pipe.database.classes))
    settings = {"order": order, "grid": grid, "num_inference_steps": steps}
    picture = class_sheet(
        pipe, columns=columns, seed=seed, guidance_scale=guidance_scale, **settings
    )
    picture.save(out)
    typer.echo(f"{out}  {', '.join(pipe.database.classes)}")


# --- benchmark ----------------------------------------------------------------------------------


@app.command()
def benchmark(
    bundle: Bundle = "cats-128",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object in place of the table.")
    ] = False,
    runs: Annotated[int, typer.Option(help="Timed pictures, after one to warm up.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the first picture.")] = 0,
    k: Neighbors = None,
    order: Order = None,
    grid: Grid = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads.", show_default="as torch chooses")
    ] = None,
    entries: Annotated[
        int | None,
        typer.Option("--index", help="Measure retrieval instead, among so many synthetic entries."),
    ] = None,
    database: Database = None,
    device: Device = None,
) -> None:
    """Measure size, speed and memory on this machine; every figure is measured in this run."""
    if entries is not None:
        _measure_index(bundle, database, entries, threads, as_json)
        return
    if not 1 <= runs <= 1000:
        raise RissoleError(f"--runs must be from 1 to 1000, not {runs}")
    if threads is not None and not 1 <= threads <= 1024:
        raise RissoleError(f"--threads must be from 1 to 1024, not {threads}")
    _check_seeds(seed, runs)
    settings = {
        "order": order,
        "grid": grid,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
    }
    report = _measure(bundle, database, device, threads, runs, seed, k, settings)
    _print_report(report, as_json)


def _measure(
    bundle: str,
    database: str | None,
    device: str | None,
    threads: int | None,
    runs: int,
    seed: int,
    k: int | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Load a bundle, paint `runs` pictures after one to warm up, and report."""
    import torch

    from rissole.experiments.retrieval_benchmark import peak_rss

    if threads is not None:
        torch.set_num_threads(threads)
    load_seconds, pipe = _timed(lambda: _load(bundle, database, device))

    def paint(number: int) -> GenerationOutput:
        condition = _condition(pipe, {}, k, number)
        output = pipe(**condition, **settings, seed=number)
        _synchronize()
        return output

    def preview(number: int) -> None:
        condition = _condition(pipe, {}, k, number)
        with closing(pipe.stream(**condition, **settings, seed=number)) as stream:
            next(stream).preview.load()

    output = paint(seed)
    numbers = range(seed, seed + runs)
    seconds = [_timed(lambda n=n: paint(n))[0] for n in numbers]
    previews = [_timed(lambda n=n: preview(n))[0] for n in numbers]
    parameters = pipe.num_parameters()
    weights = next(pipe.denoiser.parameters())
    return {
        "bundle": bundle,
        "denoiser_parameters": parameters["denoiser"],
        "autoencoder_parameters": parameters["autoencoder"],
        "network_calls": output.network_calls,
        "seconds_per_image": round(statistics.median(seconds), 4),
        "seconds_per_image_min": round(min(seconds), 4),
        "seconds_per_image_max": round(max(seconds), 4),
        "first_preview_seconds": round(statistics.median(previews), 4),
        "first_preview_seconds_max": round(max(previews), 4),
        "load_seconds": round(load_seconds, 4),
        "peak_rss_mb": round(peak_rss() / 2**20, 1),
        "peak_gpu_mb": round(_peak_gpu(weights.device) / 2**20, 1),
        "runs": runs,
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "device": _device_name(weights.device),
        "dtype": str(weights.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "settings": {**{name: output.recipe[name] for name in settings}, **_sizes(pipe, output)},
    }


def _measure_index(
    bundle: str, database: str | None, entries: int, threads: int | None, as_json: bool
) -> None:
    from rissole.experiments.retrieval_benchmark import measure_index

    if threads is not None:
        import faiss
        import torch

        torch.set_num_threads(threads)
        faiss.omp_set_num_threads(threads)
    report = measure_index(_load(bundle, database, "cpu"), entries)
    _print_report({**report, "cpus": os.cpu_count()}, as_json)


def _sizes(pipe: RissolePipeline, output: GenerationOutput) -> dict[str, int]:
    return {
        "k": len(output.recipe["neighbors"]),
        "image_size": pipe.image_size,
        "database_items": len(pipe.database),
    }


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _synchronize() -> None:
    """Wait for an accelerator, which otherwise is still at work when the call returns."""
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _peak_gpu(device: torch.device) -> int:
    """Largest memory that tensors took on a CUDA device, in bytes; 0 elsewhere."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


# --- index --------------------------------------------------------------------------------------


@app.command()
def index(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of pictures, a parquet file, a folder of such, or owner/name of a data "
            "set on the Hub."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; give it to --database afterwards.")],
    bundle: Bundle = "cats-128",
    label: Annotated[
        str | None,
        typer.Option(help="What the pictures are, for people.", show_default="the source's name"),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Take only pictures of this class.", show_default="all")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Take only the first pictures.", show_default="all")
    ] = None,
    split: Annotated[str, typer.Option(help="Part of a data set on the Hub.")] = "train",
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of a data set.", show_default="the newest"),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Keep pictures that are there already.")
    ] = False,
    encoder: Encoder = None,
    clip: Clip = None,
    device: Device = None,
) -> None:
    """Make a retrieval database of your own pictures, to guide the model in place of its gallery.

    Duplicates and files that are no pictures are left out and listed. Started again, a build that
    was cut off goes on where it was. The result fits the bundle it is made with, and others with
    the same autoencoder.
    """
    if limit is not None and limit < 1:
        raise RissoleError(f"--limit must be above 0, not {limit}")
    from rissole.data.sources import open_source
    from rissole.retrieval.building import build_index

    pictures = open_source(source, split, revision)
    pipe = _load(bundle, None, device, encoder=encoder, clip=clip)
    report = build_index(
        pipe, pictures, out, label=label, only=only, limit=limit, keep_duplicates=keep_duplicates
    )
    if report.pictures:  # one of several processes reports
        _print_index(report, out)


def _print_index(report: IndexReport, out: Path) -> None:
    for name, reason in report.skipped[:10]:
        named = reason.startswith(Path(name).name)
        typer.echo(f"skipped: {reason}" if named else f"skipped: {name}: {reason}", err=True)
    if len(report.skipped) > 10:
        typer.echo(f"... all {len(report.skipped)} in {out / 'left-out.json'}", err=True)
    rate = (report.pictures + report.duplicates - report.resumed_at) / max(report.seconds, 1e-9)
    left_out = f"{report.duplicates:,} duplicates and {len(report.skipped):,} unreadable left out"
    resumed = f", resumed after {report.resumed_at:,}" if report.resumed_at else ""
    typer.echo(
        f"{report.pictures:,} pictures in {report.seconds:.1f} s ({max(rate, 0):.0f} a second), "
        f"{report.bytes / 1e6:.1f} MB; {left_out}{resumed}"
    )
    typer.echo(f"use it with --database {out}")


# --- train --------------------------------------------------------------------------------------

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


@app.command()
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
    device: Device = None,
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
    _check_size(size)
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
    result = _run_stage(stage, data, out, size, budget, _fastest(device), settings)
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


def _check_size(size: int) -> None:
    if not 8 <= size <= 1024:
        raise RissoleError(f"--size must be from 8 to 1024, not {size}")


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
    from rissole.evaluation.network import train_features

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
        result |= _flat(_encoder_quality(photos, out, device))
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


# --- evaluate -----------------------------------------------------------------------------------


@app.command()
def evaluate(
    images: Annotated[
        str,
        typer.Argument(
            help="Folder of painted pictures, as `sample` writes; or a bundle, which paints some "
            "first: its name, its folder, or owner/name on the Hub."
        ),
    ],
    reference: Annotated[
        str, typer.Option(help="Photos the model was trained on: a folder or parquet file(s).")
    ],
    features: Annotated[
        str | None,
        typer.Option(
            help="Network that compares pictures: a file made by `train --stage features`, or "
            "inception-v3-compat (FID) and clip-vit-b-32, which are downloaded.",
            show_default="needed for features and copies",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(help="Photos not trained on.", show_default="every 20th of the reference"),
    ] = None,
    measure: Annotated[
        str, typer.Option(help="What to measure, separated by commas.")
    ] = "features,seams,probe,copies",
    size: Annotated[int, typer.Option(help="Side in pixels at which pictures are compared.")] = 128,
    grid: Annotated[int, typer.Option(help="Blocks per side whose borders are examined.")] = 4,
    samples: Annotated[int, typer.Option(help="How many pictures a bundle paints.")] = 1024,
    seed: Annotated[int, typer.Option(help="Seed of all that is random.")] = 0,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object in place of the table.")
    ] = False,
) -> None:
    """Measure painted pictures: likeness to photos, seams, coherence, copies.

    Every figure comes with the same figure of photos that were not trained on.
    """
    parts = [part.strip() for part in measure.split(",")]
    _check_size(size)
    if not 1 <= grid <= 16:
        raise RissoleError(f"--grid must be from 1 to 16, not {grid}")
    if features is None and {"features", "copies"} & set(parts):
        raise RissoleError("--features is needed to measure features or copies")
    if not 5 <= samples <= 100_000:
        raise RissoleError(f"--samples must be from 5 to 100000, not {samples}")
    from rissole.evaluation import report as evaluation

    evaluation.check_parts(parts)
    painted: str | Tensor = images
    photos: str | Tensor = reference
    if _is_bundle(images):  # painting takes long: what is wrong with the rest shall be told before
        photos = evaluation.load_photos(reference, size)
        if features is not None:
            evaluation.load_features(features)
        painted = _paint_samples(images, samples, seed, size, device)
    result = evaluation.evaluate(
        painted,
        photos,
        features or "",
        held_out=held_out,
        size=size,
        grid=grid,
        parts=parts,
        seed=seed,
        device=_fastest(device),
    )
    _print_report(result, as_json)


def _is_bundle(images: str) -> bool:
    """Whether to paint with it: the folder of a bundle, or what is no folder here."""
    return (Path(images) / "manifest.json").is_file() or not Path(images).exists()


def _paint_samples(bundle: str, count: int, seed: int, size: int, device: str | None) -> Tensor:
    """uint8 pictures (N, 3, size, size) as `sample` paints them, with seeds from `seed` on."""
    import numpy as np
    import torch
    from tqdm import tqdm

    from rissole.data.images import square

    _check_seeds(seed, count)
    pipe = _load(bundle, None, device)
    pictures = []
    for number in tqdm(range(seed, seed + count), "painting", leave=False, disable=None):
        pictures += pipe(**_condition(pipe, {}, None, number), seed=number).images
    pixels = np.stack([np.asarray(square(picture, size)) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _fastest(device: str | None) -> str:
    """The device asked for, else the accelerator of this machine, else the CPU."""
    import torch

    try:
        if device is not None:
            return str(torch.empty(0, device=device).device)
    # torch raises RuntimeError, AssertionError or another for devices it does not know or have
    except Exception as error:
        raise RissoleError(f"device {device!r} is not available on this machine") from error
    found = torch.accelerator.current_accelerator(check_available=True)
    return str(found) if found else "cpu"


def _print_report(report: dict[str, Any], as_json: bool) -> None:
    """One JSON object, or one line per figure."""
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    rows = list(_flat(report))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        shown = f"{value:,}" if isinstance(value, int) else value
        shown = f"{value:.4g}" if isinstance(value, float) else shown
        typer.echo(f"{name:<{width}}  {shown}")


def _flat(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in report.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


# --- compare ------------------------------------------------------------------------------------


@app.command()
def compare(
    run: Annotated[Path, typer.Argument(help="Folder of a run, as `train` writes it.")],
    data: Annotated[Path, typer.Option(help="The photos it was trained on.")],
    table: Annotated[
        str, typer.Option(help="methods: against other methods. ablations: against itself.")
    ] = "methods",
    samples: Annotated[int, typer.Option(help="Pictures to paint and measure per row.")] = 1024,
    steps: Annotated[
        int, typer.Option(help="Denoising steps of the block denoiser.")
    ] = NUM_INFERENCE_STEPS,
    guidance_scale: Annotated[float, typer.Option(help="Its guidance.")] = GUIDANCE_SCALE,
    size: Annotated[int, typer.Option(help="Side in pixels to which photos are cut.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of queries, noise and measures.")] = 0,
    costs: Annotated[
        bool, typer.Option("--costs", help="Also time every row, and its memory, on this CPU.")
    ] = False,
    device: Device = None,
) -> None:
    """Paint with every method of a run and write a table and a picture of them.

    Rows that are there already are kept: an interrupted comparison goes on.
    """
    if table not in ("methods", "ablations"):
        raise RissoleError(f"--table must be methods or ablations, not {table!r}")
    if not 16 <= samples <= 100_000:
        raise RissoleError(f"--samples must be from 16 to 100000, not {samples}")
    if not 1 <= steps <= MAX_STEPS or not 0 <= guidance_scale <= MAX_GUIDANCE_SCALE:
        raise RissoleError(
            f"--steps must be from 1 to {MAX_STEPS}, --guidance-scale from 0 to "
            f"{MAX_GUIDANCE_SCALE:g}"
        )
    _check_size(size)
    if not run.is_dir():
        raise RissoleError(f"no folder of a run: {run}")
    from rissole.data.photos import load_photos
    from rissole.experiments import comparison

    cases = getattr(comparison, table)(steps, guidance_scale)
    rows = comparison.compare(
        run,
        load_photos(data, size),
        cases,
        samples=samples,
        device=_fastest(device),
        seed=seed,
        on_row=lambda name, row: typer.echo(f"{name}: FD {row['features']['fd']:.2f}"),
    )
    if costs:
        comparison.add_costs(
            run, lambda name, row: typer.echo(f"{name}: {row['cpu_seconds']:.2f} s an image")
        )
    path = comparison.write_report(run, cases, table)
    if missing := [case.name for case in cases if case.name not in rows]:
        typer.echo(f"left out, for lack of their models: {', '.join(missing)}", err=True)
    typer.echo(f"{path.read_text()}\nwritten to {path} and {path.with_suffix('.png')}")


# --- push ---------------------------------------------------------------------------------------


@app.command()
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="What to upload: a bundled name, the folder of a bundle or of a database. With "
            "--space also owner/name of a model on the Hub.",
        ),
    ],
    repo: Annotated[str, typer.Argument(help="Where to: owner/name on the Hugging Face Hub.")],
    space: Annotated[
        bool, typer.Option("--space", help="Upload the app as a Space that shows this bundle.")
    ] = False,
    database: Annotated[
        str | None, typer.Option(help="With --space: owner/name of a database on the Hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a private repository.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Verify and list the files, upload nothing.")
    ] = False,
) -> None:
    """Check a bundle or a database and upload it to the Hugging Face Hub; or the app as a Space."""
    from rissole.storage.hub import check_repo_id
    from rissole.storage.push import push as push_bundle
    from rissole.storage.resolve import resolve
    from rissole.storage.space import push_space

    check_repo_id(repo)
    if database is not None:
        check_repo_id(database)
    remote = space and "/" in source and not Path(source).exists()
    if remote:
        check_repo_id(source)
        typer.echo(f"the app, which loads {source} from the Hub")
    else:
        folder = resolve(source)
        _list_files(folder)
    if dry_run:
        typer.echo(f"nothing uploaded: without --dry-run this would go to {repo}")
    elif space:
        typer.echo(push_space(source if remote else folder, repo, private, database))
    else:
        typer.echo(push_bundle(folder, repo, private))


def _list_files(folder: Path) -> None:
    """Verify a bundle and print what of it would be sent."""
    from rissole.storage.manifest import verify
    from rissole.storage.push import sendable

    files = sendable(verify(folder))
    for path, entry in sorted(files.items()):
        typer.echo(f"{entry['size']:>12,}  {path}")
    total = sum(entry["size"] for entry in files.values())
    typer.echo(f"{total:>12,}  bytes in {len(files)} files, all as in the manifest")
