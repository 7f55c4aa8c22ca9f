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
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from calling import listener
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOAD = float(os.environ.get("RISSOLE_LOAD", "1"))
CALL = "gradio_api/call/generate"
# the app, with a note of every connection that anything in it begins
NOTED = """
import sys
def note(event, given):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("CONNECT", event, given[1:] if event == "socket.connect" else given, flush=True)
sys.addaudithook(note)
from rissole.app.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


class Server(NamedTuple):
    address: str
    process: subprocess.Popen
    files: Path
    log: Path

    def figures(self) -> dict[str, float]:
        """What the process holds: memory, threads, open files, and bytes on the disk."""
        of = Path(f"/proc/{self.process.pid}")
        status = dict(re.findall(r"(\w+):\s+(\d+)", (of / "status").read_text()))
        files = [file for file in self.files.rglob("*") if file.is_file()]
        return {
            "MB": int(status["VmRSS"]) / 1024,
            "threads": int(status["Threads"]),
            "open": len(list((of / "fd").iterdir())),
            "disk MB": sum(file.stat().st_size for file in files) / 2**20,
        }


@pytest.fixture(scope="module")
def server(tiny_bundle, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("load")
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "files")}
    command = [sys.executable, "-u", "-c", NOTED, "--bundle", str(tiny_bundle)]
    with (folder / "log").open("w") as log:
        said = {"stdout": log, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **said)
        found = None
        deadline = time.monotonic() + 120
        while found is None and time.monotonic() < deadline:
            time.sleep(0.1)
            found = re.search(r"http://\S+", (folder / "log").read_text())
        assert found, (folder / "log").read_text()
        yield Server(f"{found[0]}/", process, folder / "files", folder / "log")
        process.terminate()
        process.wait(60)


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
    given = {**given, "num_inference_steps": given["steps"]}
    del given["steps"]
    return hashlib.sha256(pipe(**given).images[0].tobytes()).hexdigest()


def by_program(server: Server, given: dict) -> str:
    """Hash of a picture over the API, or the line that was said instead."""
    place = f"{server.address}{CALL}"
    event = httpx.post(f"{place.replace('call', 'call/v2')}", json=given, timeout=120).json()
    line = httpx.get(f"{place}/{event['event_id']}", timeout=120).text.strip().splitlines()[-1]
    answer = json.loads(line.removeprefix("data: "))
    if isinstance(answer, dict):
        return answer["error"]
    file = httpx.get(f"{server.address}gradio_api/file={answer[0]['path']}", timeout=60)
    return pixels(file.content)


class Page:
    """A visit as the page's script makes it, without a browser."""

    def __init__(self, server: Server):
        self.server = server
        self.number, self.inputs = listener(server.address, "rs-generate", "click")

    def paint(self, given: dict, leave: bool = False) -> str | None:
        """Hash of the picture that is offered; None when the page was closed before."""
        session = os.urandom(8).hex()
        hits = [{"id": i, "on": True} for i in given["neighbors"]]
        values = [given[name] for name in ("order", "grid", "steps", "guidance_scale")]
        data = [None, {"hits": hits, "blocks": {}}, *values, False, given["seed"]]
        place = f"{self.server.address}gradio_api/queue"
        body = {"data": data, "fn_index": self.number, "session_hash": session}
        httpx.post(f"{place}/join", json=body, timeout=120).raise_for_status()
        file = None
        stream = {"params": {"session_hash": session}, "timeout": 120}
        with httpx.stream("GET", f"{place}/data", **stream) as lines:
            for line in lines.iter_lines():
                if leave:
                    return None
                found = re.search(r'"path":\s*"([^"]+\.png)"', line)
                file = found[1] if found else file
                if '"process_completed"' in line:
                    break
        assert file, line
        answer = httpx.get(f"{self.server.address}gradio_api/file={file}", timeout=60)
        return pixels(answer.content)


def test_twenty_visitors_and_some_who_leave_each_get_their_own_picture(server, pipe):
    page, rounds, visitors = Page(server), 5, 20
    leaving = set(random.Random(0).sample(range(rounds * visitors), 5))

    def visit(visitor: int) -> dict[int, str | None]:
        numbers = [visitor * rounds + n for n in range(rounds)]
        return {n: page.paint(settings(n), leave=n in leaving) for n in numbers}

    began = time.monotonic()
    with ThreadPoolExecutor(visitors) as pool:
        painted = {n: p for one in pool.map(visit, range(visitors)) for n, p in one.items()}
    seconds = time.monotonic() - began
    finished = {n: picture for n, picture in painted.items() if picture is not None}
    wrong = [n for n, picture in finished.items() if picture != solo(pipe, settings(n))]
    print(f"\n{len(finished)} pictures of {visitors} visitors in {seconds:.0f} s, wrong: {wrong}")
    assert (len(finished), wrong) == (rounds * visitors - 5, [])


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
            posted = httpx.post(place.replace("call", "call/v2"), json=given, timeout=120)
            event = posted.json()["event_id"]
            if number % 10 < 3:  # these leave: before they listen, at once, or after a moment
                if number % 10:
                    with httpx.stream("GET", f"{place}/{event}", timeout=120) as lines:
                        if number % 10 == 2:
                            next(lines.iter_lines(), None)
                return "left"
            said = httpx.get(f"{place}/{event}", timeout=120).text
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


def test_one_recipe_is_one_picture_whoever_paints_it_under_load(
    server, pipe, tiny_bundle, tmp_path
):
    given, page = settings(7), Page(server)
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

    ways = {
        "page": lambda n: page.paint(given),
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
