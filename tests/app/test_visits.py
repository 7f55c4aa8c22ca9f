"""What a real server keeps of visits and programs, asked as letter by letter as they can."""

import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from calling import Page, eventually
from conftest import picture
from gradio_client import Client, handle_file
from PIL import Image

from rissole.app.databases import Sources
from rissole.app.decoder import Reader
from rissole.app.links import encode
from rissole.app.server import serve
from rissole.app.uploads import private_folder
from rissole.config import RissoleError
from rissole.storage.staging import aside

ROOT = Path(__file__).parents[2]
HITS = {"hits": [{"id": 1, "on": True}], "blocks": {}}


@pytest.fixture(scope="module")
def server(pipe, databases):
    """(address, household) of a server of its own."""
    kept, make = [], Sources.__init__

    def noted(self, *given, **named):
        make(self, *given, **named)
        kept.append(self.household)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sources, "__init__", noted)
        app, url, _ = serve(pipe, "127.0.0.1", databases=[databases], prevent_thread_lock=True)
    yield url, kept[-1]
    app.get_blocks().close()


@pytest.fixture
def page(server):
    page = Page(server[0])
    yield page
    page.close()


def photo(folder, seed: int = 1):
    file = folder / f"photo{seed}.png"
    picture(seed).save(file)
    return file


def own(message: dict) -> dict:
    assert message["success"], message["output"]
    return message["output"]["data"][1]


def test_programs_leave_nothing_in_memory(server, tmp_path):
    address, household = server
    client, file = Client(address, verbose=False), photo(tmp_path)
    before = household.visits.size(), household.photos.size()
    for seed in range(3):
        client.predict(seed=seed, api_name="/retrieve")
        client.predict(image=handle_file(file), api_name="/retrieve")
    client.predict(neighbors=[1], grid=1, steps=1, api_name="/generate")
    assert (household.visits.size(), household.photos.size()) == before


def test_a_visit_is_kept_until_its_page_is_closed(server, pipe, tmp_path):
    address, household = server
    page = Page(address)
    mine = own(page.use(page.send(photo(tmp_path))))["own"]["key"]
    thumbnail = f"{address}thumbs/{mine}/0.webp"
    assert httpx.get(thumbnail).status_code == 200
    assert 0 < household.visits.size(page.name) < 2**20
    assert 0 < household.photos.size(page.name) < 2**20
    link = encode(pipe.recipe(neighbors=[1], grid=1, num_inference_steps=1, seed=1), None)
    film = page.do("rs-share", "film", {"link": link})
    made = Path(film["output"]["data"][0]["file"])
    assert made in {file.path for file in household.disk.files("made")}
    page.close()
    assert httpx.get(thumbnail).status_code == 404
    assert (household.visits.size(page.name), household.photos.size(page.name)) == (0, 0)
    assert not made.exists()


def test_two_visits_with_one_photo_both_have_it(server, page, tmp_path):
    other, file = Page(server[0]), photo(tmp_path)
    paths = [one.send(file) for one in (page, other)]
    told = [own(one.use(path)) for one, path in zip((page, other), paths, strict=True)]
    other.close()
    assert [memory["own"]["count"] for memory in told] == [1, 1]
    assert told[0]["own"]["key"] != told[1]["own"]["key"]
    assert not any(Path(path).exists() for path in paths)


def test_a_painting_that_is_handed_in_as_a_photo_stays_its_painters(server, page):
    client = Client(server[0], verbose=False)
    path, recipe = client.predict(neighbors=[1], grid=1, steps=1, seed=3, api_name="/generate")
    theirs = next(file.path for file in server[1].disk.files("made") if recipe and file.size)
    before = theirs.read_bytes()
    assert own(page.use(str(theirs)))["own"]["count"] == 1
    assert theirs.read_bytes() == before


def test_programs_do_not_push_visits_out(server, page, tmp_path):
    key = own(page.use(page.send(photo(tmp_path))))["own"]["key"]
    # each has a client of its own: one that threads share loses answers now and then
    clients = [Client(server[0], verbose=False) for _ in range(8)]
    asked = {"item": 1, "k": 1, "api_name": "/retrieve"}
    with ThreadPoolExecutor(len(clients)) as pool:
        found = pool.map(lambda client: [client.predict(**asked) for _ in range(14)], clients)
        assert all(one["item"] == 1 for answers in found for one in answers)
    assert own(page.do("rs-memory", "move", {"key": key}, _1=1))["own"]["key"] == key


@pytest.mark.parametrize(
    "odd", [{"blocks": {str(n): [n] for n in range(50_000)}}, {"hits": ["x" * 400_000]}]
)
def test_a_value_larger_than_any_page_sends_is_refused_and_not_kept(server, page, odd):
    page.do("rs-surprise", "click")
    before = server[1].visits.size(page.name)
    refused = page.do("rs-surprise", "click", _2=odd)
    assert refused["output"]["error"] == "That is more than this page ever sends."
    gc.collect()
    assert server[1].visits.size(page.name) == before


def test_of_odd_neighbors_of_blocks_only_places_of_a_grid_come_back(page):
    odd = {"9,9": [1], "0,0": [1, "a" * 99], "1,1": {"a": 1}, "x": [1], "0,1": list(range(99))}
    value = page.do("rs-surprise", "click", _2={"blocks": odd})["output"]["data"][1]
    assert value["blocks"] == {"0,0": [1, None], "1,1": [], "0,1": list(range(17))}


@pytest.fixture
def traced():
    """How much less memory Python's own objects take after something was done.

    The server's threads share it: what they are still about is waited for.
    """

    def taken() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    def at_rest() -> int:
        seen = [taken()]
        while len(seen) < 1000:
            seen.append(taken())
            if max(seen[-4:]) - min(seen[-4:]) < 500 and len(seen) > 4:  # bytes
                return seen[-1]
        raise AssertionError("something goes on taking memory")

    def freed(act, *given) -> int:
        before = at_rest()
        act(*given)
        return before - at_rest()

    gc.collect()
    gc.freeze()  # what was there before is not looked through each time
    tracemalloc.start()
    yield freed
    tracemalloc.stop()
    gc.unfreeze()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("visits", lambda page, file: page.do("rs-surprise", "click")),
        ("visits", lambda page, file: page.do("rs-generate", "click", _1=HITS, _4=1, _7="1")),
        ("visits", lambda page, file: page.use(page.send(file))),
        ("photos", lambda page, file: page.use(page.send(file))),
        ("photos", lambda page, file: add(page, file)),
    ],
    ids=["empty", "painted", "moved", "photos", "added"],
)
def test_visits_hold_no_more_than_is_counted(server, traced, tmp_path, part, change):
    (address, household), few, file = server, 3, photo(tmp_path)
    pages = [Page(address) for _ in range(few)]
    for page in pages:
        assert change(page, file)["success"]
    kept = getattr(household, part)
    counted = sum(kept.size(page.name) for page in pages)
    held = traced(lambda: [kept.forget(page.name) for page in pages])
    print(f"{part}: {counted // few} bytes are counted, of which Python holds {held // few}")
    assert 0 < held <= counted  # pixels and tensors lie elsewhere: see `test_belongings`
    for page in pages:
        page.close()


def add(page: Page, file: Path) -> dict:
    said = {"path": page.send(file), "meta": {"_type": "gradio.FileData"}}
    return page.do("rs-add", "upload", _1={"hits": []}, _2=said)


@pytest.fixture
def reading(pipe, monkeypatch):
    """Own photos that are being read, slowly until `go` is set: (their count so far, go)."""
    gathering, count, go = pipe.retriever.gathering, [], threading.Event()

    def slow(*given):
        count.append(0)
        try:
            for made in gathering(*given):
                count[-1] += 1
                go.wait(0.2 * (count[-1] > 3))
                yield made
        finally:
            count.append(None)

    monkeypatch.setattr(pipe.retriever, "gathering", slow)
    return count, go


def test_others_have_their_turn_while_photos_are_read(server, page, reading, tmp_path):
    (count, go), other, file = reading, Page(server[0]), photo(tmp_path)
    paths = [page.send(file) for _ in range(40)]
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(page.use, *paths)
        assert eventually(lambda: count and count[0] > 3)
        assert other.do("rs-surprise", "click")["success"]
        assert count[0] < 40
        go.set()
        assert own(read.result())["own"]["count"] == 40
    other.close()


def test_photos_of_a_page_that_is_closed_are_read_no_further(server, reading, tmp_path):
    (count, _), page, file = reading, Page(server[0]), photo(tmp_path)
    paths = [page.send(file) for _ in range(40)]
    page.begin("rs-memory", "photos", {"files": paths})
    with contextlib.closing(page.answers()) as answers:
        next(answers)
        assert eventually(lambda: count and count[0] > 3)
    page.close()
    assert eventually(lambda: count[-1] is None)
    assert count[0] < 40
    assert not any(Path(path).exists() for path in paths)
    assert server[1].photos.size(page.name) == 0


# ---- uploads -------------------------------------------------------------------------------------


CUT = """POST /gradio_api/upload HTTP/1.1
Host: localhost
Content-Length: 9000000
Content-Type: multipart/form-data; boundary=b

--b
Content-Disposition: form-data; name="files"; filename="a.png"

"""
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def test_uploads_that_are_cut_leave_nothing(server):
    url = httpx.URL(server[0])
    before = {path for path in private_folder().rglob("*") if path.is_file()}
    for _ in range(5):
        with socket.create_connection((url.host, url.port)) as line:
            head = (
                "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
            )
            head += (
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\nContent-Disposition: "
            )
            head += 'form-data; name="files"; filename="a.png"\r\n\r\n'
            line.sendall(head.encode() + bytes(5_000_000))
    assert httpx.get(f"{server[0]}here").status_code == 204
    assert {path for path in private_folder().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "given",
    [
        {"data": {"files": "no file"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"x", "headers": FORM},
        {
            "content": b"--b\r\n\r\nx\r\n--b--",
            "headers": {"Content-Type": "multipart/form-data; boundary=b"},
        },
        {"json": {}},
    ],
)
def test_what_is_no_upload_is_one_line(server, given):
    answer = httpx.post(f"{server[0]}gradio_api/upload", **given)
    assert (answer.status_code, answer.text) == (400, "No file arrived.")


# ---- decoding ------------------------------------------------------------------------------------


def test_pictures_that_cost_too_much_are_refused_before_they_are_decoded(server, page, tmp_path):
    wide = tmp_path / "wide.webp"
    Image.new("RGB", (8000, 5000)).save(wide, lossless=True)
    deep = tmp_path / "deep.tiff"
    Image.new("I", (8000, 5000)).save(deep, compression="tiff_deflate")
    fine = photo(tmp_path)
    shown = own(page.use(*(page.send(file) for file in (wide, deep, fine))))
    assert (shown["own"]["count"], shown["skipped"]) == (1, 2)
    assert all("too large" in line for line in shown["own"]["skipped"])


def test_a_decoder_that_dies_takes_one_picture_with_it(tmp_path):
    reader, file = Reader(), photo(tmp_path)
    first = reader.square(file, 64)
    (process,) = reader._pool._processes.values()
    os.kill(process.pid, signal.SIGSEGV)
    process.join()
    with pytest.raises(RissoleError, match="photo1.png is damaged and cannot be decoded"):
        reader.square(file, 64)
    assert reader.square(file, 64) == first
    reader._end()


# ---- a killed server -----------------------------------------------------------------------------

LEAVE = """
from rissole.app.uploads import private_folder
folder = private_folder()
(folder / "left.txt").write_text("a")
print(folder, flush=True)
input()
"""


def test_what_a_killed_server_left_is_removed_at_the_next_start(tmp_path):
    def start():
        environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(
            [sys.executable, "-c", LEAVE], cwd=ROOT, env=environment, **pipes
        )
        return process, process.stdout.readline().strip()

    killed, first = start()
    alive, second = start()
    killed.kill()
    killed.wait()
    other, third = start()
    assert sorted(str(path) for path in tmp_path.iterdir()) == sorted([second, third])
    for process in (alive, other):
        process.communicate("\n")
    assert list(tmp_path.iterdir()) == []
    assert first != second != third


# ---- databases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["database.json", "manifest.json"])
def test_a_nested_file_among_the_databases_breaks_nothing(pipe, databases, tmp_path, file):
    shutil.copytree(databases / "moods", tmp_path / "moods")
    shutil.copytree(databases / "moods", tmp_path / "odd")
    (tmp_path / "odd" / file).write_text("[" * 200_000 + "]" * 200_000)
    assert [entry.label for entry in Sources(pipe, [tmp_path]).entries()] == ["colors", "moods"]


def test_a_database_whose_replacement_was_cut_short_is_still_in_the_menu(pipe, databases, tmp_path):
    shutil.copytree(databases / "moods", aside(tmp_path / "moods"))
    sources = Sources(pipe, [tmp_path])
    key = [entry.key for entry in sources.entries()][1]
    assert sources.find(key).database.label == "moods"
    shutil.copytree(databases / "moods", tmp_path / "moods")
    assert len(Sources(pipe, [tmp_path]).entries()) == 2
