"""`rissole sample`: paint pictures."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rissole.cli import options
from rissole.config import RissoleError, quoted

if TYPE_CHECKING:
    from rissole.outputs import BlockStep, GenerationOutput
    from rissole.retrieval.database import Hits

Out = Annotated[
    Path,
    typer.Option(help="PNG to write; several become cat-0.png, cat-1.png, ... or cat-%03d.png"),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Same seed, same picture. Image i uses seed + i.", show_default="random"),
]
Query = Annotated[
    Path | None, typer.Option(help="Picture whose nearest neighbors guide the painting.")
]
Item = Annotated[
    int | None, typer.Option(help="Use the neighbors of this picture of the database.")
]
Text = Annotated[str | None, typer.Option(help="Name of a class, or with --clip any words.")]
Named = Annotated[str | None, typer.Option(help="Name the neighbors yourself, such as 3,17,5.")]
Blocks = Annotated[
    list[str] | None,
    typer.Option(
        "--block",
        help="A block with neighbors of its own, as row,column=neighbors from 0 at the top left, "
        "such as 0,1=9,17. May be given several times.",
        show_default="none",
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(help="0 to 4: how much those blocks follow theirs.", show_default="1, as usual"),
]
Only = Annotated[str | None, typer.Option(help="Only neighbors of this class.", show_default="all")]
NumImages = Annotated[int, typer.Option(help="How many pictures to paint.")]
RUNS = ("npz", "json", "csv")


def known_kinds(kinds: list[str] | None) -> list[str] | None:
    """Refuses kinds of files that a run is not written to, before anything is painted."""
    for kind in kinds or []:
        if kind not in RUNS:
            raise RissoleError(f"--save-run must be {', '.join(RUNS)}, not {quoted(kind)}")
    return kinds


Kinds = Annotated[
    list[str] | None,
    typer.Option(
        help="Also write, beside each picture, how it came about: npz or json have latents and "
        "attention of every step, csv the shares of the neighbors. May be given several times.",
        show_default="nothing",
        callback=known_kinds,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(help="Branch, tag or commit of a bundle on the Hub.", show_default="main"),
]


def sample(
    bundle: options.Bundle = "cats-128",
    out: Out = Path("cat.png"),
    seed: Seed = None,
    query: Query = None,
    item: Item = None,
    text: Text = None,
    neighbors: Named = None,
    block: Blocks = None,
    strength: Strength = None,
    only: Only = None,
    k: options.Neighbors = None,
    order: options.Order = None,
    grid: options.Grid = None,
    steps: options.Steps = None,
    guidance_scale: options.Guidance = None,
    num_images: NumImages = 1,
    database: options.Database = None,
    encoder: options.Encoder = None,
    clip: options.Clip = None,
    revision: Revision = None,
    device: options.Device = None,
    save_run: Kinds = None,
) -> None:
    """Paint pictures and save them as PNG, each with the recipe that paints it again.

    Without a query or --neighbors every picture starts from a random item of the database.
    """
    chosen = one_query(query, text, item, neighbors, only)
    paths = output_paths(out, num_images)
    seed = secrets.randbelow(2**32) if seed is None else seed
    options.check_seeds(seed, num_images)
    settings: dict[str, Any] = {"order": order, "grid": grid, "num_inference_steps": steps}
    settings |= {"guidance_scale": guidance_scale, "strength": strength} | own_neighbors(block)
    from rissole.data.images import save_png

    pipe = options.load(bundle, database, device, encoder=encoder, clip=clip, revision=revision)
    k = pipe.defaults["k"] if k is None else k
    for own, path in enumerate(paths, seed):
        start = time.perf_counter()
        named = "neighbors" in chosen
        given = chosen if named else {"hits": pipe.retrieve(**chosen, k=k, seed=own)}
        stream = pipe.stream(**given, **settings, seed=own)
        watched = follow(stream, f"{path.name} ({own - seed + 1} of {num_images})")
        output = kept(watched, given.get("hits"), path, save_run or [])
        save_png(output.images[0], path, output.recipe)
        ids = ", ".join(map(str, output.recipe["neighbors"]))
        ids += "" if named or len(given["hits"].ids) == k else f" (no more than these, of {k})"
        typer.echo(f"{path}  seed {own}  neighbors {ids}  {time.perf_counter() - start:.1f} s")


def one_query(
    query: Path | None, text: str | None, item: int | None, neighbors: str | None, only: str | None
) -> dict[str, Any]:
    """The one way of choosing neighbors that was given, read and checked; empty for none."""
    given = {"image": query, "text": text, "item": item, "neighbors": neighbors}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise RissoleError("give only one of --query, --text, --item and --neighbors")
    if only is not None and neighbors is not None:
        raise RissoleError("give only one of --neighbors and --only")
    if query is not None:
        from rissole.data.images import OWN_FILES, load_image

        chosen["image"] = load_image(query, 512, OWN_FILES)  # larger than bundles paint
    if neighbors is not None:
        chosen["neighbors"] = ids_of("--neighbors", neighbors)
    if only is not None:
        chosen["label"] = only
    return chosen


def ids_of(name: str, text: str) -> list[int]:
    """Numbers of pictures in a list such as 3,17,5."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d{1,18}", part) for part in parts):
        raise RissoleError(f"{name} must be numbers such as 3,17,5, not {text[:60]!r}")
    return [int(part) for part in parts]


def own_neighbors(blocks: list[str] | None) -> dict[str, Any]:
    """The setting of blocks with neighbors of their own; where they lie is checked later."""
    pairs = [text.partition("=") for text in blocks or []]
    if odd := next((place for place, equals, _ in pairs if not equals), None):
        raise RissoleError(f"--block must be such as 0,1=9,17, not {quoted(odd)}")
    return {"block_neighbors": {place: ids_of("--block", ids) for place, _, ids in pairs}}


def output_paths(out: Path, count: int) -> list[Path]:
    """Where each picture goes, with the folder made; checked before any painting starts."""
    options.check_range("--num-images", count, 1, 10_000)
    options.png_path(out)
    if found := re.search(r"%0?\d?d(?![A-Za-z])", out.name):
        names = [out.name.replace(found[0], found[0] % number) for number in range(count)]
    elif count > 1:
        names = [f"{out.stem}-{i}{out.suffix}" for i in range(count)]
    else:
        names = [out.name]
    paths = [out.with_name(name) for name in names]
    options.check_name(paths[-1])  # of the highest number
    return paths


def kept(
    steps: Iterable[BlockStep], hits: Hits | None, path: Path, kinds: Iterable[str]
) -> GenerationOutput:
    """What a painting makes, its steps in files beside the picture where they are asked for."""
    from rissole.outputs import last_output
    from rissole.runs import record

    if not kinds:
        return last_output(steps)
    run = record(steps, dict(zip(hits.ids, hits.scores, strict=True)) if hits else None)
    for kind in kinds:
        run.save(path.with_suffix(f".{kind}"))
    return run.output


def follow(stream: Generator[BlockStep, None, None], title: str) -> Iterator[BlockStep]:
    """The steps of a painting, under a progress bar that counts them."""
    from tqdm import tqdm

    # disable=None: no bar where stderr is no terminal, so that logs and errors stay one line
    with closing(stream), tqdm(desc=title, unit="step", leave=False, disable=None) as bar:
        for step in stream:
            bar.total = step.num_blocks * step.total_steps
            if step.num_blocks > 1:
                bar.set_postfix_str(f"block {step.index} of {step.num_blocks}", refresh=False)
            bar.update()
            yield step
