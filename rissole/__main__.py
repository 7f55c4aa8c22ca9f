"""`python -m rissole`, and the command `rissole`."""

import sys


def main() -> int:
    """Runs the command line; Ctrl-C ends it quietly from the first import on."""
    try:
        from rissole.cli import main as command

        return command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
