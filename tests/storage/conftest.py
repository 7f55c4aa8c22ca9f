"""A Hub on loopback and its real client, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import Client, LoopbackHub, running


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """The Hub; repositories are added to it."""
    with running(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the client keeps what it fetched."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def client(hub: LoopbackHub, cache: Path) -> Iterator[Client]:
    """A process that resolves names."""
    with Client(cache, hub.url) as process:
        yield process
