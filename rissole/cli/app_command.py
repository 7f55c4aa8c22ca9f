"""`rissole app`: the page in a browser."""

from __future__ import annotations

import typer

# the app's own options, as `app.py` has them, are passed on as they are
SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def app(context: typer.Context) -> None:
    """Open the page on which one paints; takes the options of app.py."""
    from rissole.app.__main__ import main

    raise typer.Exit(main(context.args))
