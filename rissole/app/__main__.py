"""Starts the browser app: `rissole app`, `python -m rissole.app`, or `python app.py`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence

from rissole.app.address import believing, listening, no_proxies
from rissole.app.face import Face
from rissole.app.limits import Limits
from rissole.app.zerogpu import prepare
from rissole.config import RissoleError


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line; what it leaves out comes from the environment, as Spaces have it."""
    parser = argparse.ArgumentParser(description="Paint pictures block by block in the browser.")
    add, known = parser.add_argument, os.environ.get
    add(
        "--bundle",
        default=known("RISSOLE_BUNDLE") or "cats-128",
        help="what opens first: bundled name, folder or owner/name on the Hub [$RISSOLE_BUNDLE, "
        "else cats-128]",
    )
    add(
        "--worlds",
        default=known("RISSOLE_WORLDS"),
        help="further bundles in the menu, by commas; '' for none [$RISSOLE_WORLDS, else all "
        "bundled ones beside a bundled one]",
    )
    add(
        "--database",
        default=known("RISSOLE_DATABASE") or None,
        help="folder of a retrieval database, or owner/name of a data set on the Hub "
        "[$RISSOLE_DATABASE, else the bundle's own]",
    )
    add(
        "--databases",
        default=known("RISSOLE_DATABASES") or None,
        help="folder of further databases to choose from [$RISSOLE_DATABASES, else none]",
    )
    add(
        "--clip",
        default=known("RISSOLE_CLIP", "ViT-B-32:laion2b_s34b_b79k"),
        help="CLIP model that reads words, fetched when somebody first writes some; none for none "
        "[$RISSOLE_CLIP, else ViT-B-32:laion2b_s34b_b79k, 605 MB, MIT]",
    )
    add(
        "--revision",
        default=known("RISSOLE_REVISION") or None,
        help="branch, tag or commit of a bundle on the Hub [$RISSOLE_REVISION, else main]",
    )
    _listen(add)
    Face.add_options(parser)
    Limits.add_options(parser)
    return parser.parse_args(arguments)


def _listen(add: Callable[..., object]) -> None:
    """Adds the options that say where the server is, and what lies before it."""
    known = os.environ.get
    add(
        "--names",
        default=known("RISSOLE_NAMES") or "",
        help="names by which visitors may call this server beside its own, as a proxy before it "
        "has them, separated by commas; * for any [$RISSOLE_NAMES, else none]",
    )
    add(
        "--proxies",
        default=known("RISSOLE_PROXIES"),
        help="addresses or networks of proxies before this server, separated by commas, whose "
        "X-Forwarded-For header tells visitors apart; only proxies that set it themselves "
        "[$RISSOLE_PROXIES, else $FORWARDED_ALLOW_IPS, else none]",
    )
    add("--host", help="address to listen on; 0.0.0.0 lets others in [this computer only]")
    add("--port", type=int, help="port to listen on [the first free one from 7860]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Loads the bundle and serves the page until interrupted; returns the exit code."""
    options = parse(arguments)
    # what is asked to end, not killed, tidies up behind itself
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        limits, face = Limits.given(options), Face.given(options)
        listening(options.host, options.port)  # no use to load anything for a wrong address
        print(f"Loading {options.bundle} ...", flush=True)
        prepare()
        # after the arguments: --help and a typing error should not wait for torch
        from rissole.app.clip_reader import NONE, Reader
        from rissole.app.worlds import offered

        with no_proxies():  # the page's library makes its client, for whatever proxy, right away
            from rissole.app.server import serve

        first, others = offered(options)
        if first.pipe.commit:
            print(f"{options.bundle} at commit {first.pipe.commit}", flush=True)
        more = [options.databases] if options.databases else []
        names = options.names.split(",")
        reader = None if options.clip in ("", NONE) else Reader(options.clip)
        where = options.host, options.port
        with believing(options.proxies):
            serve(first, *where, more, names, limits, others, reader, face, quiet=False)
    except RissoleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
