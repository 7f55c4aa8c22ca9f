"""What the patches of Gradio's private parts work around is still so.

Each test looks at Gradio without the patch. One that fails says: Gradio no longer needs it, take
the patch out.
"""

import asyncio
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gradio as gr
import httpx
import pytest
from calling import eventually
from gradio.data_classes import FileData
from visiting import CLOSED, PATIENCE, Late, patient

STEPS = 60


class Counter:
    """An app with a run of many steps that can be stopped, and a button beside it."""

    def __init__(self):
        self.begun, self.steps, self.ended = 0, 0, threading.Semaphore(0)
        self.spoken = 0
        with gr.Blocks(analytics_enabled=False) as self.demo:
            begin, stop = gr.Button("Begin", elem_id="begin"), gr.Button("Stop", elem_id="stop")
            shown, said = gr.Number(), gr.Textbox(elem_id="said")
            run = begin.click(self.run, None, shown, show_progress="hidden")
            stop.click(None, cancels=[run])
            gr.Button("Speak", elem_id="speak").click(self.speak, None, said)
        _, self.address, _ = self.demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)

    def speak(self):
        self.spoken += 1
        return f"spoken {self.spoken}"

    def run(self):
        self.begun += 1
        try:
            for self.steps in range(1, STEPS + 1):
                time.sleep(0.02)  # what a step of a model takes
                yield self.steps
        finally:
            self.ended.release()


@pytest.fixture
def counter():
    counter = Counter()
    yield counter
    counter.demo.close()


@pytest.fixture
def plain(browser, counter):
    page = patient(browser.new_page())
    page.goto(counter.address)
    page.wait_for_selector("#begin")
    yield page
    page.close()


def test_a_stop_at_once_is_not_heard(plain, counter):
    plain.evaluate("for (const id of ['begin', 'stop']) document.getElementById(id).click()")
    assert counter.ended.acquire(timeout=PATIENCE / 1000)
    assert counter.steps == STEPS  # shared/turns.js lets Stop wait


def test_a_run_that_is_begun_before_the_last_has_ended_is_passed_over(plain, counter):
    plain.click("#begin")
    plain.wait_for_function("document.querySelector('input[type=number]').value > 2")
    plain.evaluate("for (const id of ['stop', 'begin']) document.getElementById(id).click()")
    assert counter.ended.acquire(timeout=PATIENCE / 1000)
    plain.click("#speak")
    spoken(plain, 1)
    assert counter.begun == 1  # shared/turns.js lets Generate wait


def spoken(page, times: int) -> None:
    page.wait_for_function(f"document.querySelector('#said textarea').value === 'spoken {times}'")


def test_what_is_accepted_before_the_end_of_a_stream_is_heard_is_not_answered(plain, counter):
    late, streams = Late(plain), []
    plain.on("request", lambda request: streams.append("queue/data" in request.url))
    late.hold(CLOSED, lambda: plain.click("#speak"))
    spoken(plain, 1)
    late.let_go(lambda: plain.click("#speak"))
    plain.wait_for_function("window.late.cut")
    assert eventually(lambda: counter.spoken == 2)
    plain.evaluate("new Promise(requestAnimationFrame)")  # requests are told meanwhile
    assert plain.input_value("#said textarea") == "spoken 1"
    assert sum(streams) == 1  # nothing to hear it on: shared/patches.js lets the library wait


def test_a_page_cuts_its_line_before_it_is_left(plain, counter):
    said = []
    plain.on("console", lambda message: said.append(message.text))
    plain.route(
        "**/elsewhere", lambda route: route.fulfill(status=204)
    )  # an answer that is no page
    plain.click("#begin")
    plain.wait_for_function("document.querySelector('input[type=number]').value > 2")
    plain.evaluate("location.assign('elsewhere')")
    assert counter.ended.acquire(timeout=PATIENCE / 1000)
    assert counter.steps < STEPS
    assert any("AbortError" in one for one in said)


def test_an_upload_button_tells_of_a_file_only_when_it_has_arrived():
    assert {str(event) for event in gr.UploadButton.EVENTS} == {"change", "click", "upload"}


def test_an_upload_button_with_file_types_judges_by_the_name(tmp_path):
    (tmp_path / "photo").write_bytes(b"a picture, for all it knows")
    button = gr.UploadButton(file_types=["image"])
    with pytest.raises(gr.Error):
        button.preprocess(FileData(path=str(tmp_path / "photo")))


def test_the_length_of_the_line_is_told_at_an_address_only(counter):
    answer = httpx.get(f"{counter.address}gradio_api/queue/status").json()
    assert answer["queue_size"] == 0


# ---- in Python -----------------------------------------------------------------------------------


def endpoint(picture: FileData | None = None, k: int = 3) -> int:
    """Counts.

    Args:
        picture: what to look at.
        k: how many.
    """
    return k


def with_endpoint() -> gr.Blocks:
    with gr.Blocks(analytics_enabled=False) as demo:
        gr.api(endpoint, api_name="count")
    return demo


def test_an_address_in_place_of_a_file_is_fetched(monkeypatch):
    asked = []

    async def fetch(url: str, *_: object, **__: object) -> str:
        asked.append(url)
        return str(Path(__file__))

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    block = gr.Image()
    move = block.async_move_resource_to_block_cache("https://example.invalid/cat.png")
    with ThreadPoolExecutor(1) as threads:  # the browser's own loop runs in this one
        threads.submit(asyncio.run, move).result()
    assert asked == ["https://example.invalid/cat.png"]


def test_a_call_without_its_last_arguments_is_refused():
    demo = with_endpoint()
    listener = next(iter(demo.fns.values()))
    with pytest.raises(ValueError, match="didn't receive enough"):
        demo.validate_inputs(listener, [None])


def test_the_documentation_of_an_endpoint_says_nothing_of_its_arguments():
    shown = with_endpoint().get_api_info()["named_endpoints"]["/count"]["parameters"]
    assert "how many" not in str(shown)


def test_the_folder_that_is_set_after_the_import_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "set"))
    monkeypatch.setattr("gradio.routes.DEFAULT_TEMP_DIR", str(tmp_path / "imported"))
    with gr.Blocks(analytics_enabled=False) as demo:
        gr.Number()
    gr.routes.App.create_app(demo)
    assert [folder.name for folder in tmp_path.iterdir()] == ["imported"]


def test_a_server_gives_its_own_page_three_seconds():
    assert "timeout=3," in inspect.getsource(gr.networking.url_ok)  # `_frontend` in server.py


def test_whoever_calls_is_kept_with_what_was_sent():
    with gr.Blocks(analytics_enabled=False) as demo:
        box = gr.Textbox()
    sessions = gr.state_holder.StateHolder()
    sessions.set_blocks(demo)
    sessions["anybody"]._update_value_in_config(box._id, "what was sent")
    kept = sessions.session_data["anybody"].config_values[box._id]["props"]
    assert kept["value"] == "what was sent"


def test_a_file_is_copied_to_where_its_content_says(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    move = gr.File().async_move_resource_to_block_cache(str(tmp_path / "a.txt"))
    with ThreadPoolExecutor(1) as threads:
        copy = threads.submit(asyncio.run, move).result()
    assert Path(copy).parent != tmp_path
