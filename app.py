"""Starts the browser app: `python app.py`, then open the address that it prints."""

import sys

from rissole.app.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
