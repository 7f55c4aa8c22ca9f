"""What a browser keeps of an exported page, how it chooses what to compute with, and what it says
where it cannot.

`python -m pytest tests/export/test_kept.py -m slow` (some minutes: it exports a bundle).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi
from pages import KEPT, counting, exported, painted, serving
from visiting import patient

from rissole.export.static_page import FACTS, HEADERS, PAGE, seal

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.slow
WAITING = """() => new Promise((done) => {
  const look = async () => {
    if ((await navigator.serviceWorker.getRegistration())?.waiting) done();
    else setTimeout(look, 50);
  };
  look();
})"""  # a newer service worker holds all files of its version
SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
IMITATED = "navigator.gpu?.requestAdapter().then((one) => Boolean(one))"
TRIED = """async ({base, adapter, limit}) => {
  const { attempts } = await import(`${base}export/web/adapters.js`);
  const { Networks } = await import(`${base}export/web/networks.js`);
  const facts = await (await fetch(`${base}facts.json`)).json();
  const networks = new Networks(base, facts.files);
  await networks.load([adapter], () => {});
  const { milliseconds, pixels } = await attempts(networks, facts)(adapter, limit ?? Infinity);
  return { milliseconds, pixels: [...pixels] };
}"""


@pytest.fixture(scope="module")
def site(tiny_bundle) -> Path:
    return exported(tiny_bundle)


def opened(page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(".rs-hit", timeout=240_000)


def changed(folder: Path) -> None:
    """Makes another version of a page."""
    texts = folder / "app/web/texts.json"
    words = json.loads(texts.read_text())
    words["page"]["title"] = "Another version"
    texts.write_text(json.dumps(words))
    facts = json.loads((folder / FACTS).read_text())
    for name in (FACTS, "README.md", "manifest.json"):
        (folder / name).unlink()
    shutil.copyfile(PAGE / "sw.js", folder / "sw.js")
    seal(folder, facts)


def test_a_new_version_takes_the_place_of_the_old_one_whole(browser, site, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(site, tmp_path / "served" / name)
    context = patient(browser.new_context())
    page = context.new_page()
    with serving(tmp_path / "served", headers=True) as address:
        for name in ("two", "one"):
            opened(page, f"{address}{name}/")
            page.evaluate(KEPT)
        before = page.evaluate("caches.keys()")
        assert len(before) == 2  # one page leaves another of the same server alone
        changed(tmp_path / "served" / "one")
        page.reload()
        page.wait_for_selector(".rs-hit", timeout=240_000)
        assert not page.title().startswith("Another version")  # at once, as it was
        page.evaluate(WAITING)
        page.reload()
        page.locator("h1", has_text="Another version").wait_for(timeout=240_000)
        page.wait_for_selector(".rs-hit", timeout=240_000)
        after = page.evaluate("caches.keys()")
        assert len(after) == 2 and len(set(after) - set(before)) == 1
    page.reload()  # nobody serves any more
    page.wait_for_selector(".rs-hit", timeout=240_000)
    painted(page)
    context.close()


@pytest.mark.parametrize("ranges", [False, True], ids=["whole files", "ranges"])
def test_what_a_page_has_loaded_does_not_come_a_second_time_to_be_kept(browser, site, ranges):
    sizes = json.loads((site / FACTS).read_text())["files"]
    page = patient(browser.new_context()).new_page()  # which has no other cache for large files
    with counting(site, ranges) as (address, sent):
        opened(page, address)
        painted(page)
        page.evaluate(KEPT)
    page.context.close()
    runtime = "runtime/ort-wasm-simd-threaded.wasm"
    assert sent[runtime] == sizes[runtime]
    heavy = [name for name in sent if name.endswith(".safetensors")]
    assert len(heavy) > 3
    for name in heavy:  # of the latents a server that knows ranges sends parts before
        parts = sizes[name] // 2 if ranges and "latents" in name else 0
        assert sizes[name] <= sent[name] <= sizes[name] + parts, name


def test_a_pushed_page_comes_back_opens_and_paints(browser, hub, client, site, tmp_path):
    done = client.run("push", site, "someone/page", "--static")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "fetched"
    HfApi(endpoint=hub.url).snapshot_download(
        "someone/page", repo_type="space", local_dir=folder, token=False
    )
    front = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert (front["sdk"], front["app_file"]) == ("static", "index.html")
    assert front["custom_headers"] == HEADERS
    page = patient(browser.new_page())
    with serving(folder, headers=False) as address:  # `python -m http.server`
        opened(page, address)
        painted(page)
    page.close()


# ---- what computes ------------------------------------------------------------------------------


@contextmanager
def another(browser, *arguments: str) -> Iterator:
    """A page in a Chromium of its own, with switches."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    own = browser.browser_type.launch(executable_path=program, args=["--no-sandbox", *arguments])
    try:
        yield patient(own.new_page())
    finally:
        own.close()


def test_a_graphics_processor_paints_the_same_and_is_given_up_when_late(browser, site):
    with serving(site, headers=True) as address, another(browser, *SOFTWARE) as page:
        page.goto(f"{address}{FACTS}")
        if not page.evaluate(IMITATED):
            pytest.skip("this Chromium has no WebGPU in software")
        asked = {"base": address, "adapter": {"kind": "wasm", "threads": 1}}
        known = page.evaluate(TRIED, asked)
        asked["adapter"] = {"kind": "webgpu", "threads": 1}
        found = page.evaluate(TRIED, asked)
        assert max(abs(a - b) for a, b in zip(found["pixels"], known["pixels"], strict=True)) <= 2
        with pytest.raises(Exception, match="it takes too long"):
            page.evaluate(TRIED, {**asked, "limit": 1})


@pytest.mark.parametrize("headers", [True, False], ids=["threads", "one thread"])
def test_without_a_graphics_processor_webassembly_is_chosen_and_remembered(browser, site, headers):
    with serving(site, headers=headers) as address, another(browser, *SOFTWARE) as page:
        opened(page, address)  # one that is only imitated does not count
        kept = json.loads(page.evaluate("localStorage['rissole-adapter']"))
        assert kept["kind"] == "wasm" and (kept["threads"] > 1) == headers
        version = json.loads((site / FACTS).read_text())["version"]
        assert kept["device"].startswith(f"{version}|Mozilla/")


# ---- what cannot --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("delete WebAssembly", "it lacks WebAssembly with SIMD. A current"),
        ("WebAssembly.validate = () => false", "it lacks WebAssembly with SIMD. A current"),
        ("delete OffscreenCanvas", "it lacks drawing off the screen"),
        ("delete Worker", "it lacks workers that load modules"),
    ],
)
def test_a_browser_that_cannot_paint_is_told_why(browser, site, gone, said):
    page = patient(browser.new_page())
    page.add_init_script(gone)
    with serving(site, headers=False) as address:
        page.goto(address)
        page.locator("#rs-loading", has_text="cannot paint here").wait_for()
        assert said in page.inner_text("#rs-loading")
    page.close()


def little(pages: int) -> str:
    """A switch that leaves a runtime so many pages of 64 KB."""
    return f"--js-flags=--wasm-max-mem-pages={pages}"


def test_too_little_memory_for_the_model_is_told(browser, site):
    with serving(site, headers=False) as address, another(browser, little(200)) as page:
        page.goto(address)
        page.locator("#rs-loading", has_text="too little memory for the model").wait_for()


def test_a_picture_that_is_too_large_for_the_memory_does_not_spoil_the_next(browser, site):
    with serving(site, headers=False) as address, another(browser, little(350)) as page:
        opened(page, address)
        few, many = 4, 16
        for count in (few, many, few):  # a runtime that ran out of memory answers with nonsense
            page.fill("#rs-k-input", str(count))
            page.press("#rs-k-input", "Enter")
            sync_api.expect(page.locator(".rs-hit")).to_have_count(count)
            if count == few:
                painted(page)
                continue
            page.click("#rs-generate")
            page.locator(".rs-words", has_text="too little memory for this picture").wait_for()
