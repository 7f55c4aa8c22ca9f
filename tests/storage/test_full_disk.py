"""A disk without room: one line, what was there before stays, and nothing half-written is left."""

import os
import re
import subprocess
import sys

import pytest
from loopback_hub import ROOT
from small_bundle import make_bundle

from rissole.storage.manifest import verify

pytestmark = pytest.mark.skipif(os.name == "nt", reason="limits files as Unix does")
LIMIT = """
import resource, signal, sys
from pathlib import Path
import numpy as np, torch
from starlette.applications import Starlette
from starlette.testclient import TestClient
from rissole.app.belongings import Presence
from rissole.app.disk import Disk
from rissole.app.intake import upload_route
from rissole.config import RissoleError
from rissole.data.images import save_png
from rissole.retrieval.index import build
from rissole.storage.files import save_tensors, write_atomic
from rissole.storage.staging import copy_files, staged
from PIL import Image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
target = Path(sys.argv[1])
def stage():
    with staged(target / "tiny") as new:
        (new / "sub").mkdir()
        copy_files(target / "tiny", new)
def upload():
    route = upload_route(Disk(Presence(), ""), 10**6, {"room": "no room"})
    sent = TestClient(Starlette(routes=[route])).post(route.path, files={"files": bytes(5000)})
    assert sent.status_code == 507
    raise RissoleError(sent.text)
vectors = np.eye(64, dtype=np.float32)
noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
CASES = {
    "bytes": lambda: write_atomic(target / "a.json", bytes(5000)),
    "tensors": lambda: save_tensors({"a": torch.zeros(5000)}, target / "a.safetensors"),
    "picture": lambda: save_png(Image.fromarray(noise), target / "a.png"),
    "index": lambda: build(target / "a.faiss", lambda: iter([vectors]), 64, 64),
    "folder": stage,
    "a file to fetch": lambda: Disk(Presence(), "no room").write(bytes(5000), "a", None),
    "upload": upload,
}
before = sorted(target.rglob("*"))
for name, case in CASES.items():
    try:
        case()
    except RissoleError as error:
        print(f"{name}: {error}")
    assert sorted(target.rglob("*")) == before, name
"""
TOLD = {"a file to fetch": "no room", "upload": "no room", "index": "could not be written whole"}


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    """Whatever is written, by whatever way: all of it in one process that has no room."""
    cache, files, target = (tmp_path / name for name in ("cache", "files", "target"))
    for folder in (cache, files, target):
        folder.mkdir()
    make_bundle(target / "tiny")
    here = {**os.environ, "GRADIO_TEMP_DIR": str(files), "RISSOLE_CACHE": str(cache)}
    command = [sys.executable, "-c", LIMIT, str(target)]
    done = subprocess.run(command, cwd=ROOT, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == re.findall(r'^    "(.+?)":', LIMIT, re.MULTILINE)
    for name, line in lines.items():
        assert TOLD.get(name, "cannot write") in line
    assert verify(target / "tiny")["name"] == "tiny"
    assert list(files.iterdir()) == []
