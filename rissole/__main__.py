"""`python -m rissole`."""

import sys

from rissole.cli import main

if __name__ == "__main__":
    sys.exit(main())
