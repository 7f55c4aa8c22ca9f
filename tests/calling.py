"""How programs, and scripts in the place of the page, ask a server."""

from __future__ import annotations

import inspect
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx


def eventually(condition: Callable[[], object]) -> object:
    """Whether something comes true within three minutes."""
    deadline = time.monotonic() + 180
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def result_of(steps: Any) -> Any:
    """What a handler answers, in the end or at once."""
    while inspect.isgenerator(steps):
        try:
            next(steps)
        except StopIteration as end:
            return end.value
    return steps


def call(address: str, endpoint: str, data: list) -> str:
    """One call as any program could send it: no client that checks or uploads first."""
    place = f"{address}gradio_api/call/{endpoint}"
    event = httpx.post(place, json={"data": data}).json()["event_id"]
    return httpx.get(f"{place}/{event}", timeout=180).text


def listener(address: str, part: str, event: str) -> tuple[int, list]:
    """(number of a page function, values of its inputs at first), by the id of what triggers it."""
    return listed(httpx.get(f"{address}config").json(), part, event)


def listed(config: dict, part: str, event: str) -> tuple[int, list]:
    """The same, where a page's configuration is at hand."""
    parts = {c["id"]: c["props"] for c in config["components"]}
    (found,) = (number for number, props in parts.items() if props.get("elem_id") == part)
    for function in config["dependencies"]:
        if [found, event] in function["targets"] and function["backend_fn"]:
            return function["id"], [parts[number].get("value") for number in function["inputs"]]
    raise LookupError(f"{part} {event}")


def trigger(
    address: str,
    part: str,
    event: str,
    last: object = None,
    sent: object = None,
    inputs: Mapping[int, object] | None = None,
) -> dict:
    """Runs a page function as its script would; returns the final message.

    Args:
        last: value of the last input; all others are as at first.
        sent: what the event carries.
        inputs: other inputs, by their place.
    """
    number, data = listener(address, part, event)
    for at, value in (inputs or {}).items():
        data[at] = value
    session = os.urandom(5).hex()
    body = {"data": [*data[:-1], last], "fn_index": number, "event_data": sent}
    place = f"{address}gradio_api/queue"
    httpx.post(f"{place}/join", json={**body, "session_hash": session}).raise_for_status()
    stream = {"params": {"session_hash": session}, "timeout": 180}
    with httpx.stream("GET", f"{place}/data", **stream) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the stream ended early")


class Page:
    """A page as the server sees it: a name, a line that stays open, and events.

    Values of inputs are given by their place among those of the listener, `_2=...`.
    """

    def __init__(self, address: str):
        self.address, self.name = address, os.urandom(6).hex()
        self.http = httpx.Client(timeout=180)
        self.config = self.http.get(f"{address}config").json()
        self.line = self.http.stream("GET", f"{address}gradio_api/heartbeat/{self.name}")
        self.line.__enter__()

    def send(self, file: Path) -> str:
        """Uploads a file; returns where it lies."""
        with file.open("rb") as data:
            answer = self.http.post(f"{self.address}gradio_api/upload", files={"files": data})
        return answer.raise_for_status().json()[0]

    def begin(self, part: str, event: str, sent: object = None, **inputs: object) -> None:
        """Asks for something, whose answer is among `answers`."""
        number, data = listed(self.config, part, event)
        for place, value in inputs.items():
            data[int(place[1:])] = value
        body = {"data": data, "fn_index": number, "event_data": sent, "session_hash": self.name}
        self.http.post(f"{self.address}gradio_api/queue/join", json=body).raise_for_status()

    def answers(self) -> Iterator[dict[str, Any]]:
        """All messages, until there is nothing to wait for; closing it breaks the line off."""
        place = f"{self.address}gradio_api/queue/data"
        with self.http.stream("GET", place, params={"session_hash": self.name}) as lines:
            for line in lines.iter_lines():
                if line:
                    yield json.loads(line.removeprefix("data: "))

    def do(self, part: str, event: str, sent: object = None, **inputs: object) -> dict:
        """The final message of an event.

        Like a browser it listens until the server ends the line: one that is broken off says that
        nobody waits.
        """
        self.begin(part, event, sent, **inputs)
        ends = [one for one in self.answers() if one["msg"] == "process_completed"]
        return ends[-1]

    def use(self, *paths: str) -> dict:
        """Takes files that were sent for own photos."""
        return self.do("rs-memory", "photos", {"files": list(paths), "skipped": []})

    def close(self) -> None:
        """Closes it as a browser does."""
        self.http.post(f"{self.address}left/{self.name}").raise_for_status()
        self.line.__exit__(None, None, None)
        self.http.close()
