import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rissole import bundle
from rissole.config import RissoleError

ROOT = Path(bundle.__file__).parents[1]


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


# The Hub: each case in a process of its own, as its client reads the environment when imported.

RESOLVE = (
    "import sys; from rissole.bundle import resolve; from rissole.config import RissoleError\n"
    "try: print(resolve('someone/tiny'))\n"
    "except RissoleError as error: print('refused:', error)"
)


def resolve_from_hub(cache: Path, endpoint: str, **env: str) -> str:
    env = {
        **os.environ,
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "*",
        **env,
    }
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE], cwd=ROOT, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Hub(http.server.BaseHTTPRequestHandler):
    """The four answers of the Hub that a download needs, served from a folder."""

    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:3] != ["api", "models", "someone"] and parts[0] != "someone":
            self.send_error(404)
        elif "tree" in parts:
            self.answer(json.dumps(self.tree()).encode())
        elif parts[0] == "api":
            names = [{"rfilename": entry["path"]} for entry in self.tree()]
            self.answer(
                json.dumps({"id": "someone/tiny", "sha": self.commit, "siblings": names}).encode()
            )
        else:
            self.answer((self.server.folder / "/".join(parts[4:])).read_bytes())

    def tree(self):
        files = (path for path in sorted(self.server.folder.rglob("*")) if path.is_file())
        return [
            {
                "type": "file",
                "path": path.relative_to(self.server.folder).as_posix(),
                "size": path.stat().st_size,
                "oid": bundle._describe(path)["sha256"],
            }
            for path in files
        ]

    def answer(self, data: bytes):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(data) & 0xFFFFFFFF:x}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.requests = make_bundle(tmp_path / "served"), []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_hub_is_asked_once_then_the_cache_serves(hub, tmp_path):
    cache = tmp_path / "cache"
    found = Path(resolve_from_hub(cache, hub.url))
    assert bundle.verify(found)["name"] == "tiny"
    hub.requests.clear()
    assert Path(resolve_from_hub(cache, hub.url)) == found
    assert hub.requests == []
    assert Path(resolve_from_hub(cache, hub.url, HF_HUB_OFFLINE="1")) == found


def test_damaged_cache_is_downloaded_again(hub, tmp_path):
    cache = tmp_path / "cache"
    found = Path(resolve_from_hub(cache, hub.url))
    weights = (found / "denoiser" / "weights.safetensors").resolve()
    weights.write_bytes(b"\0" * 2048)
    fails(lambda: bundle.verify(found), "damaged")
    assert Path(resolve_from_hub(cache, hub.url)) == found
    bundle.verify(found)


def test_damaged_upload_is_named(hub, tmp_path):
    (hub.folder / "denoiser" / "weights.safetensors").write_bytes(b"\0" * 2048)
    answer = resolve_from_hub(tmp_path / "cache", hub.url)
    assert answer.startswith("refused: someone/tiny on the Hugging Face Hub is unusable")
    assert "weights.safetensors is damaged" in answer


def test_cold_and_unreachable_says_so_quickly(tmp_path):
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, never answers
    endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
    for env in ({}, {"HF_HUB_OFFLINE": "1"}):
        start = time.monotonic()
        answer = resolve_from_hub(tmp_path / "cache", endpoint, **env)
        assert time.monotonic() - start < bundle.HUB_TIMEOUT + 15  # most of it is the import
        assert "cannot be reached" in answer
        assert len(answer.splitlines()) == 1
    silent.close()


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
        "import sys, time; from rissole.bundle import staged\n"
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


def test_unwritable_target_is_one_line(tmp_path):
    (tmp_path / "file").write_text("no folder")

    def build():
        with bundle.staged(tmp_path / "file" / "new"):
            raise AssertionError("must not start")

    fails(build, "cannot write")
