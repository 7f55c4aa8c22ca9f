import json
import os

import pytest
from small_bundle import fails, make_bundle

from rissole.storage import manifest as bundle


def test_manifest_lists_every_file_and_verifies(folder):
    manifest = bundle.verify(folder)
    assert manifest["name"] == "tiny"
    assert manifest["license"] == "cc-by-nc-4.0"
    assert set(manifest["files"]) == {
        "README.md",
        "config.json",
        "database/latents.safetensors",
        "denoiser/weights.safetensors",
    }
    assert manifest["files"]["denoiser/weights.safetensors"]["size"] == 2048
    assert manifest == bundle.write_manifest(folder, "tiny", license="cc-by-nc-4.0")


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


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", ".DS_Store", "Icon\r"])
def test_what_file_managers_leave_anywhere_is_no_part_of_a_bundle(folder, name):
    before = bundle.verify(folder)
    for place in (folder, folder / "database"):
        (place / name).write_bytes(b"left here")
    assert bundle.verify(folder) == before
    assert bundle.write_manifest(folder, "tiny", license="cc-by-nc-4.0") == before


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
        (
            lambda m: json.dumps({**m, "files": {"../../etc/pass.txt": odd()}}),
            "leaves the bundle",
        ),
        (lambda m: json.dumps({**m, "files": {"/etc/passwd.txt": odd()}}), "leaves the bundle"),
        (lambda m: json.dumps({**m, "files": {"weights.pkl": odd()}}), "does not belong"),
        (lambda m: json.dumps({**m, "files": {"config.json": 7}}), "no size and sha256"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("size", "1")}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("size", -1)}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("size", True)}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("sha256", [])}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("sha256", "0")}}), "no size and"),
        (lambda m: json.dumps({**m, "files": {"a\nb.json": odd()}}), "'a\\nb.json'"),
        (lambda m: json.dumps({**m, "files": {"a\0.json": odd()}}), "'a\\x00.json'"),
        (lambda m: json.dumps({**m, "files": {"\ud800.json": odd()}}), "not JSON"),
        (lambda m: json.dumps({**m, "more": 1}), "unknown 'more'"),
        (lambda m: json.dumps({**m, "encoder": 1}), "odd encoder"),
        (lambda m: json.dumps({**m, "files": {"config.json": odd("more", 1)}}), "no size and"),
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
