import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture
from files_of_photos import jpeg, write_parquet
from loopback_hub import ROOT, environment, running
from PIL import Image

from rissole.app.guard import classes_of
from rissole.config import RissoleError
from rissole.data.sources import open_source
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.retrieval.contents import LABELS, write_classes
from rissole.retrieval.database import Database, list_databases
from rissole.storage import database_facts
from rissole.storage import manifest as bundle
from rissole.storage.files import save_tensors
from rissole.storage.resolve import resolve


@pytest.fixture
def photos(tmp_path) -> Path:
    """What people's folders hold: twins, copies, a turned photo, and what is no photo."""
    folder = tmp_path / "photos"
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
    for i in range(6):
        (folder / "cats" / f"{i}.jpg").write_bytes(jpeg(picture(i)))
    for i in range(6, 9):
        picture(i).resize((300, 200)).save(folder / "dogs" / f"{i}.png")
    (folder / "dogs" / "twin.jpg").write_bytes((folder / "cats" / "0.jpg").read_bytes())
    (folder / "dogs" / "copy.jpg").write_bytes(jpeg(picture(1).resize((200, 200)), 60))
    turned = picture(9).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me a quarter to the right"
    (folder / "dogs" / "turned.jpg").write_bytes(jpeg(turned, exif=exif))
    (folder / "dogs" / "broken.jpg").write_bytes(jpeg(picture(10))[:500])
    (folder / "dogs" / "text.png").write_text("no picture")
    (folder / "notes.txt").write_text("not even by name")
    return folder


def test_folder_becomes_a_database_with_classes(pipe, photos, tmp_path, monkeypatch):
    report = build_index(pipe.indexing_parts(), open_source(photos), tmp_path / "db", label="pets")
    assert (report.pictures, report.duplicates, report.resumed_at) == (10, 2, 0)
    assert report.skipped[:2] == [("dogs/text.png", "text"), ("notes.txt", "text")]
    assert report.skipped[2].name == "dogs/broken.jpg"
    assert report.skipped[2].reason.startswith("broken.jpg is a damaged JPEG file")
    left_out = json.loads((tmp_path / "db" / "left-out.json").read_text())
    assert {note.get("duplicate") for note in left_out} == {"dogs/copy.jpg", "dogs/twin.jpg", None}
    pets = pipe.with_database(tmp_path / "db")
    assert (len(pets.database), pets.database.label) == (10, "pets")
    assert pets.database.classes == ["cats", "dogs"]
    assert [facts.count for _, facts in list_databases(tmp_path)] == [10]
    # the turned photo is upright: it looks like the picture it was made of
    turned = pets.retrieve(image=picture(9), k=1)
    assert turned.labels == ["dogs"]
    assert turned.scores[0] > 0.98
    # and what is stored is what the codec makes of the picture
    latent = pets.retriever.encode(picture(0))
    same = pets.database.latents([0])
    assert (latent - same).abs().mean() < 0.2
    monkeypatch.chdir(tmp_path / "db")
    here = pipe.with_database(".")
    assert here.database.fingerprint == pets.database.fingerprint
    assert not here.database.in_memory
    hits = pets.retrieve(item=0, k=16, label="dogs")
    assert set(hits.labels) == {"dogs"}
    assert len(hits.ids) == 4
    assert pets.retrieve(label="dogs", seed=1, k=2).item in hits.ids
    with pytest.raises(RissoleError, match="no class 'fish'"):
        pets.retrieve(label="fish")
    assert pets(hits, seed=0, num_inference_steps=1).recipe["database"] == pets.database.fingerprint


def test_no_more_classes_than_a_page_can_be_told_of(
    pipe, photos, tiny_bundle, tmp_path, monkeypatch
):
    folder = tmp_path / "many"
    shutil.copytree(tiny_bundle / "database", folder)
    count, most = len(pipe.database), database_facts.MOST_CLASSES
    names = tuple(f"{number:05}" for number in range(most))
    labels = torch.full((count,), most - 1, dtype=torch.int32)
    save_tensors({"labels": labels}, folder / LABELS)
    replace(database_facts.DatabaseFacts.read(folder), classes=names).write(folder)
    told = np.frombuffer(classes_of(Database.open(folder, "many")), "<i2")
    assert told.tolist() == [most - 1] * count
    with pytest.raises(RissoleError, match="more than 32,768 classes"):
        write_classes(folder, [*names, "one more"])
    monkeypatch.setattr(database_facts, "MOST_CLASSES", 1)
    with pytest.raises(RissoleError, match="more than 1 classes"):
        build_index(pipe.indexing_parts(), open_source(photos), tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_duplicates_stay_when_asked_for(pipe, photos, tmp_path):
    parts, everything = pipe.indexing_parts(), open_source(photos)
    report = build_index(parts, everything, tmp_path / "db", keep_duplicates=True)
    assert (report.pictures, report.duplicates) == (12, 0)
    assert build_index(parts, everything, tmp_path / "db", only="cats").pictures == 6
    with pytest.raises(RissoleError, match="no pictures of class 'fish'"):
        build_index(parts, everything, tmp_path / "fish", only="fish")
    assert not list(tmp_path.glob(".*"))


# A real SIGKILL, at places of which every one once broke somebody's data.

KILLED = """
import os, pathlib, resource, signal, sys
from rissole import cli
from rissole.storage import staging
from rissole.retrieval import writer as indexing
from rissole.retrieval import index as vectors

indexing.COMMIT_SECONDS = 0
def killed_at(owner, name, call):
    original, calls = getattr(owner, name), [0]
    def wrapper(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)
    setattr(owner, name, wrapper)

def between_the_renames(stage, target, original=staging._exchange):
    killed_at(pathlib.Path, "replace", 2)
    original(stage, target)

for place in sys.stdin:
    child = os.fork()
    if child == 0:
        places = {
            "adding": lambda: killed_at(indexing.DatabaseWriter, "add", 40),
            "noting": lambda: killed_at(indexing, "write_atomic", 2),
            "index": lambda: killed_at(vectors, "build", 1),
            "manifest": lambda: killed_at(indexing, "write_manifest", 1),
            "flushing": lambda: killed_at(staging, "_flush", 1),
            "renames": lambda: setattr(staging, "_exchange", between_the_renames),
            "full": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
            "never": lambda: None,
        }
        places[place.strip()]()
        os._exit(cli.main(sys.argv[1:]))
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_killed_build_harms_nothing_and_goes_on(pipe, tiny_bundle, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(60):
        (photos / f"{i:02}.jpg").write_bytes(jpeg(picture(100 + i)))
    target = tmp_path / "out" / "db"
    arguments = ["index", photos, "--bundle", tiny_bundle, "--out", target]
    build_index(pipe.indexing_parts(), open_source(photos), target, limit=3)
    before = bundle.verify(target)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    def run(place: str) -> list[str]:
        child.stdin.write(place + "\n")
        child.stdin.flush()
        lines = iter(child.stdout.readline, "")
        seen = []
        while not (line := next(lines)).startswith("status"):
            seen.append(line)
        expected = {"never": 0, "full": 2}.get(place, -signal.SIGKILL)
        assert int(line.split()[1]) == expected, seen
        return seen

    for place in ("adding", "full", "noting", "index", "manifest", "flushing", "renames"):
        run(place)
        found = resolve(target, kind="dataset")
        assert bundle.verify(found) == before, place
    seen = run("never")
    child.communicate()
    assert "resumed after 60" in seen[-2]
    database = pipe.with_database(target).database
    assert len(database) == 60
    assert not list((tmp_path / "out").glob(".*"))
    # the same bytes as of a build that nobody killed
    build_index(pipe.indexing_parts(), open_source(photos), tmp_path / "other" / "db")
    assert bundle.verify(tmp_path / "other" / "db")["files"] == bundle.verify(target)["files"]


def test_two_builds_of_one_folder_do_not_mix(pipe, photos, tmp_path):
    from filelock import FileLock

    (tmp_path / ".db.build").mkdir()
    with (
        FileLock(tmp_path / ".db.build" / "lock-0"),
        pytest.raises(RissoleError, match="another build is writing db"),
    ):
        build_index(pipe.indexing_parts(), open_source(photos), tmp_path / "db")


# Data sets and databases on the Hub


COMMANDS = """
import json, sys
from rissole.cli import main
for line in sys.stdin:
    print("status", main(json.loads(line)), flush=True)
"""


def test_hub_data_set_is_streamed_and_a_database_comes_back(tiny_bundle, tmp_path):
    pytest.importorskip("datasets")
    with running(tmp_path / "hub") as hub:
        served = tmp_path / "served"
        (served / "data").mkdir(parents=True)
        write_parquet(served / "data" / "train-00000-of-00001.parquet", 12)
        hub.repos["dataset", "someone/pets"] = served
        env = environment(tmp_path / "cache", hub.url, HF_DATASETS_CACHE=str(tmp_path / "sets"))
        sample = ["sample", "--bundle", str(tiny_bundle), "--steps", "1", "--seed", "3"]
        commands = [
            ["index", "someone/pets", "--only", "dog", "--out", "dogs", "--bundle", tiny_bundle],
            ["push", "dogs", "someone/dogs"],
            [*sample, "--database", "someone/dogs", "--out", "a.png"],
            [*sample, "--database", "dogs", "--out", "b.png"],
            ["index", "someone/nothing", "--out", "x", "--bundle", tiny_bundle],
        ]
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS], cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT)},
            input="\n".join(json.dumps(list(map(str, command))) for command in commands),
            capture_output=True, text=True,
        )  # fmt: skip
        results = [line for line in done.stdout.splitlines() if line.startswith("status")]
        assert results == ["status 0"] * 4 + ["status 2"], done.stderr
        assert "6 pictures" in done.stdout
        assert "there is no dataset someone/nothing" in done.stderr.splitlines()[-1]
        assert not list((tmp_path / "sets").rglob("*.arrow"))
        info = json.loads((tmp_path / "dogs" / "database.json").read_text())
        assert (info["label"], info["classes"]) == ("someone/pets: dog", ["dog"])
        assert ("dataset", "someone/dogs") in hub.repos
        # the same pictures, so the same recipe, though a card was added
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# One visitor's own pictures


def test_own_pictures_live_in_memory_only(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.png").write_text("no picture")
    own = pipe.with_pictures([picture(200), jpeg(picture(201)), tmp_path / "broken.png"], "mine")
    assert len(own.database) == 2
    assert own.database.label == "mine"
    assert own.database.skipped == ["broken.png is text, not a picture in a known format "
                                    "(PNG, JPEG, WEBP, GIF, BMP, TIFF, AVIF)"]  # fmt: skip
    assert own.retrieve(image=picture(201), k=2).ids == [1, 0]
    assert own.retrieve(item=0, k=1, encoder="latent-corner").ids == [1]
    out = own(own.retrieve(item=0), seed=0, num_inference_steps=1)
    assert out.recipe["database"] == own.database.fingerprint != pipe.database.fingerprint
    assert own.denoiser is pipe.denoiser
    assert len(pipe.database) == 24
    with pytest.raises(RissoleError, match="was made with another database"):
        pipe(**out.recipe)
    with pytest.raises(RissoleError, match="are not saved"):
        own.save_pretrained(tmp_path / "saved")
    with pytest.raises(RissoleError, match="1 to 256 pictures: broken.png"):
        pipe.with_pictures([tmp_path / "broken.png"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png"]


@pytest.mark.slow
def test_several_processes_make_the_same_database(pipe, tiny_bundle, photos, tmp_path):
    build_index(pipe.indexing_parts(), open_source(photos), tmp_path / "one" / "db")
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2",
         "-m", "rissole", "index", photos, "--bundle", tiny_bundle, "--out", tmp_path / "db",
         "--device", "cpu"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, several = (RissolePipeline.from_pretrained(tiny_bundle, database=path).database
                    for path in (tmp_path / "one" / "db", tmp_path / "db"))  # fmt: skip
    assert len(one) == len(several) == 10
    assert np.allclose(one.latents(range(10)), several.latents(range(10)), atol=1e-2)
    assert one.labels(range(10)) == several.labels(range(10))
