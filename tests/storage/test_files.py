"""Who may open what is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import picture
from loopback_hub import ROOT

from rissole.data.sources import open_source
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.retrieval.encoders import LearnedConfig, LearnedEncoder
from rissole.training.checkpoint import Checkpoints, State


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def closed(folder: Path) -> list[str]:
    """Files and folders that not everybody may open whom the umask of these tests lets."""
    modes = {True: 0o750, False: 0o640}
    return [str(p) for p in folder.rglob("*") if p.stat().st_mode & 0o777 != modes[p.is_dir()]]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_what_is_written_follows_the_umask(pipe, tiny_bundle, tmp_path, monkeypatch, umask):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "out" / "cache"))
    for i in range(3):
        (tmp_path / "in" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture(i).save(tmp_path / "in" / "ab"[i % 2] / f"{i}.png")
    out = tmp_path / "out"
    learned = LearnedEncoder(LearnedConfig(channels=(16, 16), blocks=1, dim=8)).eval()
    parts = (pipe.codec, pipe.denoiser, pipe.scheduler, pipe.embedding)
    made = RissolePipeline(*parts, pipe.database, pipe.config, encoders=[learned])
    made.save_pretrained(out / "bundle")  # part by part
    RissolePipeline.from_pretrained(tiny_bundle).save_pretrained(out / "copy")  # file by file
    made.folder = out / "bundle"
    build_index(made.indexing_parts(), open_source(tmp_path / "in"), out / "database")
    made.retrieve(item=3, encoder="learned")  # vectors that are kept in the cache
    learned.save(out / "encoder")
    Checkpoints(out / "run").write(State(1, parts={"model": learned.state_dict()}))
    command = ["sample", "--bundle", tiny_bundle, "--steps", "1", "--out", out / "picture.png"]
    arguments = [sys.executable, "-m", "rissole", *map(str, command)]
    subprocess.run(arguments, cwd=ROOT, check=True, capture_output=True)
    assert len(list(out.rglob("*.safetensors"))) > 12
    assert list((out / "cache").rglob("index.faiss"))
    assert (out / "database" / "labels.safetensors").is_file()
    assert (out / "database" / "encoders" / "learned").is_dir()
    assert closed(out) == []
