"""The page's JavaScript modules, as they are served and as Python speaks of them."""

import io
import re
import threading
import time

import httpx
import pytest
import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Mount
from visiting import Visit

from rissole.app.assets import FOLDER, texts
from rissole.app.modules import MAIN, modules
from rissole.app.server import serve

IMPORT = re.compile(r'^(?:import|\} from|import .* from) .*?"(\.{1,2}/[^"]+)";$', re.MULTILINE)
EVENT = re.compile(r'^  [A-Z]+: "([a-z]+)",', re.MULTILINE)
PYTHON = FOLDER.parent
SCRIPTS = {name: text for name, text in modules().files.items() if name.endswith(".js")}


def script(name: str) -> str:
    """A component's script, with the engine where it imports that: it triggers events, too."""
    text = modules().files[name].decode()
    engine = "shared/server_engine.js"
    return text + modules().files[engine].decode() if f'"./{engine}"' in text else text


def test_modules_have_addresses_that_never_change(address):
    place = modules().address("canvas/maps.js")
    answer = httpx.get(address + place)
    assert answer.content == (FOLDER / "canvas" / "maps.js").read_bytes()
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    version = modules().version
    for other in ("0" * 12, version[:-1]):
        assert httpx.get(address + place.replace(version, other)).status_code == 404
    for path in ("canvas.html", "texts.json", "types.d.ts", "..%2fserver.py", "../server.py", ""):
        assert httpx.get(f"{address}web/{version}/{path}").status_code == 404


def test_each_trained_baseline_that_is_told_of_has_its_pictures(address):
    for bundle in texts()["compare"]["trained"]:
        answer = httpx.get(address + modules().address(f"published/{bundle}.webp"))
        assert answer.headers["content-type"] == "image/webp"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.size == (512, 128)


def test_every_import_finds_its_module():
    for name, content in SCRIPTS.items():
        for target in IMPORT.findall(content.decode()):
            found = (FOLDER / name).parent.joinpath(target).resolve()
            assert found.relative_to(FOLDER).as_posix() in modules().files, (name, target)


def test_the_head_starts_the_first_and_loads_all():
    head = modules().head()
    assert f'<script type="module" src="web/{modules().version}/{MAIN}">' in head
    assert head.count("modulepreload") == len(SCRIPTS)
    assert all(modules().address(name) in head for name in SCRIPTS)


def test_python_tells_and_listens_to_events_that_there_are():
    known = set(EVENT.findall((FOLDER / "shared" / "events.js").read_text()))
    python = "".join(path.read_text() for path in PYTHON.glob("*.py"))
    told = set(re.findall(r'telling\("(\w+)"', python))
    assert {"failed", "grid"} <= told <= known
    listened = re.findall(r"(?:page\.)?(\w+)\.(\w+)\(actions\.", python)
    names = {"canvas", "shelf", "compare", "explain", "memory", "neighbors", "gallery"}
    files = {"shelf": "share"}
    for component, event in {pair for pair in listened if pair[0] in names}:
        module = script(f"{files.get(component, component)}.js")
        assert f'"{event}"' in module or f"{event}:" in module, (component, event)


@pytest.fixture
def below(pipe):
    """The address of the page behind a server of which it is only a part."""
    app, _, _ = serve(pipe, "127.0.0.1", prevent_thread_lock=True)
    whole = Starlette(routes=[Mount("/a/cats", app)])
    server = uvicorn.Server(uvicorn.Config(whole, port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/a/cats/"
    server.should_exit = True
    thread.join()
    app.get_blocks().close()


def test_the_page_works_in_a_folder_of_another_site(browser, below):
    visit = Visit(browser, below)
    visit.paint(steps=1)
    visit.leave()
    # the icon at the root is for the other site to have
    root = below.removesuffix("a/cats/")
    assert [one for one in visit.troubles if not one.endswith(f" {root}favicon.ico")] == []
