"""Killed at any moment, whoever opens a folder next finds the old one or the new one, whole.

`pytest tests/storage/test_kills.py -m slow` kills 300 times; a few kills run each time.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest
from conftest import picture
from loopback_hub import ROOT, environment

from rissole.data.sources import open_source
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.storage.manifest import fingerprint, verify, write_manifest
from rissole.storage.resolve import resolve
from rissole.storage.staging import copy_files, staged

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills as Unix does")
TIMES = [pytest.param(2, id="few"), pytest.param(100, id="many", marks=pytest.mark.slow)]
Ready = Callable[[], object]
PRELOADED = ["pytest", "rissole.loading", "rissole.data.sources", "rissole.retrieval.building"]


# each says when it begins, so that the kill meets the work and not the imports; some never end


def publishing(ready: Ready, target: str, source: str) -> None:
    ready()
    n = 0
    while True:
        n += 1
        with staged(target) as stage:
            copy_files(Path(source), stage)
            (stage / "number.txt").write_text(str(n % 2))
            write_manifest(stage, "tiny")


def indexing(ready: Ready, target: str, bundle: str, photos: str) -> None:
    parts = RissolePipeline.from_pretrained(bundle).indexing_parts()
    source, n = open_source(photos), 0
    ready()
    while True:
        n += 1
        build_index(parts, source, target, label=str(n % 2))


def killed(rng: Random, longest: float, work: Callable, *given: str) -> None:
    """Begins something and kills it some time after it is ready.

    It is forked from a process that has imported what takes long.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_at_work, args=(there, work, given))
    process.start()
    there.close()
    assert here.recv() == "ready"
    time.sleep(rng.uniform(0, longest))  # any moment is as good as another
    process.kill()
    process.join()


def _at_work(said: Connection, work: Callable, given: tuple[str, ...]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    work(lambda: said.send("ready"), *given)


# a process that has imported what reads the environment, and forks one for each download
FETCH = """
import os, signal, sys, time
from huggingface_hub import HfApi, hf_hub_download
from rissole.storage.resolve import resolve
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.write(1, f"{resolve('someone/tiny')}\\n".encode())  # whole or not at all
        os._exit(0)
    if line.strip():
        time.sleep(float(line))
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("over", flush=True)
"""


@pytest.fixture
def fetched(hub, folder, tmp_path):
    """Downloads into a cache; after how many seconds it is killed, if at all; what it said."""
    hub.repos["model", "someone/tiny"] = folder
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH],
        cwd=ROOT,
        env=environment(tmp_path / "cache", hub.url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def fetched(seconds: float | None = None) -> list[str]:
        process.stdin.write("\n" if seconds is None else f"{seconds}\n")
        process.stdin.flush()
        return list(iter(lambda: process.stdout.readline().strip() or "over", "over"))

    yield fetched
    process.communicate()


def left_over(folder: Path) -> list[str]:
    """What a kill may leave beside a folder: stages that the next build clears, and no more."""
    return [p.name for p in folder.parent.iterdir() if not p.name.startswith((folder.name, "."))]


@pytest.mark.parametrize("times", TIMES)
def test_publishing(folder, tmp_path, times):
    source, target, rng = shutil.copytree(folder, tmp_path / "source"), tmp_path / "out", Random(0)
    shutil.copytree(folder, target)
    seen = set()
    for _ in range(times):
        killed(rng, 0.2, publishing, str(target), str(source))
        seen.add(fingerprint(verify(resolve(target))))
    assert 1 <= len(seen) <= 3  # the first one, and two that take turns
    assert sorted(left_over(target)) == ["source", "tiny"]


@pytest.mark.parametrize("times", TIMES)
def test_building(pipe, databases, photos_folder, tmp_path, times):
    target, rng = tmp_path / "out", Random(1)
    shutil.copytree(databases / "moods", target)
    for _ in range(times):
        killed(rng, 0.5, indexing, str(target), str(pipe.folder), str(photos_folder))
        opened = pipe.with_database(resolve(target, kind="dataset"))
        assert len(opened.database.latents(range(len(opened.database)))) in (10, 6)


@pytest.mark.parametrize("times", TIMES)
def test_downloading(fetched, folder, tmp_path, times):
    rng, wanted, cut = Random(2), fingerprint(verify(folder)), 0
    for _ in range(times):
        if rng.random() < 0.5:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        cut += not fetched(rng.uniform(0, 0.6))
        (path,) = fetched()
        assert fingerprint(verify(Path(path))) == wanted
    print(f"\n{cut} of {times} downloads were cut short")


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for n in range(6):
        picture(n).save(folder / f"{n}.png")
    return folder
