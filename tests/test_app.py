"""The app as its visitors use it: a real server, a real client and a real browser."""

import io
import shutil
import struct
import time
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from rissole.config import MAX_REPAINTS, RissoleError
from rissole.images import read_recipe
from rissole.ui import MAX_UPLOAD_MB, Throttle, serve

DRAWN = """() => {
  const canvas = document.querySelector(".rs-pixels");
  const bytes = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let hash = 7;
  for (let i = 0; i < bytes.length; i += 1) hash = (hash * 31 + bytes[i]) | 0;
  return hash;
}"""
WATCH = f"""() => {{
  const look = {DRAWN};
  window.seen = new Set([look()]);
  const again = () => {{ window.seen.add(look()); requestAnimationFrame(again); }};
  again();
}}"""


@pytest.fixture(scope="module")
def address(pipe):
    app, url, _ = serve(pipe, "127.0.0.1", prevent_thread_lock=True)
    yield url
    app.get_blocks().close()


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


# ---- the endpoints -------------------------------------------------------------------------------


def test_retrieve_by_item_leaves_the_item_out(client):
    found = client.predict(item=3, k=5, api_name="/retrieve")
    assert found["item"] == 3
    assert len(set(found["ids"])) == 5
    assert 3 not in found["ids"]
    assert found["scores"] == sorted(found["scores"], reverse=True)


def test_retrieve_by_picture_finds_the_picture(client, pipe, tmp_path):
    file = tmp_path / "query.png"
    pipe.database.image(4).save(file)
    found = client.predict(image=handle_file(file), k=3, api_name="/retrieve")
    assert found["ids"][0] == 4
    assert found["scores"][0] > 0.9


def test_generate_returns_a_png_that_holds_its_recipe(client, pipe):
    path, recipe = client.predict(
        neighbors=[3, 17, 5], grid=2, steps=2, seed=7, order="sequential", api_name="/generate"
    )
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (pipe.image_size, pipe.image_size))
    assert read_recipe(path) == recipe
    assert (recipe["neighbors"], recipe["grid"], recipe["seed"]) == ([3, 17, 5], 2, 7)


def test_generate_same_seed_same_file_other_seed_other_file(client):
    paint = {"item": 2, "k": 4, "steps": 2, "api_name": "/generate"}
    files = [Path(client.predict(seed=seed, **paint)[0]).read_bytes() for seed in (1, 1, 2)]
    assert files[0] == files[1] != files[2]


def test_generate_without_arguments_takes_what_is_shipped(client, pipe):
    _, recipe = client.predict(api_name="/generate")
    shipped = {name: recipe[name] for name in pipe.defaults if name != "k"}
    assert shipped == {name: value for name, value in pipe.defaults.items() if name != "k"}
    assert len(recipe["neighbors"]) == pipe.defaults["k"]


def test_generate_describes_its_parameters(client):
    described = client.view_api(return_format="dict")["named_endpoints"]["/generate"]
    names = [parameter["parameter_name"] for parameter in described["parameters"]]
    assert names[:3] == ["neighbors", "item", "image"]
    assert {"k", "order", "grid", "steps", "guidance_scale", "seed"} <= set(names)


@pytest.fixture(scope="module")
def painted(client):
    """A picture to repaint: (PNG file, recipe)."""
    return client.predict(
        neighbors=[3, 17, 5], grid=4, steps=2, seed=7, order="sequential", api_name="/generate"
    )


def pixels(file) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"), np.int16)


def test_regenerate_block_changes_that_block_only(client, pipe, painted):
    file, recipe = painted
    arguments = {"row": 3, "col": 2, "neighbors": [9, 4], "seed": 11, "steps": 3}
    path, new = client.predict(recipe=recipe, api_name="/regenerate_block", **arguments)
    assert read_recipe(path) == new
    assert (new["init"], new["blocks"], new["neighbors"]) == (recipe, [[3, 2]], [9, 4])
    assert (new["order"], new["grid"], new["guidance_scale"], new["seed"]) == (
        *(recipe["order"], recipe["grid"], recipe["guidance_scale"]),
        11,
    )

    before, after = pipe(**recipe), pipe(**new)
    changed = (before.latents != after.latents).any(1)[0].numpy()
    assert changed[24:, 16:24].all()
    assert changed.sum() == 8 * 8
    assert (pixels(path) == np.asarray(after.images[0])).all()
    moved = (pixels(path) != pixels(file)).any(2)
    assert moved[96:, 64:96].mean() > 0.9
    assert not moved[:64].any()


def test_regenerate_block_takes_the_png_as_well(client, painted):
    file, recipe = painted
    arguments = {"row": 0, "col": 1, "seed": 3, "api_name": "/regenerate_block"}
    by_file = client.predict(image=handle_file(file), **arguments)
    by_recipe = client.predict(recipe=recipe, **arguments)
    assert by_file[1] == by_recipe[1]
    assert Path(by_file[0]).read_bytes() == Path(by_recipe[0]).read_bytes()
    assert by_file[1]["neighbors"] == recipe["neighbors"]


def test_trying_a_block_again_does_not_grow_the_recipe(client, pipe, painted):
    file, recipe = painted
    again = {"row": 1, "col": 1, "api_name": "/regenerate_block"}
    first, once = client.predict(recipe=recipe, seed=1, **again)
    _, twice = client.predict(recipe=once, seed=2, **again)
    assert twice["init"] == recipe
    # what was in the block before had no effect
    nested = pipe(**{**twice, "init": once})
    assert (np.asarray(nested.images[0]) == np.asarray(pipe(**twice).images[0])).all()
    path, back = client.predict(recipe=twice, seed=1, **again)
    assert (back, Path(path).read_bytes()) == (once, Path(first).read_bytes())


def test_regenerate_block_keeps_the_neighbours_of_the_block(client, painted):
    mixed = {**painted[1], "block_neighbors": {"2,0": [8]}}
    for row, ids in ((2, [8]), (3, painted[1]["neighbors"])):
        _, new = client.predict(recipe=mixed, row=row, col=0, api_name="/regenerate_block")
        assert new["neighbors"] == ids


# ---- bad input: one clear line each, and the server lives ----------------------------------------


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD_FILES = {
    "notes.txt": (b"not a picture", "notes.txt is not a picture"),
    "empty.png": (b"", "empty.png is empty"),
    "huge.png": (huge_png(), "huge.png is too large"),
}


def refusal(client: Client, **arguments) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**arguments)
    return str(caught.value)


def assert_one_clear_line(line: str, said: str) -> None:
    assert said in line
    assert "\n" not in line
    assert not any(word in line for word in ("Traceback", "Error", "/tmp", ".py", "show_error"))


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("endpoint", ["/retrieve", "/generate"])
def test_a_bad_file_is_refused(client, tmp_path, name, endpoint):
    content, said = BAD_FILES[name]
    file = tmp_path / name
    file.write_bytes(content)
    line = refusal(client, image=handle_file(file), api_name=endpoint)
    assert_one_clear_line(line, said)
    assert client.predict(item=0, k=1, api_name="/retrieve")["item"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 17}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"item": -1}, "-1"),
        ({"item": 10**6}, "1000000"),
        ({"item": True}, "True"),
        ({"item": "../0"}, "../0"),
        ({"seed": -1}, "seed must be"),
        ({"image": "/etc/hostname"}, "Choose one picture file"),
    ],
)
def test_retrieve_refuses(client, arguments, said):
    assert_one_clear_line(refusal(client, api_name="/retrieve", **arguments), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "k must be"),
        ({"steps": -1}, "num_inference_steps must be"),
        ({"steps": 10**9}, "num_inference_steps must be"),
        ({"grid": 3}, "grid must be"),
        ({"order": "backwards"}, "order must be"),
        ({"guidance_scale": 21}, "guidance_scale must be"),
        ({"seed": 2**63}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"neighbors": []}, "neighbors must"),
        ({"neighbors": "3"}, "neighbors must"),
        ({"neighbors": [10**6]}, "1000000"),
        ({"neighbors": [1], "item": 2}, "not several"),
    ],
)
def test_generate_refuses(client, arguments, said):
    assert_one_clear_line(refusal(client, api_name="/generate", **arguments), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"row": 4}, "row and column must be from 0 to 3"),
        ({"col": -1}, "row and column must be from 0 to 3"),
        ({"row": "a"}, "row and column must be a whole number"),
        ({"col": [1]}, "row and column must be a whole number"),
        ({"row": None}, "row and column must be a whole number"),
        ({"neighbors": []}, "neighbors must"),
        ({"neighbors": [10**6]}, "1000000"),
        ({"steps": 0}, "num_inference_steps must be"),
        ({"guidance_scale": -1}, "guidance_scale must be"),
        ({"seed": 2**63}, "seed must be"),
        ({"recipe": None}, "recipe or image"),
        ({"recipe": {}}, "neighbors must"),
        ({"recipe": [1]}, "must be a mapping"),
        ({"recipe": {"neighbors": [1], "hits": 3}}, "unknown setting: hits"),
        ({"recipe": {"neighbors": [1], "bundle": "abc"}}, "other weights"),
        ({"recipe": {"neighbors": [1], "init": {}}}, "belong together"),
    ],
)
def test_regenerate_block_refuses(client, painted, arguments, said):
    arguments = {"recipe": painted[1], "row": 0, "col": 0, **arguments}
    line = refusal(client, api_name="/regenerate_block", **arguments)
    assert_one_clear_line(line, said)


def test_regenerate_block_refuses_a_recipe_nested_without_end(client, painted):
    recipe = painted[1]
    for n in range(4 * MAX_REPAINTS):
        recipe = {**painted[1], "blocks": [[n % 4, 0]], "init": recipe}
    line = refusal(client, recipe=recipe, row=0, col=1, api_name="/regenerate_block")
    assert_one_clear_line(line, f"repainted {MAX_REPAINTS} times")


def test_regenerate_block_refuses_a_png_without_a_recipe(client, pipe, tmp_path):
    file = tmp_path / "plain.png"
    pipe.database.image(4).save(file)
    line = refusal(client, image=handle_file(file), row=0, col=0, api_name="/regenerate_block")
    assert_one_clear_line(line, "carries no recipe")


def test_a_file_of_another_server_is_not_fetched(address):
    picture = {"path": "http://127.0.0.1:9/cat.png", "meta": {"_type": "gradio.FileData"}}
    assert "not fetched" in call(address, "retrieve", [picture, None, 3, None])
    for route in ("gradio_api/file=http://127.0.0.1:9/", "file=HTTPS://127.0.0.1:9/"):
        assert httpx.get(address + route).status_code == 403


def test_a_file_of_this_server_is_not_read(address):
    file = {"path": str(Path(__file__).resolve()), "meta": {"_type": "gradio.FileData"}}
    answer = call(address, "retrieve", [file, None, 3, None])
    assert "event: error" in answer
    assert Path(__file__).name not in answer


def call(address: str, endpoint: str, data: list) -> str:
    """One call as any program could send it: no client that checks or uploads first."""
    place = f"{address}gradio_api/call/{endpoint}"
    event = httpx.post(place, json={"data": data}).json()["event_id"]
    return httpx.get(f"{place}/{event}", timeout=30).text


@pytest.mark.parametrize("declared", [True, False])
def test_a_huge_body_is_refused(address, declared):
    piece = bytes(2**20)
    pieces = [piece] * (MAX_UPLOAD_MB + 2)
    content = b"".join(pieces) if declared else iter(pieces)
    try:
        answer = httpx.post(f"{address}gradio_api/call/retrieve", content=content, timeout=30)
    except httpx.WriteError:
        pass  # closed while we were still sending, as it may
    else:
        assert answer.status_code == 413
        assert answer.text == f"The request is larger than {MAX_UPLOAD_MB} MB."
    assert httpx.get(address).status_code == 200


def test_thumbnails_have_addresses(address, pipe):
    answer = httpx.get(f"{address}thumbs/2.webp")
    assert "immutable" in answer.headers["cache-control"]
    with Image.open(io.BytesIO(answer.content)) as image:
        thumb = np.asarray(image.convert("RGB"), np.float32)
    assert np.abs(thumb - np.asarray(pipe.database.image(2), np.float32)).mean() < 12
    for path in (f"thumbs/{len(pipe.database)}.webp", "thumbs/-1.webp", "thumbs/..%2f1.webp"):
        assert httpx.get(address + path).status_code == 404


def test_throttle_always_sends_the_last_step_of_a_block():
    throttle = Throttle(rate=1e-6)
    assert [throttle.due(step, 4) for step in (1, 2, 3, 4, 1, 4)] == [1, 0, 0, 1, 0, 1]


def test_an_unknown_bundle_ends_with_one_line_and_code_2(capsys):
    import app

    assert app.main(["--bundle", "no-such-bundle"]) == 2
    said = capsys.readouterr().err
    assert "no-such-bundle" in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [(None, None, "in use"), (None, 99_999, "0 to 65535"), ("256.1.1.1", None, "256.1.1.1")],
)
def test_an_address_that_cannot_be_had_is_refused(pipe, address, host, port, said):
    taken = httpx.URL(address).port
    with pytest.raises(RissoleError, match=said):
        serve(pipe, host, port if host or port else taken, prevent_thread_lock=True)


# ---- the page in a browser -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser found: none of {', '.join(names)} is installed")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A tab on the page that notes what should not happen."""

    def __init__(self, browser, address: str, width: int, height: int):
        self.address, self.troubles = address, []
        self.context = browser.new_context(viewport={"width": width, "height": height})
        self.page = self.context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.troubles.append(f"page error: {error}"))
        self.page.on("request", self._request)
        self.page.goto(address)
        self.page.wait_for_selector(".rs-hit")

    def _console(self, message) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text}")

    def _request(self, request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.troubles.append(f"request to {request.url}")

    def set_steps(self, steps: int) -> None:
        box = self.page.locator("#rs-steps input[type=number]")
        box.fill(str(steps))
        box.press("Tab")

    def wait_for(self, state: str) -> None:
        self.page.wait_for_selector(f"html[data-rissole={state}]", timeout=60_000, state="attached")

    def words(self) -> str:
        return self.page.inner_text(".rs-words")

    def hits(self) -> list[int]:
        return [int(hit.get_attribute("data-id")) for hit in self.page.locator(".rs-hit").all()]

    def overflow(self) -> int:
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


@pytest.fixture
def visit(browser, address, request):
    width, height = getattr(request, "param", (1440, 900))
    visit = Visit(browser, address, width, height)
    yield visit
    visit.context.close()
    assert visit.troubles == []


def test_open_pick_generate_and_download(visit, pipe):
    page = visit.page
    page.click("[data-item='5']")
    page.wait_for_selector(".rs-query-name:has-text('Picture 5 ')")
    ids = pipe.retrieve(item=5, k=pipe.defaults["k"]).ids
    assert visit.hits() == ids

    page.click(".rs-hit >> nth=0")  # switch the nearest one off
    page.get_by_label("One after another").check()
    visit.set_steps(4)
    page.evaluate(WATCH)
    page.click("#rs-generate")
    visit.wait_for("done")
    page.wait_for_timeout(300)
    assert page.evaluate("window.seen.size") > 3
    assert visit.words().startswith("Done in")
    assert page.locator(".rs-tile").count() == len(ids) - 1

    with page.expect_download() as download:
        page.click("#rs-download")
    assert download.value.suggested_filename.endswith(".png")
    file = download.value.path()
    recipe = read_recipe(file)
    assert sorted(recipe["neighbors"]) == sorted(ids[1:])
    assert (recipe["order"], recipe["num_inference_steps"]) == ("sequential", 4)
    assert page.input_value("#rs-seed input") == str(recipe["seed"])
    assert_canvas_shows(page, file)


def assert_canvas_shows(page, file) -> None:
    assert np.abs(canvas(page) - pixels(file)).max() == 0


def canvas(page) -> np.ndarray:
    shown = page.evaluate(
        """() => { const canvas = document.querySelector(".rs-pixels");
          const all = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
          return [canvas.height, canvas.width, [...all.data]]; }"""
    )
    return np.asarray(shown[2], np.int16).reshape(shown[0], shown[1], 4)[..., :3]


@pytest.mark.parametrize("visit", [(390, 844)], indirect=True)
def test_a_phone_needs_no_sideways_scrolling(visit):
    assert visit.overflow() <= 0
    visit.set_steps(2)
    visit.page.click("#rs-generate")
    visit.wait_for("done")
    assert visit.overflow() <= 0
    assert visit.page.locator(".rs-picture").bounding_box()["width"] > 300


def test_stop_keeps_the_picture_so_far(visit):
    page = visit.page
    page.get_by_label("One after another").check()
    visit.set_steps(100)
    page.click("#rs-generate")
    visit.wait_for("running")
    page.wait_for_function("document.querySelector('.rs-pixels').dataset.frames > 2")
    page.click("#rs-stop")
    visit.wait_for("stopped")
    assert visit.words().startswith("Stopped at block")
    page.wait_for_timeout(300)
    kept = page.evaluate(DRAWN)
    page.wait_for_timeout(700)
    assert page.evaluate(DRAWN) == kept

    visit.set_steps(1)
    page.click("#rs-generate")
    visit.wait_for("done")


@pytest.fixture
def under_way(pipe, monkeypatch):
    """The paintings under way on the server, one entry each."""
    stream, entries = pipe.stream, []

    def counted(*args, **options):
        entries.append(None)
        try:
            yield from stream(*args, **options)
        finally:
            entries.pop()

    monkeypatch.setattr(pipe, "stream", counted)
    return entries


@pytest.mark.parametrize("leave", ["stop", "reload", "close"])
def test_leaving_in_mid_run_leaves_nothing_running(visit, under_way, leave):
    visit.page.get_by_label("One after another").check()
    visit.set_steps(100)
    visit.page.click("#rs-generate")
    visit.wait_for("running")
    assert len(under_way) == 1
    if leave == "stop":
        visit.page.click("#rs-stop")
    elif leave == "reload":
        visit.page.reload()
    else:
        visit.page.close()
    visit.troubles.clear()  # the library reports a stream that ends with its page
    deadline = time.monotonic() + 5
    while under_way and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not under_way


def test_keys_paint_and_move_between_blocks(visit):
    page = visit.page
    visit.set_steps(3)
    page.keyboard.press("Control+Enter")
    visit.wait_for("done")
    page.click(".rs-cell >> nth=0")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".rs-focus-name") == "Row 2, column 2"
    assert page.locator(".rs-cell[aria-selected=true]").get_attribute("data-at") == "5"
    shares = [int(text.split()[0]) for text in page.locator(".rs-percent").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=len(shares))


def save(page) -> dict:
    with page.expect_download() as download:
        page.click("#rs-download")
    file = download.value.path()
    assert_canvas_shows(page, file)
    return read_recipe(file)


def test_repaint_a_block_and_go_back(visit, pipe):
    page = visit.page
    assert page.locator(".rs-repaint").is_hidden()
    visit.set_steps(3)
    page.click("#rs-generate")
    visit.wait_for("done")
    page.wait_for_timeout(200)
    assert page.locator(".rs-undo").is_hidden()
    first, recipe = canvas(page), save(page)

    page.get_by_label("2 × 2").check()  # the picture on show keeps its own grid
    page.click(".rs-hit >> nth=1")  # the repaint takes the neighbours that are on now
    page.click("[data-at='13']")
    page.click(".rs-repaint")
    page.wait_for_selector(".rs-words:has-text('Row 4, column 2 repainted in')")
    page.wait_for_timeout(200)  # the last frame is decoded off screen
    drawn, second, new = page.evaluate(DRAWN), canvas(page), save(page)
    moved = (second != first).any(2)
    assert moved[96:, 32:64].mean() > 0.9
    assert not moved[:64].any()
    assert (new["init"], new["blocks"], new["grid"]) == (recipe, [[3, 1]], 4)
    assert set(new["neighbors"]) < set(recipe["neighbors"])
    assert page.locator(".rs-tile").count() == len(recipe["neighbors"]) - 1
    page.click("[data-at='1']")  # painted before, with one neighbour more
    assert page.locator(".rs-percent").count() == len(recipe["neighbors"])

    page.keyboard.press("r")
    page.wait_for_selector(".rs-words:has-text('Row 1, column 2 repainted')")
    page.wait_for_timeout(200)
    third = save(page)
    assert (third["init"], third["blocks"]) == (new, [[0, 1]])
    page.focus(".rs-cell[aria-selected=true]")
    page.keyboard.press("r")  # once more: only the seed is another
    page.locator(".rs-repaint").wait_for(state="hidden")
    visit.wait_for("done")
    page.wait_for_timeout(200)
    fourth = save(page)
    assert fourth == {**third, "seed": fourth["seed"]} != third
    assert (canvas(page) == np.asarray(pipe(**fourth).images[0])).all()
    page.click(".rs-undo")
    page.wait_for_selector(".rs-words:has-text('Back at the picture before')")
    page.wait_for_timeout(200)
    assert save(page) == third

    page.focus(".rs-cell[aria-selected=true]")
    page.keyboard.press("z")
    page.wait_for_function(f"({DRAWN})() === {drawn}")
    assert (canvas(page) == second).all()
    page.click(".rs-undo")
    page.locator(".rs-undo").wait_for(state="hidden")
    page.wait_for_timeout(200)
    assert (canvas(page) == first).all()
    # the button that was pressed is gone, and the focus is not lost
    assert page.evaluate("document.activeElement.className") == "rs-cell"
    assert save(page) == recipe


def test_stop_during_a_repaint_keeps_the_rest_and_goes_back(visit):
    page = visit.page
    visit.set_steps(2)
    page.click("#rs-generate")
    visit.wait_for("done")
    page.wait_for_timeout(200)
    first = canvas(page)
    visit.set_steps(100)
    page.click("[data-at='5']")
    page.keyboard.press("r")
    visit.wait_for("running")
    page.keyboard.press("r")  # not while one is under way
    frames = int(page.get_attribute(".rs-pixels", "data-frames"))
    page.wait_for_function(f"document.querySelector('.rs-pixels').dataset.frames > {frames + 1}")
    page.keyboard.press("Escape")
    visit.wait_for("stopped")
    assert visit.words().startswith("Stopped at row 2, column 2, step")
    page.wait_for_timeout(300)
    moved = (canvas(page) != first).any(2)
    assert moved[32:64, 32:64].any()
    moved[32:64, 32:64] = False
    assert not moved.any()
    assert page.locator(".rs-repaint").is_hidden()

    page.click(".rs-undo")
    visit.wait_for("done")
    page.wait_for_timeout(200)
    assert (canvas(page) == first).all()


@pytest.mark.parametrize("visit", [(390, 844)], indirect=True)
def test_going_back_has_an_end(visit, monkeypatch):
    monkeypatch.setattr("rissole.ui.painting.PICTURES_KEPT", 2)
    page = visit.page
    visit.set_steps(1)
    seen = []
    for _ in range(3):
        page.locator("html").evaluate("html => { html.dataset.rissole = 'asked'; }")
        page.click("#rs-generate")
        visit.wait_for("done")
        page.wait_for_timeout(200)
        seen.append(canvas(page))
    assert visit.overflow() <= 0
    page.click(".rs-undo")
    page.locator(".rs-undo").wait_for(state="hidden")
    page.wait_for_timeout(200)
    assert (canvas(page) == seen[1]).all()


def test_one_neighbour_stays_on(visit):
    for hit in visit.page.locator(".rs-hit").all():
        hit.click()
    assert visit.page.locator(".rs-hit[aria-pressed=true]").count() == 1
    assert "has to stay on" in visit.page.inner_text(".rs-hits-hint")


def test_k_changes_the_number_of_neighbours(visit):
    box = visit.page.locator("#rs-k input[type=number]")
    box.fill("3")
    box.press("Tab")
    visit.page.wait_for_function("document.querySelectorAll('.rs-hit').length === 3")


def test_upload_of_a_picture_and_of_something_else(visit, pipe, tmp_path):
    page = visit.page
    good, bad = tmp_path / "mine.png", tmp_path / "notes.txt"
    pipe.database.image(6).resize((200, 150)).save(good)
    bad.write_text("not a picture")
    upload(page, good)
    page.wait_for_selector(".rs-query-name:has-text('Your upload')")
    before = visit.hits()
    upload(page, bad)
    page.wait_for_selector("text=notes.txt is not a picture")
    assert visit.hits() == before


def upload(page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.click("#rs-upload")
    chooser.value.set_files(file)


def test_an_error_while_painting_is_said_on_the_canvas(visit):
    visit.page.locator("#rs-seed input").fill("-5")
    visit.page.get_by_label("New seed every time").uncheck()
    visit.page.click("#rs-generate")
    visit.wait_for("error")
    assert "seed must be from 0" in visit.words()
    visit.page.get_by_label("New seed every time").check()
    visit.set_steps(1)
    visit.page.click("#rs-generate")
    visit.wait_for("done")
