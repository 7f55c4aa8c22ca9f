"""`rissole train`: one stage of a run. What stages there are, they say themselves."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rissole.cli import options
from rissole.config import RissoleError

Name = Annotated[str, typer.Option(help="What to train, one of those listed above.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Photos: a folder of pictures, a parquet file, or a folder of such.",
        show_default="needed for all but the denoiser",
    ),
]
Out = Annotated[
    Path, typer.Option(help="Folder of the run; each stage writes, and reads, a part of it.")
]
Minutes = Annotated[float, typer.Option(help="Wall time to spend on the stage.")]
Steps = Annotated[int | None, typer.Option(help="Stop after so many steps, if that is earlier.")]
Space = Annotated[
    str | None,
    typer.Option(
        help="latent: the stage autoencoder trains one. pixel: it only measures the scale of the "
        "photos, which are then painted as they are; for small ones.",
        show_default="latent",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="What the stage denoiser trains: rissole, or what it is compared with, such as "
        "published, whole-image or no-halo; another word lists all there are.",
        show_default="rissole",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help='JSON file with settings of the stage, such as {"batch_size": 64}.'),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        help="Part of the learning-rate schedule, for a denoiser trained in sessions.",
        show_default="0,1",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from what the stage wrote before.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and noise.")]


class TrainCommand(TyperCommand):
    """Lists the stages in its help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Adds a paragraph of what there is to train, in the order of a run."""
        from rissole.training.stage import STAGES

        listed = " ".join(f"{stage.name}: {stage.help}" for stage in STAGES)
        self.help = f"{self.help}\n\n{listed}"
        super().format_help(ctx, formatter)


def train(
    stage: Name,
    data: Data = None,
    out: Out = Path("runs/cats-128"),
    minutes: Minutes = 10.0,
    steps: Steps = None,
    size: options.Size = 128,
    space: Space = None,
    preset: Preset = None,
    config: Config = None,
    schedule: Schedule = None,
    resume: Resume = False,
    seed: Seed = 0,
    device: options.Device = None,
) -> None:
    """Train one stage; Ctrl-C keeps what was learned so far."""
    from rissole.training.settings import read_settings
    from rissole.training.stage import STAGES

    chosen = STAGES[stage]()
    if not 0 < minutes < math.inf or (steps is not None and steps < 1):
        raise RissoleError("--minutes and --steps must be above 0")
    options.check_size(size)
    given = {"space": space, "preset": preset, "schedule": schedule and numbers(schedule)}
    for name, value in given.items():
        if value is not None and not hasattr(chosen.settings, name):
            raise RissoleError(f"--{name} is no option of the stage {stage}")
    settings: Any = read_settings(config, chosen.settings, given)
    from rissole.experiments import published, whole_image  # noqa: F401 - methods to compare with
    from rissole.training.stage import Job
    from rissole.training.trainer import Budget

    read = functools.cache(lambda: photos(stage, data, size))
    job = Job(out, Budget(minutes, steps), place(device), seed, size, resume, read)
    chosen.prepare(job, settings)
    if processes() > 1 and not chosen.shared:
        raise RissoleError(f"the stage {stage} is not shared by several processes")
    if chosen.reads_photos:
        read()
    out.mkdir(parents=True, exist_ok=True)
    report(chosen.run(job, settings), chosen.target(out, settings))


def numbers(schedule: str) -> list[float]:
    """Numbers of a list such as 0,0.5."""
    try:
        return [float(part) for part in schedule.split(",")]
    except ValueError as error:
        message = f"--schedule must be two numbers such as 0,0.5, not {schedule!r}"
        raise RissoleError(message) from error


def photos(stage: str, data: Path | None, size: int) -> Any:
    """The photos of a folder or of parquet files, and their classes."""
    if data is None:
        raise RissoleError(f"--data is needed for the stage {stage}")
    from rissole.data.photos import load_labelled

    return load_labelled(data, size)


def processes() -> int:
    """How many `accelerate launch` or torchrun has started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def place(device: str | None) -> str:
    """The device; that of this process where several train together."""
    if processes() == 1:
        return options.fastest(device)
    from accelerate import PartialState

    return str(PartialState().device)


def report(figures: dict[str, Any], target: Path) -> None:
    """What a stage found and wrote; one of several processes tells it."""
    if os.environ.get("RANK", "0") != "0":
        return
    for name, value in options.flat(figures):
        typer.echo(f"{name}  {value:.5g}" if isinstance(value, float) else f"{name}  {value}")
    typer.echo(f"written to {target}")
