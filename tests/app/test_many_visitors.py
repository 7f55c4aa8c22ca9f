"""Many at once, and some who leave: each gets their own picture, a turn, or a clear word."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from calling import eventually, trigger

from rissole.app.limits import Limits
from rissole.app.links import encode

LONG = {"neighbors": [1, 2, 3], "steps": 200, "order": "sequential", "guidance_scale": 1.0}
SHORT = {"neighbors": [4, 5], "steps": 1, "seed": 3}
PLACE = "gradio_api/call"


def ask(address: str, endpoint: str = "generate", **given) -> str:
    """Begins something as any program could; returns where its answer will be."""
    answer = httpx.post(f"{address}{PLACE}/v2/{endpoint}", json=given, timeout=180)
    answer.raise_for_status()
    return f"{address}{PLACE}/{endpoint}/{answer.json()['event_id']}"


def said(place: str) -> str:
    """The last line of an answer."""
    return httpx.get(place, timeout=180).text.strip().splitlines()[-1].removeprefix("data: ")


def painted(address: str, **given) -> str:
    """Hash of the file of a picture."""
    file, _ = json.loads(said(ask(address, **given)))
    answer = httpx.get(f"{address}gradio_api/file={file['path']}", timeout=180)
    return hashlib.sha256(answer.content).hexdigest()


@contextmanager
def listening(*places: str) -> Iterator[None]:
    """Streams on which answers are awaited; all are broken off at the end."""
    with httpx.Client(timeout=180) as client:
        sent = [client.send(client.build_request("GET", p), stream=True) for p in places]
        yield
        for stream in sent:
            stream.close()


# ---- work ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layered(pipe):
    """A recipe of 17 layers, each of which would be allowed."""
    recipe = pipe.recipe(neighbors=[1, 2], seed=0, order="sequential", num_inference_steps=200)
    some = [(row, col) for row in range(4) for col in range(4)][1:]
    for n in range(16):
        given = {"neighbors": [1], "seed": n, "order": "sequential", "num_inference_steps": 200}
        recipe = pipe.recipe(**given, blocks=[(0, 0), *some[n % 3 :]], init=recipe)
    return recipe


def test_what_is_too_much_work_is_refused_at_every_door(address, layered, tmp_path, pipe):
    much = "evaluations of the network, and 3,000 are allowed here"
    lines = [said(ask(address, "regenerate_block", row=3, col=3, recipe=layered.init.to_dict()))]
    for event in ("recall", "film", "sheet"):
        message = trigger(address, "rs-share", event, sent={"link": encode(layered)})
        lines.append(message["output"]["error"])
    table = {"x": {"setting": "seed", "values": "1,2,3,4,5,6"}}
    table["y"] = {"setting": "steps", "values": "195,196,197,198,199,200"}
    hits = {"hits": [{"id": 1, "on": True}]}
    message = trigger(address, "rs-compare", "cross", 0, table, {1: hits})
    lines.append(message["output"]["error"])
    assert [much in line for line in lines] == [True] * 5, lines
    assert painted(address, **SHORT)


# ---- who leaves, and who waits -------------------------------------------------------------------


def test_what_programs_left_stops_within_a_step(address, under_way):
    with listening(ask(address, **LONG), ask(address, **LONG)):
        assert eventually(lambda: under_way)
    assert eventually(lambda: not under_way)
    assert painted(address, **SHORT)


def test_what_nobody_listens_to_is_not_painted_and_is_in_nobodys_way(address, under_way):
    places = [ask(address, **LONG) for _ in range(66)]
    assert painted(address, **SHORT)
    assert not under_way
    with listening(places[-1]):  # it still can be had
        assert eventually(lambda: under_way)
    assert eventually(lambda: not under_way)


def test_the_picture_beneath_is_left_within_a_step_as_well(address, pipe, under_way):
    under = pipe.recipe(neighbors=[1, 2], seed=0, order="sequential", num_inference_steps=200)
    with listening(ask(address, "regenerate_block", row=0, col=0, recipe=under.to_dict(), steps=1)):
        assert eventually(lambda: under_way)
    assert eventually(lambda: not under_way)


def test_a_short_job_does_not_wait_for_a_long_one(address, under_way):
    with listening(ask(address, **LONG)):
        assert eventually(lambda: under_way)
        assert painted(address, **SHORT)
        assert under_way
    assert eventually(lambda: not under_way)


def test_a_burst_of_programs_hears_busy_and_goes_on(address, pipe, monkeypatch):
    stream, gate = pipe.stream, threading.Event()

    def held(*args, **options):
        assert gate.wait(60)
        yield from stream(*args, **options)

    monkeypatch.setattr(pipe, "stream", held)
    with ThreadPoolExecutor(50) as pool:
        burst = [pool.submit(lambda: said(ask(address, **SHORT))) for _ in range(50)]
        assert eventually(lambda: sum(one.done() for one in burst) == 50 - Limits().each)
        told = [one.result() for one in burst if one.done()]
        gate.set()
        rest = [json.loads(one.result())[1]["seed"] for one in burst if one.result() not in told]
    assert all("The server is busy. Please try again in about" in line for line in told)
    assert rest == [SHORT["seed"]] * Limits().each


def test_a_visitor_cannot_stop_or_read_what_another_does(address, under_way):
    place = ask(address, **LONG)
    event = place.rpartition("/")[2]
    with listening(place):
        assert eventually(lambda: under_way)
        for session, number in (("a", event), ("", event[:-1]), ("other", "0" * 32)):
            body = {"session_hash": session, "fn_index": 0, "event_id": number[:-1] + "x"}
            httpx.post(f"{address}gradio_api/cancel", json=body).raise_for_status()
        for other in (event[:-1], event[:-1] + "x", "*", "%2e%2e"):
            answer = httpx.get(f"{address}{PLACE}/generate/{other}", timeout=180)
            assert "404" in answer.text or answer.status_code == 404
        assert under_way
    assert eventually(lambda: not under_way)


# ---- requests that make no sense -----------------------------------------------------------------

DIGITS = "9" * 5000
BODIES = [
    *("{", "[]", "null", "3", '{"data": 3}', '{"data": [' + DIGITS + "]}", "[" * 100_000, ""),
    *('{"data": [' + "null," * 50 + "null]}", '{"data": [[1], "\u0000"]}', '{"data": {"a": 1}}'),
]


@pytest.mark.parametrize("kind", ["call/generate", "call/v2/generate", "queue/join", "cancel"])
def test_a_body_that_makes_no_sense_is_answered_with_a_word(address, kind):
    more = ['{"fn_index": 9999, "data": [], "session_hash": "a"}', '{"nonsense": 1}']
    for body in BODIES + more:
        headers = {"content-type": "application/json"}
        answer = httpx.post(
            f"{address}gradio_api/{kind}", content=body, headers=headers, timeout=180
        )
        assert answer.status_code < 500, body[:40]
        assert answer.text, body[:40]
        assert "Traceback" not in answer.text
        assert ".py" not in answer.text
        if answer.status_code == 200 and "event_id" in answer.json():
            line = said(f"{address}{PLACE}/generate/{answer.json()['event_id']}")
            assert line != "null", body[:40]
            assert '"error": null' not in line, body[:40]


def test_odd_headers_and_forms_are_answered_with_a_word(address, pipe):
    file = httpx.get(address + f"thumbs/{pipe.database.fingerprint}/2.webp")
    assert file.status_code == 200
    form = '--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\nb\r\n--x--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{address}gradio_api/upload", content=form, headers=headers)
    assert 400 <= answer.status_code < 500
    assert answer.text
    (path, _) = json.loads(said(ask(address, **SHORT)))
    place = f"{address}gradio_api/file={path['path']}"
    whole = httpx.get(place).content
    for odd in ("bytes=0-1-2", "bytes=a-b", "lines=0-1", "bytes=--", "bytes=0-" + DIGITS[:400]):
        answer = httpx.get(place, headers={"range": odd})
        assert answer.status_code in (200, 206, 416), odd
        assert answer.status_code != 200 or answer.content == whole


MANY = "at most 1000|more than this page ever sends"
ODD = [
    ({"neighbors": [1], "seed": 10**30}, "seed must be"),
    ({"neighbors": [[1]]}, "must be a whole number"),
    ({"neighbors": {"a": 1}}, "must be a list"),
    ({"neighbors": list(range(100_000))}, MANY),
    ({"k": "many"}, "k must be"),
    ({"k": {"__type__": "update"}}, "k must be"),
    ({"database": {"path": "/etc/passwd"}}, "Choose one picture file"),
    ({"order": ["parallel"]}, "order must be"),
    ({"image": "text"}, "Choose one picture file"),
    ({"image": [1, 2]}, "Choose one picture file"),
    ({"guidance_scale": "NaN"}, "guidance_scale must be a number"),
]
ODD_RECIPES = [
    ({"cls": 1}, "unknown setting: cls"),
    ({"self": 1}, "unknown setting: self"),
    ({"block_neighbors": {"²,0": [1]}}, "whole number"),
    ({"block_neighbors": {DIGITS + ",0": [1]}}, "whole number"),
    ({"block_neighbors": {f"{n},0": [1] for n in range(50_000)}}, MANY),
    ({"block_neighbors": [[0, 0, [1]]] * 80_000}, MANY),
    ({"blocks": ["²,0"], "init": {"neighbors": [1]}}, "whole number"),
    ({"guidance_scale": 10**400}, "guidance_scale must be from"),
]


def test_values_that_make_no_sense_are_answered_with_a_word_and_fast(address):
    began = time.monotonic()
    for given, word in ODD:
        assert re.search(word, said(ask(address, **given))), given
    for given, word in ODD_RECIPES:
        recipe = {"neighbors": [1], **given}
        line = said(ask(address, "regenerate_block", row=0, col=0, recipe=recipe))
        assert re.search(word, line), (str(given)[:60], line)
    assert time.monotonic() - began < 100
    assert painted(address, **SHORT)
