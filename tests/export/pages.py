"""Exported pages for tests: each is made once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from rissole.config import RissoleError
from rissole.export.static_page import export_page


@cache
def exported(bundle: Path, out: Path | None = None) -> Path:
    """The page of a bundle, beside it unless said otherwise.

    The runtime comes from the npm registry once; without network the test is skipped.
    """
    out = out or bundle.with_name(f"{bundle.name}-page")
    try:
        export_page(bundle, out)
    except RissoleError as error:
        if "could not be fetched" not in str(error):
            raise
        pytest.skip(str(error))
    return out
