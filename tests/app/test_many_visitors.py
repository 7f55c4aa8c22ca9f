"""Many at once, and some who leave: each gets their own picture, a turn, or a clear word."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

LONG = {"neighbors": [1, 2, 3], "steps": 200, "order": "sequential", "guidance_scale": 1.0}
SHORT = {"neighbors": [4, 5], "steps": 1, "seed": 3}
PLACE = "gradio_api/call"


def ask(address: str, endpoint: str = "generate", **given) -> str:
    """Begins something as any program could; returns where its answer will be."""
    answer = httpx.post(f"{address}{PLACE}/v2/{endpoint}", json=given, timeout=60)
    answer.raise_for_status()
    return f"{address}{PLACE}/{endpoint}/{answer.json()['event_id']}"


def said(place: str) -> str:
    """The last line of an answer."""
    return httpx.get(place, timeout=120).text.strip().splitlines()[-1].removeprefix("data: ")


def painted(address: str, **given) -> str:
    """Hash of the file of a picture."""
    file, _ = json.loads(said(ask(address, **given)))
    answer = httpx.get(f"{address}gradio_api/file={file['path']}", timeout=60)
    return hashlib.sha256(answer.content).hexdigest()


def eventually(condition) -> bool:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@contextmanager
def listening(*places: str) -> Iterator[list[httpx.Response]]:
    """Streams on which answers are awaited; all are broken off at the end."""
    with httpx.Client(timeout=120) as client:
        sent = [client.send(client.build_request("GET", p), stream=True) for p in places]
        yield sent
        for stream in sent:
            stream.close()


# ---- work ----------------------------------------------------------------------------------------


def test_what_is_too_much_work_is_refused_at_every_door(address, pipe, tmp_path):
    much = "evaluations of the network, and 3,000 are allowed here"
    endless = {"steps": 200, "order": "sequential", "guidance_scale": 2.0, "grid": 4}
    line = said(ask(address, neighbors=list(range(16)), **endless))
    assert much not in line  # the most of one picture; it is the sum that counts
