"""`rissole train`: one stage of a run. What stages there are, they say themselves."""

from __future__ import annotations

import atexit
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
        show_default="needed for stages that read photos",
    ),
]
Out = Annotated[
    Path, typer.Option(help="Folder of the run; each stage writes, and reads, a part of it.")
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Wall time to spend on the stage. With --steps: to spend on it today.",
        show_default="10, or what is left of an interrupted training",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps to take, interrupted or not, in place of --minutes: then the learning rate "
        "follows steps, not the clock.",
        show_default="none",
    ),
]
SaveMinutes = Annotated[float, typer.Option(help="Save a checkpoint after so many minutes.")]
SaveSteps = Annotated[
    int | None,
    typer.Option(help="Save one after so many steps, if that is earlier.", show_default="none"),
]
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
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the stage's last checkpoint, if it has any.")
]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and noise.")]


class TrainCommand(TyperCommand):
    """Lists the stages in its help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Adds a paragraph of what there is to train, in the order of a run, and with what."""
        from rissole.training.stage import STAGES

        listed = " ".join(f"{stage.name}: {stage.help}" for stage in STAGES)
        without = ", ".join(stage.name for stage in STAGES if not stage.reads_photos)
        self.help = f"{self.help}\n\n{listed} Without --data: {without}."
        super().format_help(ctx, formatter)


def train(
    stage: Name,
    data: Data = None,
    out: Out = Path("runs/cats-128"),
    minutes: Minutes = None,
    steps: Steps = None,
    save_minutes: SaveMinutes = 5.0,
    save_steps: SaveSteps = None,
    size: options.Size = 128,
    space: Space = None,
    preset: Preset = None,
    config: Config = None,
    schedule: Schedule = None,
    resume: Resume = False,
    seed: Seed = 0,
    device: options.Device = None,
) -> None:
    """Train one stage. Ctrl-C ends it after the step and keeps what was learned."""
    from rissole.training.settings import read_settings
    from rissole.training.stage import STAGES

    chosen = STAGES[stage]()
    check_budget(minutes, steps, save_minutes, save_steps)
    options.check_size(size)
    options.check_seeds(seed)
    given = {"space": space, "preset": preset, "schedule": schedule and numbers(schedule)}
    for name, value in given.items():
        if value is not None and not hasattr(chosen.settings, name):
            raise RissoleError(f"--{name} is no option of the stage {stage}")
    settings: Any = read_settings(config, chosen.settings, given)
    from rissole.experiments import published, whole_image  # noqa: F401 - methods to compare with
    from rissole.training.budget import Budget, Interval
    from rissole.training.stage import Job

    read = functools.cache(lambda: photos(stage, data, size))
    saved = Interval(save_minutes, save_steps)
    if minutes is None and steps is None:
        budget = Budget(10.0, saved=saved, asked=False)
    else:
        budget = Budget(minutes or math.inf, steps, saved)
    job = Job(out, budget, place(device), seed, size, resume, read)
    chosen.prepare(job, settings)
    if processes() > 1 and not chosen.shared:
        raise RissoleError(f"the stage {stage} is not shared by several processes")
    if chosen.reads_photos:
        read()
    report(chosen.run(job, settings), chosen.target(out, settings))


def check_budget(
    minutes: float | None, steps: int | None, save_minutes: float, save_steps: int | None
) -> None:
    """Refuses times and numbers of steps that are no budget."""
    if (minutes is not None and not 0 < minutes < math.inf) or (steps is not None and steps < 1):
        raise RissoleError("--minutes and --steps must be above 0")
    if not save_minutes > 0 or (save_steps is not None and save_steps < 1):
        raise RissoleError("--save-minutes and --save-steps must be above 0")


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

    together = PartialState()
    atexit.register(together.destroy_process_group)  # NCCL complains of who leaves without a word
    return str(together.device)


def report(figures: dict[str, Any], target: Path) -> None:
    """What a stage found and wrote; one of several processes tells it."""
    if os.environ.get("RANK", "0") != "0":
        return
    for name, value in options.flat(figures):
        typer.echo(f"{name}  {value:.5g}" if isinstance(value, float) else f"{name}  {value}")
    typer.echo(f"written to {target}")
    if (target / "database").is_dir():  # a bundle: what makes it is not for a machine that trains
        typer.echo(f"its page opens with a painting after: rissole showcase {target}")
