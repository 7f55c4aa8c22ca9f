"""Words as a query: the model that reads them comes when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import gradio as gr
import pytest
from calling import result_of
from loopback_hub import ROOT, environment

from rissole.app.assets import texts
from rissole.app.choose import Choosing
from rissole.app.clip_reader import Reader
from rissole.app.databases import Sources
from rissole.app.state import Visit
from rissole.app.studio import Studio
from rissole.pipeline import RissolePipeline

# asks a Hub for a model as the app does; prints what a visitor is told on the way, and the hits
ASKING = """
import json, sys, threading
from rissole import RissolePipeline
from rissole.app.assets import texts
from rissole.app.clip_reader import Reader
pipe, reader = RissolePipeline.from_pretrained(sys.argv[1]), Reader(sys.argv[2])
told, words = [], texts()["query"]
note = reader._told
reader._told = lambda *sizes: (note(*sizes), told.append(sizes))
reader.begin(pipe)
for thread in threading.enumerate():
    if thread.name == "reader":
        thread.join()
found = pipe.retrieve(text="a ginger cat", k=3).ids if reader.ready(pipe) else None
print(json.dumps({"told": told, "said": reader.said(words), "found": found}))
"""


def finished() -> None:
    for thread in threading.enumerate():
        if thread.name == "reader":
            thread.join()


def asked(folder, cache, endpoint: str) -> dict:
    command = [sys.executable, "-c", ASKING, str(folder), "someone/tiny-clip"]
    env = environment(cache / "hub", endpoint, RISSOLE_CACHE=str(cache / "vectors"))
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def own(tiny_bundle, tmp_path, monkeypatch) -> RissolePipeline:
    """A pipeline that nobody else has: its encoders are added to."""
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path))
    return RissolePipeline.from_pretrained(tiny_bundle)


def test_a_model_is_fetched_once_with_its_size_and_then_without_network(
    hub, clip_folder, tiny_bundle, tmp_path
):
    hub.repos["model", "someone/tiny-clip"] = clip_folder
    first = asked(tiny_bundle, tmp_path, hub.url)
    size = sum(path.stat().st_size for path in clip_folder.iterdir())
    assert first["told"][0] == [0, size] and first["told"][-1][0] >= size
    assert len(first["found"]) == 3
    again = asked(tiny_bundle, tmp_path, "http://127.0.0.1:9")  # nobody listens there
    assert (again["found"], again["told"]) == (first["found"], [])


def test_without_network_one_line_says_so(tiny_bundle, tmp_path):
    told = asked(tiny_bundle, tmp_path, "http://127.0.0.1:9")
    assert told["found"] is None
    assert told["said"].startswith("The model that reads words is not here: the Hugging Face Hub")
    assert told["said"].endswith("Names of classes work") and "\n" not in told["said"]


def test_words_wait_for_the_model_and_are_answered_when_it_is_here(own, clip_folder):
    reader = Reader(str(clip_folder))
    studio = Studio(Sources(own), texts(), reader=reader)
    choosing, visit = Choosing(studio), Visit()
    with pytest.raises(gr.Error, match="Write what you are looking for"):
        result_of(choosing.describe(visit, 3, None, " "))
    *_, box, clock = result_of(choosing.describe(visit, 3, None, "a ginger cat"))
    assert clock.active and box["info"]
    finished()
    after, neighbors, box, clock = result_of(choosing.read(visit, 3, None, "a ginger cat"))
    assert after.query.text == "a ginger cat" and len(neighbors["hits"]) == 3
    assert not clock.active and not box["info"]


def test_names_of_classes_are_answered_at_once_without_any_model(own, databases):
    reader = Reader("someone/there-is-none")
    moods = own.with_database(databases / "moods")
    choosing = Choosing(Studio(Sources(moods), texts(), reader=reader))
    after, neighbors, *_ = result_of(choosing.describe(Visit(), 3, None, "Calm"))
    assert after.query.text == "Calm"
    assert {hit["label"] for hit in neighbors["hits"]} == {"calm"}
    assert reader.progress is None  # nothing was fetched


def test_a_model_that_cannot_be_loaded_ends_the_waiting_and_may_be_asked_for_again(own, tmp_path):
    reader = Reader(str(tmp_path))  # a folder with no model in it
    studio = Studio(Sources(own), texts(), reader=reader)
    choosing = Choosing(studio)
    *_, clock = result_of(choosing.describe(Visit(), 3, None, "a cat"))
    assert clock.active
    finished()
    *_, box, clock = result_of(choosing.read(Visit(), 3, None, "a cat"))
    assert not clock.active and "cannot load the CLIP model" in box["info"]
    *_, clock = result_of(choosing.describe(Visit(), 3, None, "a cat"))
    assert clock.active
    finished()
