"""Killed at any moment, whoever opens a folder next finds the old one or the new one, whole.

`pytest tests/storage/test_kills.py -m slow` kills 300 times; one of each kind runs each time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from conftest import picture
from loopback_hub import ROOT, environment

from rissole.storage.manifest import fingerprint, verify
from rissole.storage.resolve import resolve

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
TIMES = [pytest.param(1, id="one"), pytest.param(100, id="many", marks=pytest.mark.slow)]

# each says when it begins, so that the kill meets the work and not the imports; some never end
PUBLISH = """
import sys
from pathlib import Path
from rissole.storage.manifest import write_manifest
from rissole.storage.staging import copy_files, staged
print("ready", flush=True)
n = 0
while True:
    n += 1
    with staged(sys.argv[1]) as stage:
        copy_files(Path(sys.argv[2]), stage)
        (stage / "number.txt").write_text(str(n % 2))
        write_manifest(stage, "tiny")
"""
INDEX = """
import sys
from rissole import RissolePipeline
from rissole.data.sources import open_source
from rissole.retrieval.building import build_index
pipe = RissolePipeline.from_pretrained(sys.argv[2])
source, n = open_source(sys.argv[3]), 0
print("ready", flush=True)
while True:
    n += 1
    build_index(pipe.indexing_parts(), source, sys.argv[1], label=str(n % 2))
"""
FETCH = """
import sys
from rissole.storage.resolve import resolve
print("ready", flush=True)
resolve("someone/tiny")
"""


def killed(code: str, arguments: list[str], rng: Random, longest: float, **options) -> None:
    """Starts Python and kills it some time after it is ready."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        **options,
    )
    assert child.stdout.readline() == b"ready\n"
    time.sleep(rng.uniform(0, longest))  # any moment is as good as another
    child.kill()
    child.communicate()


def left_over(folder: Path) -> list[str]:
    """What a kill may leave beside a folder: stages that the next build clears, and no more."""
    return [p.name for p in folder.parent.iterdir() if not p.name.startswith((folder.name, "."))]


@pytest.mark.parametrize("times", TIMES)
def test_publishing(folder, tmp_path, times):
    source, target, rng = shutil.copytree(folder, tmp_path / "source"), tmp_path / "out", Random(0)
    shutil.copytree(folder, target)
    seen = set()
    for _ in range(times):
        killed(PUBLISH, [str(target), str(source)], rng, 0.2)
        seen.add(fingerprint(verify(resolve(target))))
    assert 1 <= len(seen) <= 3  # the first one, and two that take turns
    assert sorted(left_over(target)) == ["source", "tiny"]


@pytest.mark.parametrize("times", TIMES)
def test_building(pipe, databases, photos_folder, tmp_path, times):
    target, rng = tmp_path / "out", Random(1)
    shutil.copytree(databases / "moods", target)
    for _ in range(times):
        killed(INDEX, [str(target), str(pipe.folder), str(photos_folder)], rng, 0.5)
        opened = pipe.with_database(resolve(target, kind="dataset"))
        assert len(opened.database.latents(range(len(opened.database)))) in (10, 6)


@pytest.mark.parametrize("times", TIMES)
def test_downloading(hub, folder, tmp_path, times):
    hub.repos["model", "someone/tiny"] = folder
    rng, wanted = Random(2), fingerprint(verify(folder))
    for n in range(times):
        cache = tmp_path / f"cache-{n % 10}"
        if n < 10 or rng.random() < 0.3:
            shutil.rmtree(cache, ignore_errors=True)
        around = environment(cache, hub.url)
        killed(FETCH, [], rng, 0.6, env=around)
        code = "from rissole.storage.resolve import resolve; print(resolve('someone/tiny'))"
        again = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=around, capture_output=True, text=True
        )
        assert again.returncode == 0, again.stderr
        assert fingerprint(verify(Path(again.stdout.strip()))) == wanted


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for n in range(6):
        picture(n).save(folder / f"{n}.png")
    return folder
