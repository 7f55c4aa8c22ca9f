"""What a Space needs: front matter, an app that is configured by its environment, ZeroGPU."""

import inspect
import os
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import yaml

from rissole.app import __main__ as app
from rissole.app import zerogpu
from rissole.app.assets import texts
from rissole.app.databases import Sources
from rissole.app.memory import Remembering
from rissole.app.offer import Offer
from rissole.app.painting import Painting
from rissole.app.share import Sharing
from rissole.app.state import Query, Visit
from rissole.app.studio import Studio
from rissole.retrieval.encoders import MIT_CLIP

ROOT = Path(__file__).parents[2]
COLORS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


@pytest.fixture(scope="module")
def front() -> dict:
    return yaml.safe_load((ROOT / "README.md").read_text().split("---")[1])


def test_front_matter_is_what_spaces_want(front):
    assert front["sdk"] == "gradio"
    assert (ROOT / front["app_file"]).is_file()
    assert front["python_version"] in ("3.10", "3.12")
    assert {front["colorFrom"], front["colorTo"]} <= COLORS
    assert len(front["short_description"]) <= 60
    assert len(front["title"]) <= 30
    assert front["license"] == "mit"
    assert front["tags"]
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in front["datasets"])


def test_sdk_version_is_one_that_the_requirements_allow(front):
    line = next(
        line for line in (ROOT / "requirements.txt").read_text().splitlines() if "gradio" in line
    )
    low, high = re.search(r"gradio>=([\d.]+),<([\d.]+)", line).groups()
    wanted, low, high = (
        tuple(map(int, version.split("."))) for version in (front["sdk_version"], low, high)
    )
    assert low <= wanted < high


def test_app_is_configured_by_its_environment_and_the_command_line_wins(monkeypatch):
    for name in ("BUNDLE", "DATABASE", "CLIP", "REVISION"):
        monkeypatch.delenv(f"RISSOLE_{name}", raising=False)
    plain = app.parse([])
    assert (plain.bundle, plain.database, plain.worlds) == ("cats-128", None, None)
    assert plain.clip == MIT_CLIP
    monkeypatch.setenv("RISSOLE_BUNDLE", "someone/cats")
    monkeypatch.setenv("RISSOLE_DATABASE", "someone/photos")
    monkeypatch.setenv("RISSOLE_CLIP", "")
    told = app.parse([])
    assert (told.bundle, told.database, told.clip) == ("someone/cats", "someone/photos", "")
    assert app.parse(["--databases", "all"]).databases == "all"
    assert app.parse(["--bundle", "other"]).bundle == "other"


def test_zerogpu_decorator_is_nothing_elsewhere(monkeypatch):
    def paint():
        yield 1

    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert zerogpu.on_gpu(30)(paint) is paint
    zerogpu.prepare()
    assert "spaces" not in sys.modules


def test_zerogpu_is_asked_for_where_it_is(tmp_path):
    (tmp_path / "spaces.py").write_text("def GPU(duration):\n    return lambda f: (f, duration)\n")
    code = (
        "import sys; from rissole.app import zerogpu\n"
        "zerogpu.prepare(); assert 'spaces' in sys.modules\n"
        "assert 'torch' not in sys.modules; assert zerogpu.on_gpu(30)(len) == (len, 30)"
    )
    env = {**os.environ, "SPACES_ZERO_GPU": "true", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_lent_gpu_does_can_be_sent_to_another_process(pipe, monkeypatch):
    """Such a Space runs what it decorates in a process of its own."""
    crossed = []

    def sent(value):
        crossed.append(type(value))
        return pickle.loads(pickle.dumps(value))

    def lend(duration):
        def decorate(function):
            if not inspect.isgeneratorfunction(function):
                return lambda *given: sent(function(*sent(given)))
            return lambda *given: map(sent, function(*sent(given)))

        return decorate

    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=lend))
    studio = Studio(Sources(pipe), texts())
    painting, remembering, sharing = (
        Painting(studio),
        Remembering(studio),
        Sharing(studio, Offer([studio.sources])),
    )
    *_, database = remembering.encoded([pipe.database.image(3)], "mine")
    key = studio.sources.keep(pipe.with_database(database), "a visitor")
    for visit in (Visit(), Visit(source=key, photos=key)):
        query = Query(image=pipe.database.image(5))
        visit, neighbors = remembering.choosing.found(visit, query, 2)
        recipe = painting.wanted(visit, neighbors, "parallel", 2, 1, 1.5, 0)
        *_, (message, _, after) = painting.frames(recipe, visit)
        assert (message["state"], len(after.pictures)) == ("done", 1)
        assert [done for done, _ in sharing.painted(recipe, after)][-1] == 1
        assert sharing.near(recipe, after, query)["source"] == (visit.source or studio.key)
    assert len(crossed) > 10
