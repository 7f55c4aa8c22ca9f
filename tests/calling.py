"""How programs, and scripts in the place of the page, ask a server."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import httpx


def call(address: str, endpoint: str, data: list) -> str:
    """One call as any program could send it: no client that checks or uploads first."""
    place = f"{address}gradio_api/call/{endpoint}"
    event = httpx.post(place, json={"data": data}).json()["event_id"]
    return httpx.get(f"{place}/{event}", timeout=60).text


def listener(address: str, part: str, event: str) -> tuple[int, list]:
    """(number of a page function, values of its inputs at first), by the id of what triggers it."""
    config = httpx.get(f"{address}config").json()
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
    stream = {"params": {"session_hash": session}, "timeout": 60}
    with httpx.stream("GET", f"{place}/data", **stream) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the stream ended early")
