"""Fetching from and sending to a Hub on loopback, with the real client in processes of their own.

The client reads its settings when it is imported, and keeps its errors and retries to itself.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import picture
from loopback_hub import COMMIT, running

from rissole.data.sources import open_source
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.retrieval.database import DATA
from rissole.storage import manifest as bundle
from rissole.storage.hub import TIMEOUT, _stage_app, commit_of, sendable

ROOT = Path(bundle.__file__).parents[2]
WEIGHTS = "denoiser/weights.safetensors"
CLIENT = (
    "import json, sys\n"
    "from rissole.storage.manifest import resolve\n"
    "from rissole.config import RissoleError\n"
    "for line in sys.stdin:\n"
    "    try: print(resolve(**json.loads(line)), flush=True)\n"
    "    except RissoleError as error: print('refused:', error, flush=True)\n"
)


def environment(cache: Path, endpoint: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_loopback",
        "NO_PROXY": "*",
        **more,
    }


class Client:
    """A process that resolves names for as long as its `with` block lasts."""

    def __init__(self, cache: Path, endpoint: str, **more: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT],
            cwd=ROOT,
            env=environment(cache, endpoint, **more),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()

    def resolve(self, name: str, **options) -> str:
        self.process.stdin.write(json.dumps({"name_or_path": name, **options}) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def make_bundle(folder: Path) -> Path:
    (folder / "denoiser").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# A model card\n")
    (folder / WEIGHTS).write_bytes(bytes(range(256)) * 800)
    bundle.write_manifest(folder, "tiny")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "notes.json").write_text("not in the manifest")
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with running(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def client(hub, cache):
    with Client(cache, hub.url) as process:
        yield process


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
        ("manifest", "corrupt", "is damaged (not JSON)"),
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
def test_cold_and_unreachable_says_so_within_five_seconds(tmp_path, more):
    silent = socket.create_server(("127.0.0.1", 0))  # accepts, never answers
    endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
    with Client(tmp_path, endpoint, **more) as client:
        client.resolve("no bundle")  # imports are over when this is answered
        start = time.monotonic()
        answer = client.resolve("someone/cats")
        assert time.monotonic() - start < TIMEOUT + 3
    assert "cannot be reached for someone/cats" in answer
    assert "no whole copy of it is in the cache" in answer
    silent.close()


# Sending


def run(cache: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "rissole", *map(str, arguments)],
        cwd=ROOT,
        env=environment(cache, endpoint),
        capture_output=True,
        text=True,
    )


def test_pushed_bundle_comes_back_and_has_a_complete_card(hub, client, cache, tiny_bundle):
    done = run(cache, hub.url, "push", tiny_bundle, "someone/pushed")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"/commit/{COMMIT}")
    found = Path(client.resolve("someone/pushed"))
    sent, kept = bundle.verify(found), bundle.verify(tiny_bundle)
    weights = ("autoencoder/", "denoiser/", "database/")
    assert bundle.fingerprint(sent, weights) == bundle.fingerprint(kept, weights)
    card = (found / "README.md").read_text()
    for words in ("license: ", "library_name: rissole", "pipeline_tag: ", "tags:", "## Use",
                  'from_pretrained("someone/pushed")', "| `denoiser/` |", "# tiny"):  # fmt: skip
        assert words in card
    assert "from_pretrained" not in (tiny_bundle / "README.md").read_text()  # ours is untouched
    out = cache / "picture.png"
    done = run(cache, hub.url, "sample", "--bundle", "someone/pushed", "--steps", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"someone/pushed at commit {COMMIT}" in done.stderr
    assert out.is_file()


def test_names_of_left_out_photos_stay_on_this_machine(hub, client, cache, pipe, tmp_path):
    for folder, seed in (("kept", 0), ("kept", 1), ("shots", 1)):
        (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
        picture(seed).save(tmp_path / "in" / folder / f"at-home-{seed}.png")
    (tmp_path / "in" / "shots" / "at-work.jpg").write_bytes(b"no picture")
    out = tmp_path / "photos"
    build_index(pipe, open_source(tmp_path / "in"), out, label="faces")
    before = bundle.verify(out)
    assert "at-work" in (out / bundle.LEFT_OUT).read_text()
    served = hub.root / "dataset" / "someone" / "faces"
    for path in (bundle.LEFT_OUT, f"database/{bundle.LEFT_OUT}"):  # as earlier versions sent it
        (served / path).parent.mkdir(parents=True, exist_ok=True)
        (served / path).write_text("at-work")
    done = run(cache, hub.url, "push", out, "someone/faces")
    assert done.returncode == 0, done.stderr
    assert bundle.LEFT_OUT not in done.stdout
    sent = {p.relative_to(served).as_posix(): p.read_bytes() for p in served.rglob("*.*")}
    assert set(sent) == {"README.md", *before["files"], bundle.MANIFEST} - {bundle.LEFT_OUT}
    for local in (b"at-home", b"at-work", bytes(tmp_path)):
        assert not [path for path, data in sent.items() if local in data]
    assert bundle.verify(out) == before
    found = client.resolve("someone/faces", kind="dataset")
    assert pipe.with_database(found).database.fingerprint == bundle.fingerprint(before, DATA)


def test_a_bundle_with_such_names_goes_without_them(pipe, tiny_bundle, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(tiny_bundle, old)
    (old / "database" / bundle.LEFT_OUT).write_text('[{"skipped": "at-work.jpg"}]')
    manifest = bundle.write_manifest(old, "old")
    (tmp_path / "space").mkdir()
    name = _stage_app(tmp_path / "space", old)
    staged = tmp_path / "space" / "checkpoints" / name
    assert set(bundle.verify(staged)["files"]) == set(sendable(manifest))
    assert not list((tmp_path / "space").rglob(bundle.LEFT_OUT))
    kept = RissolePipeline.from_pretrained(old)
    kept.save_pretrained(tmp_path / "new")
    assert not list((tmp_path / "new").rglob(bundle.LEFT_OUT))
    # recipes painted with the one can be painted with the others
    for folder in (staged, tmp_path / "new"):
        again = RissolePipeline.from_pretrained(folder)
        assert again.database.fingerprint == kept.database.fingerprint
    assert kept.database.fingerprint == pipe.database.fingerprint


def test_pushed_space_has_the_app_and_finds_its_bundle(hub, cache):
    done = run(cache, hub.url, "push", "cats-128", "someone/painter", "--space", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing uploaded" in done.stdout
    assert ("space", "someone/painter") not in hub.repos
    done = run(cache, hub.url, "push", "someone/cats", "someone/painter", "--space")
    assert done.returncode == 0, done.stderr
    space = hub.repos["space", "someone/painter"]
    assert {path.name for path in space.iterdir()} >= {
        "app.py", "requirements.txt", "README.md", "LICENSE", "rissole", "assets"
    }  # fmt: skip
    assert not (space / "checkpoints").exists()
    assert not list(space.rglob("__pycache__"))
    card = (space / "README.md").read_text()
    assert "sdk: gradio" in card
    assert "- someone/cats" in card
    assert hub.variables["RISSOLE_BUNDLE"] == "someone/cats"


def test_push_without_a_right_to_is_one_line(hub, cache, tiny_bundle):
    hub.fail("/api/repos/create", "403")
    done = run(cache, hub.url, "push", tiny_bundle, "someone/elses")
    hub.faults.clear()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the Hugging Face Hub refused")
