import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rissole.config import RissoleError
from rissole.storage import manifest as bundle

ROOT = Path(bundle.__file__).parents[2]


def make_bundle(folder: Path, name: str = "tiny") -> Path:
    (folder / "denoiser").mkdir(parents=True)
    (folder / "database").mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# A model card\n")
    (folder / "denoiser" / "weights.safetensors").write_bytes(bytes(range(256)) * 8)
    (folder / "database" / "latents.safetensors").write_bytes(b"latents")
    bundle.write_manifest(folder, name, licence="cc-by-nc-4.0")
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_bundle(tmp_path / "tiny")


def fails(call, words: str) -> None:
    with pytest.raises(RissoleError) as error:
        call()
    text = str(error.value)
    assert words in text
    assert len(text.splitlines()) == 1


def test_manifest_lists_every_file_and_verifies(folder):
    manifest = bundle.verify(folder)
    assert manifest["name"] == "tiny"
    assert manifest["licence"] == "cc-by-nc-4.0"
    assert set(manifest["files"]) == {
        "README.md",
        "config.json",
        "database/latents.safetensors",
        "denoiser/weights.safetensors",
    }
    assert manifest["files"]["denoiser/weights.safetensors"]["size"] == 2048
    assert manifest == bundle.write_manifest(folder, "tiny", licence="cc-by-nc-4.0")


@pytest.mark.parametrize("position", [0, 1000, 2047])
def test_one_flipped_bit_is_found_and_named(folder, position):
    path = folder / "denoiser" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    fails(lambda: bundle.verify(folder), "tiny/denoiser/weights.safetensors is damaged: its sha256")


def test_short_missing_and_foreign_files_are_named(folder):
    path = folder / "denoiser" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    fails(lambda: bundle.verify(folder), "weights.safetensors is damaged: 2047 bytes, not 2048")
    path.unlink()
    fails(lambda: bundle.verify(folder), "tiny/denoiser/weights.safetensors is missing")
    other = make_bundle(folder.parent / "other")
    (other / ".gitattributes").write_text("hidden files do not count")
    bundle.verify(other)
    (other / "denoiser" / "pytorch_model.bin").write_bytes(b"pickle")
    fails(lambda: bundle.verify(other), "denoiser/pytorch_model.bin is not listed")
    fails(lambda: bundle.write_manifest(other, "other"), "does not belong in a bundle")


def odd(key: str = "size", value: object = 1) -> dict:
    """An entry of a manifest with one value that may be odd."""
    return {"size": 1, "sha256": "0" * 64, key: value}


def test_large_files_are_read_again_only_when_they_changed(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bundle, "LARGE", 2048)
    bundle.verify(folder, remember=True)
    assert not (tmp_path / "cache").exists()  # written just now: a change might not show yet
    monkeypatch.setattr(bundle, "SETTLED", -60.0)
    before = bundle.verify(folder, remember=True)
    (note,) = (tmp_path / "cache").rglob("*.json")  # of the one large file
    told = note.read_text()
    note.write_text(told.replace(before["files"]["denoiser/weights.safetensors"]["sha256"], "0"))
    fails(lambda: bundle.verify(folder, remember=True), "weights.safetensors is damaged: its sha")
    assert bundle.verify(folder) == before  # whoever does not ask for it has everything read
    for odd in ("not json{", "[]", "{}", ""):
        note.write_text(odd)
        assert bundle.verify(folder, remember=True) == before
    path = folder / "denoiser" / "weights.safetensors"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=times)
    fails(lambda: bundle.verify(folder, remember=True), "weights.safetensors is damaged: its sha")


def test_large_files_are_read_where_nothing_can_be_remembered(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(bundle, "LARGE", 2048)
    monkeypatch.setattr(bundle, "SETTLED", -60.0)
    assert bundle.verify(folder, remember=True)["name"] == "tiny"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: "not json{", "not JSON"),
        (lambda m: "[]", "is damaged"),
        (lambda m: "[" * 100_000, "not JSON"),
        (lambda m: json.dumps({**m, "format": 2}), "format 2"),
        (lambda m: json.dumps({**m, "files": {"../../etc/passwd.txt": {}}}), "leaves the bundle"),
        (lambda m: json.dumps({**m, "files": {"/etc/passwd.txt": {}}}), "leaves the bundle"),
        (lambda m: json.dumps({**m, "files": {"weights.pkl": {}}}), "does not belong"),
        (lambda m: json.dumps({**m, "files": {"config.json": 7}}), "no size and sha256"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("size", "1")}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("size", -1)}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("size", True)}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("sha256", [])}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("sha256", "0")}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"a\nb.json": odd()}}), "'a\\nb.json'"),
        (lambda m: json.dumps({**m, "files": {"a\0.json": odd()}}), "'a\\x00.json'"),
        (lambda m: json.dumps({**m, "files": {"\ud800.json": odd()}}), "ud800.json'"),
        (lambda m: json.dumps({**m, "files": {f"{'x' * 300}.json": odd()}}), "xxx"),
        (lambda m: json.dumps({**m, "name": "../../elsewhere"}), "bundle's name"),
        (lambda m: json.dumps({**m, "name": "a\nb"}), "bundle's name"),
    ],
)
def test_bad_manifests_are_refused(folder, change, words):
    path = folder / bundle.MANIFEST
    path.write_text(change(json.loads(path.read_text())))
    fails(lambda: bundle.verify(folder), words)


def test_bad_names_are_refused(folder):
    for name in ("", "../up", ".hidden", "a b", "a/b"):
        fails(lambda name=name: bundle.write_manifest(folder, name), "cannot be a bundle's name")


def test_fingerprint_follows_the_contents_under_its_prefix(folder):
    before = bundle.verify(folder)
    (folder / "database" / "latents.safetensors").write_bytes(b"Latents")
    after = bundle.write_manifest(folder, "renamed")
    weights = ("denoiser/", "autoencoder/")
    assert bundle.fingerprint(before, weights) == bundle.fingerprint(after, weights)
    assert bundle.fingerprint(before, "database/") != bundle.fingerprint(after, "database/")
    assert bundle.fingerprint(before) != bundle.fingerprint(after)
    assert len(bundle.fingerprint(before)) == 12


def test_resolve_finds_folders_and_names(folder, monkeypatch, tmp_path):
    assert bundle.resolve(folder) == folder
    assert bundle.resolve(str(folder)) == folder
    fails(lambda: bundle.resolve("tiny"), "unknown bundle 'tiny'")
    monkeypatch.setenv("RISSOLE_BUNDLES", str(tmp_path))
    assert bundle.resolve("tiny") == folder
    assert "tiny" in bundle.bundled_names()
    fails(lambda: bundle.resolve("tinny"), "tiny")
    # A stray folder of that name in the working directory does not hide the bundle.
    (tmp_path / "elsewhere" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert bundle.resolve("tiny") == folder
    fails(lambda: bundle.resolve(tmp_path / "elsewhere" / "tiny"), "no manifest.json")


@pytest.mark.parametrize(
    "name", ["", "../tiny", "no such bundle", "a/b/c", "\0", "x" * 300, "x/" * 3000]
)
def test_unknown_names_get_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_BUNDLES", str(tmp_path / "bundles"))
    make_bundle(tmp_path / "tiny")
    fails(lambda: bundle.resolve(name), "unknown bundle")


def test_revision_needs_a_repository(folder):
    fails(lambda: bundle.resolve(str(folder), revision="main"), "a revision needs a Hub repository")


# Staged writing


def test_staged_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "new"
    with bundle.staged(target) as stage:
        make_bundle(stage / "x").rename(stage / "y")
        (stage / "config.json").write_text("1")
        assert not target.exists()
    assert (target / "config.json").read_text() == "1"
    assert [path.name for path in target.parent.iterdir()] == ["new"]


def test_staged_replaces_bundles_only(folder, tmp_path):
    with bundle.staged(folder) as stage:
        (stage / "config.json").write_text("new")
        bundle.write_manifest(stage, "tiny")
    assert list(bundle.verify(folder)["files"]) == ["config.json"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    for target in (tmp_path / "photos", tmp_path, tmp_path / "photos" / "cat.jpg"):
        with pytest.raises(RissoleError), bundle.staged(target):
            raise AssertionError("must not start")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"precious"


def test_failure_keeps_what_was_there(folder):
    before = bundle.verify(folder)
    with pytest.raises(ZeroDivisionError), bundle.staged(folder) as stage:
        (stage / "half").write_text("written")
        raise ZeroDivisionError
    assert bundle.verify(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_killed_build_leaves_the_old_bundle_and_is_cleared(folder):
    code = (
        "import sys, time; from rissole.storage.manifest import staged\n"
        "with staged(sys.argv[1]) as stage:\n"
        "    (stage / 'half').write_text('x'); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    bundle.verify(folder)
    assert len(list(folder.parent.iterdir())) == 2
    with bundle.staged(folder) as stage:
        (stage / "config.json").write_text("new")
        bundle.write_manifest(stage, "tiny")
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_replacement_cut_short_between_renames_is_undone(folder):
    before = bundle.verify(folder)
    folder.rename(bundle._aside(folder))
    with pytest.raises(ZeroDivisionError), bundle.staged(folder):
        raise ZeroDivisionError
    assert bundle.verify(folder) == before


def test_a_stage_of_a_killed_process_of_the_same_number_is_cleared(folder):
    """In a container every start may have the number that the last one had."""
    stale = folder.with_name(f".tiny.stage-{os.getpid()}-1000000000")
    older = folder.with_name(f".tiny.stage-{os.getpid()}")  # as earlier versions called it
    for left in (stale, older):
        left.mkdir()
        (left / "half").write_text("x")
    with bundle.staged(folder) as stage:
        (stage / "config.json").write_text("new")
        with bundle.staged(folder) as other:  # as in another thread
            assert other != stage
            (other / "config.json").write_text("newer")
            bundle.write_manifest(other, "tiny")
        assert (stage / "config.json").read_text() == "new"
        bundle.write_manifest(stage, "tiny")
    assert (folder / "config.json").read_text() == "new"
    assert not stale.exists()


def test_names_that_are_patterns_are_names(folder, tmp_path):
    for name in ("my [photos]", "**", "*"):
        gone = tmp_path / f".{name}.stage-{2**22 + 1}"
        gone.mkdir()
        other = tmp_path / f".other.stage-{2**22 + 1}"
        other.mkdir(exist_ok=True)
        with bundle.staged(tmp_path / name) as stage:
            (stage / "config.json").write_text("{}")
        assert not gone.exists()
        assert other.exists()


def test_what_a_link_points_to_is_replaced_time_and_again(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder, target_is_directory=True)
    for n in range(3):
        with bundle.staged(link) as stage:
            (stage / "config.json").write_text(str(n))
            bundle.write_manifest(stage, "tiny")
        assert link.is_symlink()
        assert (folder / "config.json").read_text() == str(n)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "tiny"]


def test_unwritable_target_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")

    def build():
        with bundle.staged(tmp_path / "file" / "new"):
            raise AssertionError("must not start")

    fails(build, "cannot write")
