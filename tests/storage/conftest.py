from pathlib import Path

import pytest
from small_bundle import make_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small folder with a manifest, called tiny."""
    return make_bundle(tmp_path / "tiny")
