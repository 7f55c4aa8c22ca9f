"""Every kind of bundle as a page, in a real browser; and what cannot be exported.

`python -m pytest tests/export/test_kinds.py -m slow` exports three bundles: some minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from alike import check_alike
from conftest import TINY, picture, seeded
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from pages import exported, painted, serving
from visiting import patient

from rissole.config import RissoleError
from rissole.data.images import to_tensor
from rissole.export.exportable import check_exportable
from rissole.export.static_page import FACTS, PAGE, UNKNOWN, export_page
from rissole.loading import write_bundle
from rissole.models.autoencoder import Codec, PixelSpace
from rissole.models.denoiser import Denoiser
from rissole.models.scheduler import default_scheduler
from rissole.pipeline import RissolePipeline
from rissole.retrieval.contents import build_database
from rissole.retrieval.embedding import LatentEmbedding
from rissole.retrieval.encoders import LearnedConfig, LearnedEncoder
from rissole.storage.manifest import write_manifest

RECIPES = (
    {"neighbors": [3, 17, 5], "num_inference_steps": 1},
    {"neighbors": [3, 17, 5, 9], "num_inference_steps": 2, "guidance_scale": 2.0, "seed": 2},
    {"neighbors": [8], "order": "sequential", "grid": 2, "num_inference_steps": 1},
    {
        "neighbors": [1, 2], "block_neighbors": {(0, 0): [8]}, "num_inference_steps": 4,
        "strength": 2.0,
    },
    {"neighbors": [1, 2], "block_neighbors": {(1, 3): [8], (2, 2): [1]}, "num_inference_steps": 2},
    {"neighbors": [6, 4], "grid": 1, "guidance_scale": 0.0, "num_inference_steps": 3},
    {
        "neighbors": [4, 6], "blocks": [(1, 2), (3, 3)], "num_inference_steps": 2,
        "init": {"neighbors": [7, 0], "seed": 1, "num_inference_steps": 1},
    },
)  # fmt: skip


@pytest.fixture(scope="module")
def few_steps(tmp_path_factory) -> Path:
    """A bundle of a flow map with all its inputs, on pixels, with an encoder of its own.

    Its database has vectors of another encoder.
    """
    folder = tmp_path_factory.mktemp("bundles") / "few"
    pictures = [picture(i).resize((32, 32)) for i in range(24)]
    images = to_tensor(pictures)
    codec = Codec(PixelSpace.fit((images + 1).mul(127.5).byte()))
    latents = codec.encode(images)
    embedding = LatentEmbedding.fit(latents)
    build_database(folder / "database", pictures, codec, embedding, "colors", latents)
    denoiser = seeded(Denoiser(replace(TINY, latent_channels=3, flow_map=True, strength=True)), 1)
    defaults = {"order": "parallel", "grid": 4, "num_inference_steps": 2, "guidance_scale": 1.5,
                "k": 4}  # fmt: skip
    config = {"name": "few", "image_size": 32, "defaults": defaults, "encoder": "learned"}
    write_bundle(folder, codec, denoiser, default_scheduler(), embedding, config)
    shape = LearnedConfig(image_size=32, channels=(16, 32), blocks=1, dim=48)
    seeded(LearnedEncoder(shape), 2).save(folder / "encoder")
    write_manifest(folder, "few")
    return folder


def check_page(browser, site: Path, bundle: Path, recipes) -> None:
    """The page paints what Python paints, and its own search agrees."""
    exact = RissolePipeline.from_pretrained(bundle, device="cpu", torch_dtype=torch.float32)
    page = patient(browser.new_context()).new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
    with serving(site, headers=True) as address:
        page.goto(address)
        page.wait_for_selector(".rs-hit", timeout=240_000)
        page.locator(".rs-thumb").nth(2).click()
        page.locator(".rs-query-name", has_text="Picture 2 ").wait_for()
        k = len(page.locator(".rs-hit").all())
        shown = [int(one.get_attribute("data-id")) for one in page.locator(".rs-hit").all()]
        assert shown == [int(i) for i in exact.retrieve(item=2, k=k).ids]
        painted(page)
        for settings in recipes:
            check_alike(page, address, exact, settings)
    page.context.close()
    assert troubles == []


@pytest.mark.slow
def test_a_bundle_of_few_steps_on_pixels(browser, few_steps, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    check_page(browser, exported(few_steps), few_steps, RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cats-128", "cifar10-32"])
def test_a_shipped_bundle(browser, name, tmp_path):
    bundle = Path(__file__).parents[2] / "checkpoints" / name
    if not bundle.is_dir():
        pytest.skip(f"{name} is not here")
    check_page(
        browser,
        exported(bundle, tmp_path / "page"),
        bundle,
        ({"neighbors": [3, 17, 5]}, *RECIPES[1:3]),
    )


# ---- what cannot be exported --------------------------------------------------------------------


class Other(Denoiser):
    """A denoiser whose parts are not known."""


def with_scheduler(bundle: Path, folder: Path, scheduler) -> Path:
    """A copy of a bundle that is sampled otherwise."""
    shutil.copytree(bundle, folder)
    scheduler.save_pretrained(folder / "scheduler")
    write_manifest(folder, "other")
    return folder


FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0}
SCHEDULERS = (
    DPMSolverMultistepScheduler(**FLOW, solver_type="heun"),
    FlowMatchEulerDiscreteScheduler(),
)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=["heun", "euler"])
def test_a_solver_without_a_script_is_refused_before_any_work(tiny_bundle, tmp_path, scheduler):
    bundle = with_scheduler(tiny_bundle, tmp_path / "other", scheduler)
    said: list[str] = []
    with pytest.raises(RissoleError, match=f"{type(scheduler).__name__} with these settings"):
        export_page(bundle, tmp_path / "page", say=said.append)
    assert said == [] and not (tmp_path / "page").exists()


def test_another_class_of_denoiser_is_refused(pipe):
    other = pipe._with(pipe.retriever)
    other.denoiser = Other(TINY)
    with pytest.raises(RissoleError, match="class Other cannot be exported"):
        check_exportable(other)


def test_an_encoder_that_is_not_in_the_bundle_is_refused(reading):
    check_exportable(reading)
    with pytest.raises(RissoleError, match="compared by clip, which is not in the bundle"):
        check_exportable(reading.with_encoder("clip"))


def test_a_bundle_of_few_steps_can_be_exported_whatever_its_scheduler(few_steps, tmp_path):
    bundle = with_scheduler(few_steps, tmp_path / "other", SCHEDULERS[0])
    check_exportable(RissolePipeline.from_pretrained(bundle))


def test_a_page_is_sealed_on_a_machine_that_is_set_to_ascii(tmp_path):
    worker = (PAGE / "sw.js").read_text(encoding="utf-8") + "// Köttbullar"
    (tmp_path / "sw.js").write_text(worker, encoding="utf-8")
    code = (
        "import sys; from pathlib import Path; from rissole.export.static_page import seal\n"
        "seal(Path(sys.argv[1]), {'name': 'tiny'})"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / FACTS).read_bytes())
    sealed = (tmp_path / "sw.js").read_text(encoding="utf-8")
    assert sealed == worker.replace(UNKNOWN, facts["version"])
    assert "🧩" in (tmp_path / "README.md").read_text(encoding="utf-8")
