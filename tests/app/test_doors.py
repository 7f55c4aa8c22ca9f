"""What strangers try on a public page: paths, addresses, floods, markup, names of other hosts."""

import contextlib
import http.client
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from calling import call, trigger
from conftest import picture
from visiting import Visit, canvas, save

from rissole.app import disk
from rissole.app.address import TRUSTED, believing, neighborhood
from rissole.app.limits import Limits
from rissole.app.links import decode
from rissole.app.routes import NAMES, VALUES
from rissole.app.server import MAX_UPLOAD_MB, serve
from rissole.config import Recipe, RissoleError
from rissole.data.images import save_png
from rissole.retrieval.contents import build_database
from rissole.storage.manifest import latent_fingerprint, read_manifest, write_manifest

ROOT = Path(__file__).parents[2]
LINE = "There is nothing at this address."
UPLOAD = "Choose one picture file"


def raw(address: str, method: str, path: str, **headers: str) -> tuple[int, str, dict]:
    """One request letter by letter: nothing is tidied up on the way."""
    url = httpx.URL(address)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=180)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace"), dict(answer.getheaders())
    finally:
        connection.close()


# ---- paths ---------------------------------------------------------------------------------------


@pytest.fixture
def strange(pipe, tmp_path) -> dict[str, str]:
    """Paths that are no upload; most lead to a picture that could be read."""
    from rissole.app.uploads import private_folder

    outside = tmp_path / "private.png"
    pipe.database.image(4).save(outside)
    link = private_folder() / f"{tmp_path.name}.png"
    link.symlink_to(outside)
    (private_folder() / tmp_path.name).symlink_to(tmp_path)
    return {
        "existing": str(outside),
        "missing": str(tmp_path / "missing.png"),
        "link": str(link),
        "through a link": str(private_folder() / tmp_path.name / outside.name),
        "climbing": f"{private_folder()}/../{os.path.relpath(outside, private_folder().parent)}",
        "folder": str(private_folder()),
        "device": "/dev/zero",
        "zero": "\0",
        "long": "a" * 5000,
        "empty": "",
        "scheme": f"file://{outside}",
    }


MARKED = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("mark", [{}, MARKED], ids=["bare", "marked"])
def test_no_endpoint_reads_a_file_that_was_not_sent(address, strange, mark):
    answers = {
        (endpoint, kind): call(address, endpoint, [*before, {"path": path, **mark}])
        for kind, path in strange.items()
        for endpoint, before in (
            ("retrieve", []),
            ("generate", [None, None]),
            ("regenerate_block", [0, 0, None]),
        )
    }
    wrong = {name: said for name, said in answers.items() if UPLOAD not in said}
    assert wrong == {}
    assert len(set(answers.values())) == 1  # nothing tells an existing file from a missing one


@pytest.mark.parametrize("part", ["rs-upload", "rs-opened", "rs-add"])
@pytest.mark.parametrize("mark", [{}, MARKED], ids=["bare", "marked"])
def test_no_button_reads_a_file_that_was_not_sent(address, strange, part, mark):
    for path in strange.values():
        message = trigger(address, part, "upload", {"path": path, **mark})
        assert not message["success"]
        assert UPLOAD in message["output"]["error"], path


def test_own_photos_are_files_that_were_sent(address, strange):
    message = trigger(address, "rs-memory", "photos", 4, {"files": list(strange.values())})
    assert "None of the files is a photo" in message["output"]["error"]


@pytest.mark.parametrize("key", ["hits", "blocks"])
def test_a_file_cannot_ride_in_what_the_page_sends_back(address, strange, key):
    ride = {"path": str(ROOT / "README.md"), **MARKED}
    value = {"hits": [], "blocks": {}, key: [ride] if key == "hits" else {"0,0": ride}}
    message = trigger(address, "rs-surprise", "click", value)
    assert UPLOAD in message["output"]["error"]


def test_a_file_that_was_sent_is_read(address, pipe, tmp_path):
    pipe.database.image(4).save(tmp_path / "query.png")
    with (tmp_path / "query.png").open("rb") as file:
        (path,) = httpx.post(f"{address}gradio_api/upload", files={"files": file}).json()
    assert '"ids": [4' in call(address, "retrieve", [{"path": path}, None, 3])
    assert httpx.get(f"{address}gradio_api/file={path}").status_code == 200


def test_only_files_of_this_server_are_served(address, strange):
    for kind, path in strange.items():
        if kind != "zero":
            status, said, _ = raw(address, "GET", f"/gradio_api/file={path}")
            assert (status, said) == (404, LINE), kind


@pytest.fixture
def apps() -> Iterator[list[subprocess.Popen]]:
    """Apps in processes of their own, started by the test; none outlives it."""
    started: list[subprocess.Popen] = []
    yield started
    for app in started:
        app.kill()
        app.wait()


def start(apps: list, bundle: Path, files: Path, **environment: str) -> str:
    """Starts an app that makes its folder in `files`; returns its address once it listens."""
    here = {**os.environ, "GRADIO_TEMP_DIR": str(files), **environment}
    command = [sys.executable, "-u", "app.py", "--bundle", str(bundle)]
    app = subprocess.Popen(command, cwd=ROOT, env=here, stdout=subprocess.PIPE, text=True)
    apps.append(app)
    found = next(filter(None, (re.search(r"http://\S+", line) for line in app.stdout)))
    return f"{found[0]}/"


def test_two_apps_share_no_folder_and_leave_none(apps, tiny_bundle, tmp_path):
    # a proxy for the world is in nobody's way, even one that could not be used at all
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "nonsense://127.0.0.1:9"}
    for more in ({}, proxies):
        address = start(apps, tiny_bundle, tmp_path / "files", **more)
        assert httpx.get(address).status_code == 200
    folders = list((tmp_path / "files").iterdir())
    assert len(folders) == 2
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}
    for app in apps:
        app.send_signal(signal.SIGTERM)
    assert [app.wait(60) for app in apps] == [128 + signal.SIGTERM] * 2
    assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRADIO_SERVER_NAME", "256.1.1.1"),
        ("GRADIO_SERVER_NAME", "no such name"),
        ("GRADIO_SERVER_PORT", "web"),
        ("GRADIO_SERVER_PORT", "70000"),
        ("GRADIO_SERVER_PORT", ""),
    ],
)
def test_a_wrong_address_in_the_environment_is_one_line(pipe, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(RissoleError, match=r"256.1.1.1|no such name|GRADIO_SERVER_PORT") as error:
        serve(pipe, prevent_thread_lock=True)
    assert "\n" not in str(error.value)


# ---- addresses -----------------------------------------------------------------------------------

REFUSED = [
    *("/gradio_api/file/http://example.com/", "/gradio_api/file/etc/hostname"),
    *("/gradio_api/file=http://example.com/", "/gradio_api/file=HTTPS://example.com/"),
    *("//gradio_api/file=http://example.com/", "/file=http://example.com/", "/file/etc/hostname"),
    *("/gradio_api/proxy=https://x.hf.space/", "/proxy=https://x.hf.space/"),
    *("/monitoring", "/monitoring/summary", "/monitoring/key"),
    *("/gradio_api/dev/reload", "/dev/reload", "/gradio_api/vibe-code", "/gradio_api/vibe-code/"),
    *("/gradio_api/deep_link?session_hash=a", "/gradio_api/custom_component/a/client/b/c.js"),
    *("/gradio_api/runs", "/gradio_api/openapi.json", "/openapi.json", "/docs", "/gradio_api/mcp"),
    *("/gradio_api/stream/a/b/1/playlist.m3u8", "/gradio_api/stream/a/b/1/playlist-file"),
    *("/gradio_api/token", "/gradio_api/user", "/login", "/logout", "/svelte/svelte.js"),
    *("/gradio_api/call/other/1", "/gradio_api/%66ile/http://example.com/", "/pwa_icon/100000"),
    *("/gradio_api/upload_progress?upload_id=a", "/gradio_api/profiling/traces", "/nothing"),
]
REFUSED_POSTS = [
    *("/gradio_api/run/generate", "/gradio_api/run/generate/", "/gradio_api/api/generate"),
    *("/gradio_api/run/predict", "/run/generate", "/api/predict", "/gradio_api/call/other"),
    *("/gradio_api/process_recording", "/gradio_api/component_server", "/gradio_api/stream/a"),
    *("/gradio_api/vibe-edit", "/gradio_api/undo-vibe-edit", "/gradio_api/vibe-starter-queries"),
    *("/gradio_api/profiling/clear", "/gradio_api/run-history/connect", "/login", "/"),
]


@pytest.mark.parametrize("path", REFUSED)
def test_addresses_that_are_not_there(address, path):
    for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        status, said, _ = raw(address, method, path)
        assert (status, said) == (404, "" if method == "HEAD" else LINE), method


@pytest.mark.parametrize("path", REFUSED_POSTS)
def test_nothing_is_done_outside_the_queue(address, path):
    body = {"data": [None] * 13, "fn_index": 0, "session_hash": "a", "event_data": None}
    answer = httpx.post(address.rstrip("/") + path, json=body)
    assert (answer.status_code, answer.text) == (404, LINE)


def paths(routes: list) -> Iterator[tuple[str, set[str]]]:
    """(path, methods) of all routes, those of routers within included."""
    for route in routes:
        if hasattr(route, "methods"):
            yield route.path, route.methods or set()
        else:
            yield from paths(route.original_router.routes)


def test_no_route_of_the_library_opens_by_itself(pipe):
    """Whatever routes there are: those that are not listed answer as if they were not there."""
    from rissole.app.routes import listed

    app, address, _ = serve(pipe, prevent_thread_lock=True)
    try:
        there = [
            (method, re.sub(r"\{[^}]+\}", "1", path))
            for path, methods in paths(app.routes)
            for method in methods
        ]
        unlisted = [one for one in there if not listed(*one)]
        assert len(unlisted) > 60
        for method, path in unlisted:
            status, said, _ = raw(address, method, path)
            assert (status, said) == (404, "" if method == "HEAD" else LINE), (method, path)
    finally:
        app.get_blocks().close()


def test_behind_a_proxy_the_app_may_live_under_a_path(pipe):
    app, address, _ = serve(pipe, prevent_thread_lock=True, root_path="/cats")
    try:
        for path in ("/", "/cats/", "/config", "/cats/config", "/cats/here"):
            assert raw(address, "GET", path)[0] in (200, 204), path
        for path in ("/cats/monitoring", "/cats/cats/config", "/catsconfig"):
            assert raw(address, "GET", path)[:2] == (404, LINE), path
    finally:
        app.get_blocks().close()


def test_a_flood_does_not_keep_a_visitor_from_painting(visit, address):
    """Sixty programs ask at once for the most work, past the queue and through it."""
    heavy = {"data": [[1], None, None, None, "sequential", 4, 200, 2.0, 1]}
    light = {"data": [[1], None, None, None, "parallel", 1, 1, 1.0, 1]}

    def post(number: int) -> int:
        place, body = ("call", light) if number % 2 else ("run", heavy)
        return httpx.post(f"{address}gradio_api/{place}/generate", json=body).status_code

    with ThreadPoolExecutor(60) as pool:
        codes = [pool.submit(post, number) for number in range(60)]
        visit.set_steps(2)
        visit.page.click("#rs-generate")
        assert {code.result() for code in codes} == {200, 404}
        visit.finish()
    assert canvas(visit.page).any()


# ---- bodies --------------------------------------------------------------------------------------

PART = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
BODIES = [
    ("gradio_api/upload", (MAX_UPLOAD_MB + 1) * 2**20, "The request is larger than 20 MB."),
    ("gradio_api/call/retrieve", VALUES, "That is more than this page ever sends."),
    ("gradio_api/call/v2/generate", VALUES, "That is more than this page ever sends."),
    ("gradio_api/queue/join", VALUES, "That is more than this page ever sends."),
    ("gradio_api/cancel", NAMES, "That is more than this page ever sends."),
]


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("path", "most", "said"), BODIES)
def test_a_body_is_refused_once_it_is_too_large(address, path, most, said, declared):
    """What is declared before any of it came, the rest at the byte that is too much."""
    url = httpx.URL(address + path)
    with socket.create_connection((url.host, url.port), timeout=180) as line:
        head = f"POST {url.path} HTTP/1.1\r\nHost: localhost\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\n"
        kind = f"Content-Length: {10**9}" if declared else "Transfer-Encoding: chunked"
        line.sendall(f"{head}{kind}\r\n\r\n".encode())
        if not declared:  # one byte more than may be, and no end
            line.sendall(b"%x\r\n" % (most + 1) + PART + bytes(most + 1 - len(PART)))
        answer = line.recv(4096).decode()
        while said[-9:] not in answer and (more := line.recv(4096)):
            answer += more.decode()
    assert answer.startswith("HTTP/1.1 413")
    assert answer.endswith(said)
    assert httpx.get(f"{address}here").status_code == 204


def test_a_photo_that_is_too_large_is_told_where_it_was_chosen(visit, tmp_path):
    (tmp_path / "huge.png").write_bytes(bytes((MAX_UPLOAD_MB + 2) * 2**20))
    with visit.page.expect_file_chooser() as chooser:
        visit.page.click("#rs-upload")
    chooser.value.set_files(tmp_path / "huge.png")
    visit.page.wait_for_selector(".toast-message-text:text-is('The request is larger than 20 MB.')")
    visit.troubles.clear()  # the browser reports the answer


# ---- addresses of visitors -----------------------------------------------------------------------

ROOM = "There is no room for more right now. Please try again in a few minutes."


@contextlib.contextmanager
def served(pipe, **options) -> Iterator[str]:
    app, address, _ = serve(pipe, prevent_thread_lock=True, **options)
    try:
        yield address
    finally:
        app.get_blocks().close()


def at(host: str) -> dict[str, str]:
    return {"X-Forwarded-For": host}


@pytest.mark.parametrize("proxies", ["127.0.0.1", None], ids=["believed", "not believed"])
def test_one_address_leaves_room_for_others(pipe, monkeypatch, tmp_path, proxies):
    """Visits and files of one, up to its limits; whoever claims another is believed by order."""
    monkeypatch.setattr(disk, "private_folder", lambda: tmp_path)  # without what others have sent
    monkeypatch.setattr(disk, "SENT_BYTES", 1000)
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    limits = Limits(visits=2, share=50)
    with contextlib.ExitStack() as stack:
        stack.enter_context(believing(proxies))
        address = stack.enter_context(served(pipe, limits=limits))

        def beat(visit: str, host: str) -> httpx.Response:
            line = f"{address}gradio_api/heartbeat/{visit}"
            return stack.enter_context(httpx.stream("GET", line, headers=at(host), timeout=180))

        def sent(size: int, host: str) -> tuple[int, str]:
            place, files = f"{address}gradio_api/upload", {"files": ("a.png", bytes(size))}
            answer = httpx.post(place, files=files, headers=at(host))
            return answer.status_code, answer.text

        assert [beat(visit, "203.0.113.7").status_code for visit in "ab"] == [200, 200]
        refused = beat("c", "203.0.113.7")
        assert (refused.status_code, refused.read().decode()) == (429, ROOM)
        assert beat("a", "203.0.113.7").status_code == 200  # the same visit, on another line
        assert [sent(size, "203.0.113.7")[0] for size in (300, 100)] == [200, 200]
        assert sent(101, "203.0.113.7") == (507, ROOM)
        others = (beat("d", "203.0.113.8").status_code, sent(101, "203.0.113.8")[0])
        assert others == ((200, 200) if proxies else (429, 507))
        made_up = "203.0.113.9, 203.0.113.7"  # the left one is what the visitor wrote
        assert sent(101, made_up)[0] == 507


def test_whose_word_is_taken_for_an_address(monkeypatch):
    for name in (TRUSTED, "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)

    def found(proxies: str | None = None) -> str:
        with believing(proxies):
            return os.environ[TRUSTED]

    assert (found(), found("10.0.0.1"), TRUSTED in os.environ) == ("", "10.0.0.1", False)
    monkeypatch.setenv("SPACE_ID", "somebody/cats")
    assert "10.0.0.0/8" in found()
    monkeypatch.setenv(TRUSTED, "10.2.3.4")
    assert (found(), found("10.0.0.1"), os.environ[TRUSTED]) == ("10.2.3.4", "10.0.0.1", "10.2.3.4")


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", "no address"),
    ],
)
def test_an_address_of_ipv6_counts_as_its_network(host, whose):
    assert neighborhood(host) == whose


# ---- markup --------------------------------------------------------------------------------------

MARKUP = "<img src=//a.b/c><b>"


def toasted(visit) -> str:
    toast = visit.page.locator("[data-testid=toast-body]").first
    toast.wait_for()
    assert toast.locator("img, b, a, form, input").count() == 0
    return toast.inner_text()


def test_markup_in_a_link_is_shown_letter_by_letter(visit, address):
    visit.go(f"{address}?b=%3Cimg%20src%3D//a.b/c%3E%3Cb%3E&p=n1")
    assert MARKUP in toasted(visit)
    visit.page.wait_for_selector(".rs-hit")


def test_markup_in_a_picture_is_shown_letter_by_letter(visit, pipe, tmp_path):
    recipe = {"neighbors": [1], MARKUP: 1, "<form action=//a.b><input name=password>" * 20: 2}
    save_png(pipe.database.image(1), tmp_path / "odd.png", recipe)
    visit.page.locator("#rs-opened input[type=file]").or_(
        visit.page.locator("input[type=file]")
    ).last.wait_for(state="attached")
    with visit.page.expect_file_chooser() as chooser:
        visit.page.evaluate("document.querySelector('#rs-opened').click()")
    chooser.value.set_files(tmp_path / "odd.png")
    said = toasted(visit)
    assert "unknown setting: <form action=//a.b>" in said
    assert len(said) < 120


@pytest.fixture(scope="module")
def marked(pipe, tmp_path_factory):
    """Two databases whose names, and those of their classes, are markup."""
    folder = tmp_path_factory.mktemp("marked")
    for name, kinds in (("one", [MARKUP, "<script>ran = 1</script>"]), ("two", [MARKUP, None])):
        pictures, classes = [picture(300 + len(name) * n) for n in range(6)], kinds * 3
        label = f"{name} {MARKUP}"
        build_database(folder / name, pictures, pipe.codec, pipe.embedding, label, classes=classes)
        made_for = latent_fingerprint(read_manifest(pipe.folder))
        write_manifest(folder / name, name, encoder=made_for)
    return folder


def test_markup_in_names_of_databases_and_classes_is_shown_letter_by_letter(browser, pipe, marked):
    start = pipe.with_database(marked / "one")
    with served(start, databases=[marked]) as address:
        visit = Visit(browser, address)
        page = visit.page
        visit.paint(steps=1)
        assert MARKUP in page.locator("[data-of=label] select").inner_text()
        page.select_option("[data-of=label] select", MARKUP)
        page.wait_for_function("document.querySelectorAll('.rs-thumb').length === 3")
        page.wait_for_selector("[data-of=label] select:enabled")
        assert set(page.locator(".rs-class").all_inner_texts()) == {MARKUP}
        page.click(".rs-hit-pick >> nth=0")
        assert f"one {MARKUP}" in page.inner_text(".rs-facts")
        page.select_option("[data-of=database] select", label=f"two {MARKUP} (6)")
        page.wait_for_selector(".rs-memory .rs-said:has-text('Looking')", state="detached")
        page.wait_for_function(
            "(text) => document.querySelector('.rs-facts').innerText.includes(text)",
            arg=f"two {MARKUP}",
        )
        visit.paint(steps=1)
        assert page.locator("img[src*='a.b']").count() == 0
        assert page.evaluate("window.ran") is None
        visit.leave()
        assert visit.troubles == []  # no request to anybody else among them


@pytest.mark.parametrize("seed", [2**53 + 1, 2**64 - 1])
def test_a_seed_of_many_digits_is_the_same_everywhere(visit, address, browser, pipe, seed):
    """Typed, painted, in the file, in the link, opened elsewhere, and asked for by programs."""
    page = visit.page
    page.fill("#rs-seed input", str(seed))
    page.press("#rs-seed input", "Tab")
    visit.paint(steps=1)
    recipe = save(page)
    assert recipe["seed"] == seed
    right = np.asarray(pipe(**recipe).images[0])
    assert (canvas(page) == right).all()
    link = page.locator(".rs-kept").first.get_attribute("data-link")
    assert decode(link) == Recipe.from_dict(recipe)
    other = Visit(browser, address)
    other.go(f"{address}?{link}")
    other.finish()
    assert (canvas(other.page) == right).all()
    assert other.page.input_value("#rs-seed input") == str(seed)
    other.leave()
    for said in (seed, str(seed)):  # programs in JavaScript have no such number
        again = call(address, "generate", [recipe["neighbors"], *[None] * 5, 1, None, said])
        assert f'"seed": {seed}' in again
    page.get_by_label("New seed every time").check()


def test_messages_quote_forty_characters_and_programs_get_them_as_they_are(address):
    said = call(address, "retrieve", [None, None, None, None, "<b>" * 1000])
    assert "<b><b>" in said
    assert len(said) < 300
    for sent in ([None, 10**400], [None, None, 10**400], [None, None, None, None, ["x" * 5000]]):
        said = call(address, "retrieve", sent)
        assert "event: error" in said
        assert len(said) < 300
    far = [[1], None, None, None, None, None, None, 10**400]
    assert "guidance_scale must be from 0 to 20" in call(address, "generate", far)
    message = trigger(address, "rs-memory", "sift", None, {"label": MARKUP})
    assert "&lt;img src" in message["output"]["error"]


# ---- headers and names ---------------------------------------------------------------------------


def test_every_answer_has_safe_headers(address, pipe):
    thumb = f"/thumbs/{pipe.database.fingerprint}/2.webp"
    for path in ("/", "/config", "/theme.css", "/here", thumb, "/nothing"):
        headers = raw(address, "GET", path)[2]
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "same-origin"
        rules = dict(
            rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";")
        )
        assert rules["default-src"] == "'none'"
        for host in ("'self'", "https://huggingface.co", "https://*.hf.space"):
            assert host in rules["frame-ancestors"].split()
        assert "unsafe-inline" not in rules.get("script-src", "")
        assert "http" not in rules.get("script-src", "") + rules.get("connect-src", "")


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xhtml", "a.js", "a.pdf"])
def test_a_file_that_was_sent_runs_nothing_when_it_is_opened(address, name):
    script = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"
    sent = httpx.post(f"{address}gradio_api/upload", files={"files": (name, script)})
    answer = httpx.get(f"{address}gradio_api/file={sent.json()[0]}")
    assert answer.content == script
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "script-src" not in rules


def test_markup_that_gets_in_runs_nothing_and_asks_nobody(visit):
    visit.page.evaluate(
        """() => new Promise((done) => {
          document.addEventListener("securitypolicyviolation", done, { once: true });
          document.body.insertAdjacentHTML("beforeend", `<img src=x: onerror="window.ran = 1">`);
          document.body.append(Object.assign(document.createElement("script"),
            { textContent: "window.ran = 2" }));
        })"""
    )
    assert visit.page.evaluate("window.ran") is None
    asked = "fetch('http://127.0.0.1:9/').then(() => 1, (error) => String(error))"
    assert "Failed to fetch" in visit.page.evaluate(asked)
    assert all("Content Security Policy" in one or "x:" in one for one in visit.troubles)
    visit.troubles.clear()


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]:7"])
def test_a_name_that_anybody_could_own_is_refused(address, name):
    status, said, _ = raw(address, "GET", "/", Host=name)
    assert status == 421
    assert "--names or RISSOLE_NAMES" in said


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:80", "127.0.0.1:7", "[::1]:7860"])
def test_names_of_this_computer_are_answered(address, name):
    assert raw(address, "GET", "/", Host=name)[0] == 200


def test_names_behind_a_proxy_and_in_a_space(monkeypatch):
    from rissole.app.address import Names

    monkeypatch.delenv("SPACE_HOST", raising=False)
    assert "demo.example:443" in Names("127.0.0.1", ["Demo.example"])
    assert "anything" in Names("127.0.0.1", ["*"])
    everywhere = Names("0.0.0.0")
    assert "192.168.0.7:7860" in everywhere
    assert f"{socket.gethostname()}:7860" in everywhere
    assert "evil.example" not in everywhere
    assert "" not in everywhere
    monkeypatch.setenv("SPACE_HOST", "someone-cats.hf.space")
    space = Names("0.0.0.0")
    assert "someone-cats.hf.space" in space
    assert "evil.example" not in space


def test_pages_of_other_sites_send_nothing_to_this_computer(address):
    headers = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    files = {"files": ("a.txt", b"a")}
    answer = httpx.post(f"{address}gradio_api/upload", files=files, headers=headers)
    assert answer.status_code == 403
    assert httpx.post(f"{address}gradio_api/upload", files=files).status_code == 200


# ---- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "own", "found"),
    [
        ("import app", None, "PASSIVE"),
        ("import rissole", None, "PASSIVE"),
        ("import rissole.cli", None, "PASSIVE"),
        ("import rissole", "ACTIVE", "ACTIVE"),
    ],
)
def test_threads_wait_without_spinning_unless_told_otherwise(first, own, found):
    """What the thread library itself says it was told, in a process of its own."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_DISPLAY_ENV": "TRUE"} | ({} if own is None else {"OMP_WAIT_POLICY": own})
    code = f"{first}, sys; assert 'torch' not in sys.modules; import torch"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if "OPENMP DISPLAY ENVIRONMENT" not in done.stderr:
        pytest.skip("this torch has no OpenMP")
    assert re.search(rf"OMP_WAIT_POLICY\s*=\s*'{found}'", done.stderr)
