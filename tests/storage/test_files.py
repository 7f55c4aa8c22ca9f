"""Who may open what is written."""

import os
from pathlib import Path

import pytest
from conftest import picture

from rissole.cli import main
from rissole.config import RissoleError
from rissole.data.sources import open_source
from rissole.pipeline import RissolePipeline
from rissole.retrieval import building
from rissole.retrieval.building import build_index
from rissole.retrieval.encoders import LearnedConfig, LearnedEncoder
from rissole.storage import manifest
from rissole.storage.files import cache_folder
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
    assert main([str(word) for word in command]) == 0
    assert len(list(out.rglob("*.safetensors"))) > 12
    assert list((out / "cache").rglob("index.faiss"))
    assert (out / "database" / "labels.safetensors").is_file()
    assert (out / "database" / "encoders" / "learned").is_dir()
    assert closed(out) == []


def test_a_user_without_a_home_has_a_cache_that_passes(monkeypatch):
    for name in ("HOME", "XDG_CACHE_HOME", "RISSOLE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)  # a number that no user has
    folder = cache_folder()
    assert folder.is_dir()
    assert cache_folder() == folder


def test_a_cache_that_cannot_be_written_is_done_without(pipe, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "file" / "cache"))
    again = pipe.with_database(pipe.database)
    found = [again.retrieve(item=3, encoder="latent-corner", k=4).ids for _ in range(2)]
    assert found[0] == found[1]
    assert len(found[0]) == 4
    assert not again.database.ready(again.retriever.find_encoder("latent-corner"))


def test_a_disk_without_locks_does_not_stop_a_build(pipe, tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    (tmp_path / "photos").mkdir()
    picture(0).save(tmp_path / "photos" / "a.png")
    source = open_source(tmp_path / "photos")
    assert build_index(pipe.indexing_parts(), source, tmp_path / "db").pictures == 1


def test_what_was_made_is_kept_where_it_cannot_be_published(pipe, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    picture(0).save(tmp_path / "photos" / "a.png")
    source = open_source(tmp_path / "photos")

    def refused(*_):
        raise RissoleError("cannot write db: too bad")

    with monkeypatch.context() as patch, pytest.raises(RissoleError, match="is kept in"):
        patch.setattr(building, "publish", refused)
        build_index(pipe.indexing_parts(), source, tmp_path / "db")
    report = build_index(pipe.indexing_parts(), source, tmp_path / "db")
    assert (report.pictures, report.resumed_at) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["db", "photos"]


def test_a_name_for_a_manifest_is_made_of_any_folders_name():
    for text in ("my cats", "größe", ".hidden", "", "x" * 300, "50%", "a/b"):
        assert manifest.NAME.fullmatch(manifest.name_like(text))
    assert manifest.name_like("my cats") == "my-cats"
