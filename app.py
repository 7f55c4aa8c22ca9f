"""Starts the browser app: `python app.py`, then open the address that it prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rissole.config import RissoleError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description="Paint pictures block by block in the browser.")
    add = parser.add_argument
    add("--bundle", default="cats-128", help="bundled name, folder or Hub id [cats-128]")
    add("--database", help="folder of a retrieval database [the bundle's own]")
    add("--host", help="address to listen on; 0.0.0.0 lets others in [this computer only]")
    add("--port", type=int, help="port to listen on [the first free one from 7860]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Loads the bundle and serves the page until interrupted; returns the exit code."""
    options = parse(arguments)
    print(f"Loading {options.bundle} ...", flush=True)
    try:
        # after the arguments: --help and a typing error should not wait for torch
        from rissole import RissolePipeline
        from rissole.ui import serve

        pipe = RissolePipeline.from_pretrained(options.bundle, database=options.database)
        serve(pipe, options.host, options.port, quiet=False)
    except RissoleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
