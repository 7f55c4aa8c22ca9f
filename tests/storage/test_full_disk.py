"""A disk without room: one line, what was there before stays, and nothing half-written is left."""

import os
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
vectors = np.eye(64, dtype=np.float32)
noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
{
    "bytes": lambda: write_atomic(target / "a.json", bytes(5000)),
    "tensors": lambda: save_tensors({"a": torch.zeros(5000)}, target / "a.safetensors"),
    "picture": lambda: save_png(Image.fromarray(noise), target / "a.png"),
    "index": lambda: build(target / "a.faiss", lambda: iter([vectors]), 64, 64),
    "folder": stage,
}
"""


@pytest.mark.parametrize("what", ["bytes", "tensors", "picture", "index", "folder"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, what):
    make_bundle(tmp_path / "tiny")
    before = sorted(tmp_path.rglob("*"))
    head, _, cases = LIMIT.rpartition("{\n")
    code = f"{head}try: ({{{cases.rstrip()})['{what}']()\n"
    code += "except RissoleError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    (line,) = done.stdout.splitlines()
    assert "cannot write" in line or "could not be written whole" in line
    assert sorted(tmp_path.rglob("*")) == before
    assert verify(tmp_path / "tiny")["name"] == "tiny"
