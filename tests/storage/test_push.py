"""Sending to a Hub on loopback, with the real client in a process of its own."""

import shutil
from pathlib import Path

import yaml
from conftest import picture
from loopback_hub import COMMIT

from rissole.data.sources import open_source
from rissole.export.static_page import card_of
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.retrieval.database import DATA
from rissole.storage import manifest as bundle
from rissole.storage.push import sendable
from rissole.storage.space import stage_bundle


def test_pushed_bundle_comes_back_and_has_a_complete_card(hub, client, cache, tiny_bundle):
    done = client.run("push", tiny_bundle, "someone/pushed")
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
    done = client.run("sample", "--bundle", "someone/pushed", "--steps", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    assert f"someone/pushed at commit {COMMIT}" in done.stderr
    assert out.is_file()


def test_an_exported_page_becomes_a_static_space(hub, client, tmp_path, tiny_bundle):
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<!doctype html>")
    (page / "facts.json").write_text("{}")
    (page / "README.md").write_text(card_of({"name": "tiny"}))
    bundle.write_manifest(page, "tiny-page", bundle.PAGE_SUFFIXES)
    done = client.run("push", page, "someone/page", "--static")
    assert done.returncode == 0, done.stderr
    front = yaml.safe_load(
        (hub.repos["space", "someone/page"] / "README.md").read_text().split("---")[1]
    )
    assert (front["sdk"], front["app_file"]) == ("static", "index.html")
    assert set(front["custom_headers"].values()) == {"require-corp", "same-origin", "cross-origin"}
    done = client.run("push", tiny_bundle, "someone/page", "--static")
    assert done.returncode == 2 and "is no page" in done.stderr


def test_names_of_left_out_photos_stay_on_this_machine(hub, client, pipe, tmp_path):
    for folder, seed in (("kept", 0), ("kept", 1), ("shots", 1)):
        (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
        picture(seed).save(tmp_path / "in" / folder / f"at-home-{seed}.png")
    (tmp_path / "in" / "shots" / "at-work.jpg").write_bytes(b"no picture")
    out = tmp_path / "photos"
    build_index(pipe.indexing_parts(), open_source(tmp_path / "in"), out, label="faces")
    before = bundle.verify(out)
    assert "at-work" in (out / bundle.LEFT_OUT).read_text()
    served = hub.root / "dataset" / "someone" / "faces"
    for path in (bundle.LEFT_OUT, f"database/{bundle.LEFT_OUT}"):  # as earlier versions sent it
        (served / path).parent.mkdir(parents=True, exist_ok=True)
        (served / path).write_text("at-work")
    done = client.run("push", out, "someone/faces")
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
    name = stage_bundle(tmp_path / "space", old)
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


def test_pushed_space_has_the_app_and_finds_its_bundle(hub, client):
    done = client.run("push", "cats-128", "someone/painter", "--space", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing uploaded" in done.stdout
    assert ("space", "someone/painter") not in hub.repos
    done = client.run("push", "someone/cats", "someone/painter", "--space")
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


def test_a_second_push_takes_back_what_the_first_one_sent_and_nothing_else(
    hub, client, tiny_bundle, tmp_path
):
    mine = tmp_path / "mine"
    shutil.copytree(tiny_bundle, mine)
    more = [mine / "former.safetensors", mine / "shown [1].png"]
    for path in more:
        path.write_bytes(b"of the first push")
    bundle.write_manifest(mine, "mine")
    repo, space = hub.root / "model/someone/twice", hub.root / "space/someone/twice"
    kept = [repo / "notes.txt", repo / "logs/losses.json", space / "mine.py",
            space / "checkpoints/other/config.json", space / "assets/banner.png",
            repo / "denoiser/onnx/model.onnx"]  # fmt: skip
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of somebody else")
    for push in ("first", "second"):
        for options in ((), ("--space",)):
            done = client.run("push", mine, "someone/twice", *options)
            assert done.returncode == 0, done.stderr
        if push == "first":
            assert all((repo / path.name).exists() for path in more)
            for path in more:
                path.unlink()
            bundle.write_manifest(mine, "mine")
    assert [path for path in kept if not path.exists()] == []
    folders = repo, space / "checkpoints" / "mine"
    assert not [path for path in more for folder in folders if (folder / path.name).exists()]
    RissolePipeline.from_pretrained(space / "checkpoints" / "mine")


def test_push_without_a_right_to_is_one_line(hub, client, tiny_bundle):
    hub.fail("/api/repos/create", "403")
    done = client.run("push", tiny_bundle, "someone/elses")
    hub.faults.clear()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the Hugging Face Hub refused")
