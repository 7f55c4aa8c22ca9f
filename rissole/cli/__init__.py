"""Command line: `python -m rissole COMMAND`, or `rissole COMMAND` where it is installed.

Commands only translate options; what they do lives in the modules they import when called, so
that `--help` answers at once. Wrong input ends with exit code 2 and one line on stderr.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rissole.cli import (
    app_command,
    benchmark_command,
    compare_command,
    evaluate_command,
    export_command,
    index_command,
    join_command,
    push_command,
    sample_command,
    sheet_command,
    showcase_command,
    train_command,
    trained_on_command,
)
from rissole.config import RissoleError
from rissole.registry import PLUGINS, load_plugin

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Small diffusion models that paint a picture block by block, each block guided by the "
        "matching blocks of similar pictures. Start with: python -m rissole sample"
    ),
)
app.command()(sample_command.sample)
app.command()(sheet_command.sheet)
app.command()(benchmark_command.benchmark)
app.command()(index_command.index)
app.command()(join_command.join)
app.command(cls=train_command.TrainCommand)(train_command.train)
app.command()(evaluate_command.evaluate)
app.command()(compare_command.compare)
app.command()(push_command.push)
app.command()(showcase_command.showcase)
app.command()(trained_on_command.trained_on)
app.command()(export_command.export)
app.command(context_settings=app_command.SETTINGS)(app_command.app)


@app.callback()
def before(
    plugin: Annotated[
        list[str],
        typer.Option(
            envvar=PLUGINS,
            help="Module that brings stages, denoisers or encoders of yours; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer reads it, nobody changes it
) -> None:
    """Imports what a user brings, before a command runs."""
    if plugin:
        sys.path.append(str(Path.cwd()))  # an installed `rissole` does not look there by itself
        for name in plugin:
            load_plugin(name)
        os.environ[PLUGINS] = " ".join(plugin)  # processes that we start know them, too


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: 0, 2 for wrong input, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    group = typer.main.get_command(app)
    with _interrupts() as noted:
        try:
            code = group.main(
                args=arguments or ["--help"], prog_name="python -m rissole", standalone_mode=False
            )
        except (typer.Abort, KeyboardInterrupt):
            code = 130
        except BrokenPipeError:  # the reader of our output has left (`| head`): end quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception as error:
            message = explain(error)
            if noted:  # a library made another error of it, as some do while they are imported
                code = 130
            elif message is None:
                raise
            else:
                typer.echo(f"error: {message}", err=True)
                return 2
    if code == 130:
        typer.echo("interrupted", err=True)
    return int(code or 0)


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """A list that grows with every Ctrl-C, which is otherwise dealt with as ever."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        noted.append(number)
        signal.default_int_handler(number, frame)

    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield noted
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def explain(error: Exception) -> str | None:
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
