"""Words as a query: the model that reads them comes when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

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

# asks a Hub for each model that it is told of, as the app does; prints what a visitor would be told
ASKING = """
import json, sys, threading
from rissole import RissolePipeline
from rissole.app.assets import texts
from rissole.app.clip_reader import Reader
pipe, words = RissolePipeline.from_pretrained(sys.argv[1]), texts()["query"]
for line in sys.stdin:
    reader, told = Reader(line.strip()), []
    note = reader._told
    reader._told = lambda *sizes: (note(*sizes), told.append(sizes))
    reader.begin(pipe)
    for thread in threading.enumerate():
        if thread.name == "reader":
            thread.join()
    found = pipe.retrieve(text="a ginger cat", k=3).ids if reader.ready(pipe) else None
    print(json.dumps({"told": told, "said": reader.said(words), "found": found}), flush=True)
"""


def finished() -> None:
    for thread in threading.enumerate():
        if thread.name == "reader":
            thread.join()


def asked(bundle: Path, cache: Path, endpoint: str, *models: str) -> list[dict]:
    """What came of asking a Hub for models, one after another, in a process of its own."""
    env = environment(cache / "hub", endpoint, RISSOLE_CACHE=str(cache / "vectors"))
    command, lines = [sys.executable, "-c", ASKING, str(bundle)], "\n".join(models)
    done = subprocess.run(command, input=lines, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def own(tiny_bundle, tmp_path, monkeypatch) -> RissolePipeline:
    """A pipeline that nobody else has: its encoders are added to."""
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path))
    return RissolePipeline.from_pretrained(tiny_bundle)


def test_a_model_is_fetched_once_with_its_size_and_without_network_one_line_says_so(
    hub, clip_folder, tiny_bundle, tmp_path
):
    hub.repos["model", "someone/tiny-clip"] = clip_folder
    size = sum(path.stat().st_size for path in clip_folder.iterdir())
    (first,) = asked(tiny_bundle, tmp_path, hub.url, "someone/tiny-clip")
    assert first["told"][0] == [0, size] and first["told"][-1][0] >= size
    assert len(first["found"]) == 3
    nobody, models = "http://127.0.0.1:9", ("someone/tiny-clip", "someone/other")
    again, other = asked(tiny_bundle, tmp_path, nobody, *models)
    assert (again["found"], again["told"]) == (first["found"], [])
    assert other["said"].startswith("The model that reads words is not here: the Hugging Face Hub")
    assert other["said"].endswith("Names of classes work") and "\n" not in other["said"]


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
