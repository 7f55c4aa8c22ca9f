"""Fetching from and sending to a Hub on loopback, with the real client in processes of their own.

The client reads its settings when it is imported, and keeps its errors and retries to itself.
"""

import json
import socket
import time
from pathlib import Path

import pytest
from loopback_hub import COMMIT, Client

from rissole.storage import manifest as bundle
from rissole.storage.hub import TIMEOUT, commit_of

WEIGHTS = "denoiser/weights.safetensors"


def make_bundle(folder: Path) -> Path:
    (folder / "denoiser").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# A model card\n")
    (folder / WEIGHTS).write_bytes(bytes(range(256)) * 800)
    bundle.write_manifest(folder, "tiny")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "notes.json").write_text("not in the manifest")
    return folder


@pytest.fixture
def repo(hub) -> str:
    """A repository of its own for each test."""
    name = f"someone/tiny-{len(hub.repos)}"
    hub.repos["model", name] = make_bundle(hub.root / "served" / name)
    hub.requests.clear()
    yield name
    hub.faults.clear()


def test_only_listed_files_are_fetched_of_one_commit(client, repo, hub):
    found = Path(client.resolve(repo))
    assert bundle.verify(found)["name"] == "tiny"
    assert commit_of(found) == COMMIT
    assert commit_of(hub.root) is None
    assert {p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()} == {
        "README.md", "config.json", "manifest.json", WEIGHTS
    }  # fmt: skip
    fetched = [r for r in hub.requests if r.startswith("GET") and "/resolve/" in r]
    assert all(f"/resolve/{COMMIT}/" in r for r in fetched)
    assert len(fetched) == 4  # every file once


def test_cache_serves_without_any_request_until_asked_to_update(client, repo, hub, cache):
    found = client.resolve(repo)
    hub.requests.clear()
    assert client.resolve(repo) == found
    assert client.resolve(repo, revision=COMMIT) == found
    assert hub.requests == []
    with Client(cache, "http://127.0.0.1:9", HF_HUB_OFFLINE="1") as offline:
        assert offline.resolve(repo) == found
    hub.commit = COMMIT[::-1]
    try:
        assert client.resolve(repo) == found
        newer = client.resolve(repo, update=True)
        assert commit_of(newer) == COMMIT[::-1]
        assert client.resolve(repo) == newer
        assert client.resolve(repo, revision=COMMIT) == found
    finally:
        hub.commit = COMMIT


def test_damaged_cache_is_mended_with_one_download(client, repo, hub):
    found = Path(client.resolve(repo))
    (found / WEIGHTS).resolve().write_bytes(b"\0" * 204_800)
    hub.requests.clear()
    assert client.resolve(repo) == str(found)
    bundle.verify(found)
    assert [r for r in hub.requests if "resolve" in r and r.startswith("GET")] == [
        f"GET /{repo}/resolve/{COMMIT}/{WEIGHTS}"
    ]


@pytest.mark.parametrize(
    ("path", "how"),
    [(WEIGHTS, "drop"), (WEIGHTS, "truncate"), (WEIGHTS, "corrupt"), ("manifest", "corrupt")],
)
def test_one_bad_answer_is_mended(client, repo, hub, path, how):
    hub.fail(path, how, times=1)
    found = client.resolve(repo)
    assert not found.startswith("refused"), found
    bundle.verify(found)


@pytest.mark.parametrize(
    ("path", "how", "words"),
    [
        (WEIGHTS, "drop", f"{WEIGHTS} of"),
        (WEIGHTS, "truncate", f"unusable: {WEIGHTS} arrived incomplete"),
        (WEIGHTS, "corrupt", f"unusable: {WEIGHTS} is damaged: its sha256"),
        (WEIGHTS, "entry", f"unusable: it has no {WEIGHTS}"),
        ("manifest", "corrupt", "not JSON)"),
        ("manifest", "entry", "unusable: it has no manifest.json"),
        ("/api/", "401", "hf auth login"),
        ("/api/", "404", "there is no model"),
        ("/api/", "gated", "is gated"),
        ("/api/", "500", "status 500"),
    ],
)
def test_lasting_faults_are_one_line(client, repo, hub, path, how, words):
    hub.fail(path, how)
    answer = client.resolve(repo)
    assert answer.startswith("refused: ")
    assert words in answer
    asked = [r for r in hub.requests if WEIGHTS in r and r.startswith("GET")]
    if how in ("corrupt", "truncate") and path == WEIGHTS:
        assert len(asked) == 2  # once more, no more
    # nothing half-done is taken for whole afterwards
    hub.faults.clear()
    bundle.verify(client.resolve(repo))


def test_manifest_cannot_name_files_outside_or_of_other_kinds(client, repo, hub):
    path = hub.repos["model", repo] / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in ("../../secret.txt", "denoiser/model.pkl"):
        path.write_text(json.dumps({**manifest, "files": {name: {"size": 1, "sha256": "0"}}}))
        assert client.resolve(repo).startswith("refused: ")
        assert not any(name in request for request in hub.requests)


def test_odd_manifests_are_one_line(client, repo, hub):
    path = hub.repos["model", repo] / "manifest.json"
    manifest = json.loads(path.read_text())
    entry = manifest["files"]["config.json"]
    for size in ("2", None, -1, [2], 1e400):
        files = {"config.json": {**entry, "size": size}}
        path.write_text(json.dumps({**manifest, "files": files}))
        assert "gives no size and sha256 for config.json" in client.resolve(repo)


def test_what_is_whole_is_used_though_its_branch_cannot_be_noted(client, repo, hub):
    hub.fail("/resolve/main/", "403")
    found = client.resolve(repo)
    assert bundle.verify(found)["name"] == "tiny"


@pytest.mark.parametrize("more", [{}, {"HF_HUB_OFFLINE": "1"}])
def test_cold_and_unreachable_says_so_soon(tmp_path, more):
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, never answers
    endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with Client(tmp_path, endpoint, **more) as client:
        client.resolve("no bundle")  # imports are over when this is answered
        start = time.monotonic()
        answer = client.resolve("someone/cats")
        assert time.monotonic() - start < TIMEOUT + 10  # seconds for a machine that is busy
    assert "cannot be reached for someone/cats" in answer
    assert "no whole copy of it is in the cache" in answer
    silent.close()
