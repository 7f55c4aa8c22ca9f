"""A server in a process of its own under load: right pictures, and nothing left behind.

    pytest -m slow tests/app/test_load.py -s

prints what was measured; RISSOLE_LOAD multiplies the number of requests (1 as it stands).
"""

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from calling import Page
from conftest import picture
from PIL import Image
from serving import ROOT, Server, serving

from rissole.app.extended import Extended
from rissole.app.frames import data_uri
from rissole.app.sketches import sketch_steps

pytestmark = pytest.mark.slow

LOAD = float(os.environ.get("RISSOLE_LOAD", "1"))
CALL = "gradio_api/call/generate"


@pytest.fixture(scope="module")
def server(tiny_bundle, tmp_path_factory) -> Iterator[Server]:
    with serving(tiny_bundle, tmp_path_factory.mktemp("load")) as server:
        yield server


def settings(seed: int) -> dict:
    """Mixed settings, the same for the same seed."""
    draw = random.Random(seed)
    return {
        "neighbors": draw.sample(range(24), draw.randint(1, 8)),
        "order": draw.choice(["parallel", "sequential", "independent"]),
        "grid": draw.choice([1, 2, 4]),
        "steps": draw.randint(1, 3),
        "guidance_scale": draw.choice([1.0, 1.5, 3.0]),
        "seed": seed,
    }


def pixels(content: bytes) -> str:
    with Image.open(io.BytesIO(content)) as image:
        return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def solo(pipe, given: dict) -> str:
    """Hash of a picture that is painted alone, by the library."""
    return hashlib.sha256(alone(pipe, given).tobytes()).hexdigest()


def alone(pipe, given: dict) -> Image.Image:
    """A picture that is painted alone."""
    given = {"blocks": {}, **given}
    own = {tuple(map(int, at.split(","))): ids for at, ids in given.pop("blocks").items()}
    steps = given.pop("steps")
    return pipe(**given, block_neighbors=own, num_inference_steps=steps).images[0]


def by_program(server: Server, given: dict) -> str:
    """Hash of a picture over the API, or the line that was said instead."""
    place = f"{server.address}{CALL}"
    event = server.http.post(place.replace("call", "call/v2"), json=given).json()
    line = server.http.get(f"{place}/{event['event_id']}").text.strip().splitlines()[-1]
    answer = json.loads(line.removeprefix("data: "))
    if isinstance(answer, dict):
        return answer["error"]
    file = server.http.get(f"{server.address}gradio_api/file={answer[0]['path']}")
    return pixels(file.content)


def by_page(page: Page, given: dict) -> str:
    """Hash of the picture that a page offers to save."""
    page.begin("rs-generate", "click", **typed(given))
    said = [json.dumps(message) for message in page.answers()]  # of later ones what has changed
    file = re.findall(r'"path"(?:: |\], )"([^"]+\.png)"', "".join(said))[-1]
    return pixels(page.http.get(f"{page.address}gradio_api/file={file}").content)


def typed(given: dict) -> dict:
    """Settings as the page sends them, by place."""
    value = {"hits": [{"id": i, "on": True} for i in given["neighbors"]]}
    value["blocks"] = given.get("blocks", {})
    values = [given[name] for name in ("order", "grid", "steps", "guidance_scale")]
    return {f"_{at}": v for at, v in enumerate([value, *values, False, given["seed"]], 1)}


# ---- many who paint, upload, drag and leave ------------------------------------------------------


class Visitor:
    """Somebody who does something else in each round, and what must come of it."""

    def __init__(self, server: Server, pipe, folder: Path, number: int):
        self.server, self.pipe, self.number = server, pipe, number
        self.folder, self.page = folder, Page(server.address)
        self.key, self.rounds = pipe.database.fingerprint, [
            self.plain, self.searching, self.dragging, self.with_own_photos, self.with_one_added
        ]  # fmt: skip

    def sent(self, seed: int) -> tuple[Path, dict]:
        """A photo that was uploaded, and what the page then says of it."""
        file = self.folder / f"{seed}.png"
        picture(seed).save(file)
        return file, {"path": self.page.send(file), "meta": {"_type": "gradio.FileData"}}

    def plain(self, seed: int) -> tuple[dict, Any]:
        return settings(seed), self.pipe

    def searching(self, seed: int) -> tuple[dict, Any]:
        """An upload as the query."""
        file, said = self.sent(seed)
        found = shown(self.page.do("rs-upload", "upload", _1=4, _3=said))[1]["hits"]
        right = self.pipe.retrieve(file, k=4).ids
        assert [hit["id"] for hit in found] == right
        return settings(seed) | {"neighbors": right}, self.pipe

    def dragging(self, seed: int, count: int = 24) -> tuple[dict, Any]:
        """Neighbors that are given to single blocks."""
        draw, given = random.Random(-seed), settings(seed)
        given["neighbors"] = draw.sample(range(count), min(3, count))
        places = [f"{row},{col}" for row in range(given["grid"]) for col in range(given["grid"])]
        chosen = draw.sample(places, (len(places) + 1) // 2)
        return given | {"blocks": {at: [draw.randrange(count)] for at in chosen}}, self.pipe

    def with_own_photos(self, seed: int) -> tuple[dict, Any]:
        files = [self.sent(1000 * seed + n) for n in range(3)]
        memory = shown(self.page.use(*(said["path"] for _, said in files)))[1]
        assert (memory["own"]["count"], memory["skipped"]) == (3, 0)
        return self.dragging(seed, 3)[0], self.pipe.with_pictures([file for file, _ in files])

    def with_one_added(self, seed: int) -> tuple[dict, Any]:
        """Back in the gallery, with a photo behind its pictures."""
        shown(self.page.do("rs-memory", "move", {"key": self.key}, _1=2))
        file, said = self.sent(seed)
        hits = shown(self.page.do("rs-add", "upload", _1={"hits": []}, _2=said))[2]["hits"]
        assert [hit["id"] for hit in hits] == [24]
        encoder = self.pipe.retriever.encoder
        both = Extended(self.pipe.database, self.pipe.with_pictures([file]).database, encoder, "")
        return self.dragging(seed, 25)[0], self.pipe.with_database(both)

    def paint(self, turn: int, leave: bool) -> bool | None:
        """Whether the picture of a round is the one the library paints; None for who left."""
        seed = 5 * self.number + turn
        given, alone = self.rounds[turn](seed)
        if leave:
            self.page.begin("rs-generate", "click", **typed(given))
            with closing(self.page.answers()) as answers:
                next(answers)
            self.page.close()
            self.page = Page(self.server.address)
            return None
        return by_page(self.page, given) == solo(alone, given)


def shown(message: dict) -> list:
    """What the page was told."""
    assert message["success"], message["output"]
    return message["output"]["data"]


def test_twenty_visitors_who_upload_and_drag_each_get_their_own_picture(server, pipe, tmp_path):
    turns, visitors, dice = 5, 20, random.Random()
    leaving = set(dice.sample(range(turns * visitors), 5))

    def visit(number: int) -> list[bool | None]:
        visitor = Visitor(server, pipe, tmp_path, number)
        right = [visitor.paint(turn, turns * number + turn in leaving) for turn in range(turns)]
        visitor.page.close()
        return right

    began = time.monotonic()
    with ThreadPoolExecutor(visitors) as pool:
        told = Counter(right for one in pool.map(visit, range(visitors)) for right in one)
    print(f"\n{visitors} visitors, {turns} rounds in {time.monotonic() - began:.0f} s: {told}")
    assert told == {True: turns * visitors - 5, None: 5}, sorted(leaving)


def drag(server: Server, number: int, given: dict) -> dict[int, dict]:
    """Gives one block after another a neighbor, as fast as a page may; what it was told of each."""
    blocks = [f"{row},{col}" for row in range(4) for col in range(4)]
    wish = {"guidance": given["guidance_scale"], "seed": str(given["seed"]), "grid": 4}
    wish |= {name: given[name] for name in ("neighbors", "order")}
    wishes = [
        wish | {"number": n, "blocks": {at: [(n + number) % 24] for at in blocks[: n + 1]}}
        for n in range(12)
    ]
    page, answers, coming = Page(server.address), {}, iter(wishes)

    def send() -> None:
        for sent in islice(coming, 1):
            page.begin("rs-canvas", "sketch", {"wish": sent})

    send()  # two are on their way, as `live.js` has it
    send()
    while len(answers) < len(wishes):
        for message in page.answers():
            if message["msg"] == "process_completed":
                (said,) = shown(message)
                answers[said["wish"]] = said | wishes[said["wish"]]
                send()
    page.close()
    return answers


def test_the_last_sketch_of_twenty_who_drag_at_once_is_of_their_last_wish(server, pipe):
    with ThreadPoolExecutor(20) as pool:
        dragged = pool.map(lambda n: drag(server, n, settings(n)), range(20))
        told = [said for one in dragged for said in one.values()]

    def right(said: dict) -> bool:
        given = {name: said[name] for name in ("neighbors", "order", "grid", "blocks")}
        given |= {"guidance_scale": said["guidance"], "seed": int(said["seed"])}
        return said["frame"] == data_uri(alone(pipe, given | {"steps": sketch_steps(pipe, None)}))

    painted = [said for said in told if said["state"] == "done"]
    dropped = [said for said in told if said["state"] == "dropped"]
    wrong = [said["number"] for said in painted if not right(said)]
    print(f"\n{len(told)} wishes: {len(painted)} painted, {len(dropped)} dropped, wrong: {wrong}")
    assert wrong == []
    assert len(painted) + len(dropped) == len(told) == 240
    assert sum(said["number"] == 11 for said in painted) == 20


def test_a_burst_is_told_busy(server, pipe):
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: by_program(server, settings(n)), range(50)))
    busy = [line for line in answers if line.startswith("The server is busy. Please try again in")]
    right = [n for n, answer in enumerate(answers) if answer == solo(pipe, settings(n))]
    print(f"\n50 at once: {len(right)} pictures, {len(busy)} told when to come again")
    assert len(right) + len(busy) == 50
    assert len(right) >= 10


def test_two_thousand_requests_leave_nothing_behind(server):
    count, given = round(2000 * LOAD), {"neighbors": [1, 2], "steps": 1, "grid": 1, "seed": 1}
    place = f"{server.address}{CALL}"

    def one(number: int) -> str:
        with suppress(httpx.HTTPError):
            posted = server.http.post(place.replace("call", "call/v2"), json=given)
            event = posted.json()["event_id"]
            if number % 10 < 3:  # these leave: before they listen, at once, or after a moment
                if number % 10:
                    with server.http.stream("GET", f"{place}/{event}") as lines:
                        if number % 10 == 2:
                            next(lines.iter_lines(), None)
                return "left"
            said = server.http.get(f"{place}/{event}").text
            return "painted" if "event: complete" in said else "busy" if "busy" in said else said
        return "failed"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count // 10)))  # what is made once is there
        before = server.figures()
        began, told = time.monotonic(), Counter(pool.map(one, range(count)))
    seconds, after = time.monotonic() - began, server.figures()
    print(f"\n{count} requests in {seconds:.0f} s: {dict(told)}\n{before}\n{after}")
    assert set(told) <= {"painted", "left", "busy"}
    assert after["MB"] - before["MB"] < 100
    assert after["threads"] - before["threads"] <= 8
    assert after["open"] - before["open"] <= 8
    assert after["disk MB"] < 100


def test_large_photos_of_many_at_once_take_little_memory(server, pipe, tmp_path):
    photo, before, visitors = tmp_path / "photo.jpg", server.peaks(), round(8 * LOAD)
    noise = Image.effect_noise((2000, 1250), 80).resize((8000, 5000))
    noise.convert("RGB").save(photo, quality=60)

    def visit(number: int) -> bool:
        with closing(Page(server.address)) as page:
            first, *paths = [page.send(photo) for _ in range(5)]
            query = {"path": first, "meta": {"_type": "gradio.FileData"}}
            found = shown(page.do("rs-upload", "upload", _1=4, _3=query))
            memory = shown(page.use(*paths))[1]
            return len(found[1]["hits"]) == memory["own"]["count"] == 4

    with ThreadPoolExecutor(visitors + 1) as pool:
        read, painted = pool.map(visit, range(visitors)), by_program(server, settings(3))
        assert all(read)
    assert painted == solo(pipe, settings(3))
    after, size = server.peaks(), photo.stat().st_size / 2**20
    print(f"\n{5 * visitors} photos of 40 megapixels, {size:.0f} MB each: {before} to {after} MB")
    assert after[0] - before[0] < 300
    assert after[1] < 1024


def test_one_recipe_is_one_picture_whoever_paints_it_under_load(
    server, pipe, tiny_bundle, tmp_path
):
    given = settings(7)
    right, count = solo(pipe, given), round(200 * LOAD)
    options = {"num_inference_steps": given["steps"]}
    options |= {name: given[name] for name in ("neighbors", "order", "grid", "guidance_scale")}

    def fresh(number: int) -> str:
        code = (
            "import sys, json, hashlib; from rissole import RissolePipeline as P; "
            "out = P.from_pretrained(sys.argv[1])(**json.loads(sys.argv[2])); "
            "print(hashlib.sha256(out.images[0].tobytes()).hexdigest())"
        )
        recipe = json.dumps({**options, "seed": given["seed"]})
        command = [sys.executable, "-c", code, str(tiny_bundle), recipe]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()

    def by_command(number: int) -> str:
        out = tmp_path / f"{number}.png"
        command = [sys.executable, "-m", "rissole", "sample", "--bundle", str(tiny_bundle)]
        command += ["--neighbors", ",".join(map(str, given["neighbors"]))]
        command += ["--order", given["order"], "--grid", str(given["grid"])]
        command += ["--steps", str(given["steps"]), "--seed", str(given["seed"])]
        command += ["--guidance-scale", str(given["guidance_scale"]), "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return pixels(out.read_bytes())

    def in_a_batch(number: int) -> str:
        first = {**options, "seed": given["seed"] - number % 3, "num_images": 4}
        image = pipe(**first).images[number % 3]
        return hashlib.sha256(image.tobytes()).hexdigest()

    def on_a_page(number: int) -> str:
        with closing(Page(server.address)) as page:
            return by_page(page, given)

    ways = {
        "page": on_a_page,
        "program": lambda n: by_program(server, given),
        "library": lambda n: solo(pipe, given),
        "batch": in_a_batch,
    }
    names = [list(ways)[n % 4] for n in range(count - 6)]
    with ThreadPoolExecutor(6) as pool:
        hashes = list(pool.map(lambda n: ways[names[n]](n), range(len(names))))
        slow = [pool.submit(way, n) for n, way in enumerate([fresh, by_command] * 3)]
        hashes += [one.result() for one in slow]
    equal = Counter(one == right for one in hashes)
    print(f"\n{equal[True]} of {count} equal: {Counter(names)}, 3 fresh processes, 3 commands")
    assert equal == {True: count}


def test_nothing_is_asked_of_other_hosts(server):
    assert by_program(server, settings(1))
    begun = [line for line in server.log.read_text().splitlines() if line.startswith("CONNECT")]
    abroad = [
        line for line in begun if not re.search(r"127\.0\.0\.1|localhost|::1|/tmp|/dev", line)
    ]
    print(f"\n{len(begun)} connections begun, of which to other hosts: {abroad}")
    assert abroad == []
