"""A denoiser from outside the package: a few lines, found by its name, and it paints."""

import json
import shutil
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file

from rissole import RissolePipeline
from rissole.blocks import crop_windows
from rissole.config import RissoleError
from rissole.models.denoiser import Denoiser
from rissole.models.interface import DENOISERS, BlockDenoiser
from rissole.storage.manifest import write_manifest


@dataclass(frozen=True)
class MeanShape:
    latent_channels: int = 4
    latent_size: int = 32
    halo: int = 4


@DENOISERS.register
class MeanDenoiser(BlockDenoiser):
    """Takes the mean of the neighbors for the picture; one weight says how far it goes."""

    name, config_class = "mean-of-neighbors", MeanShape

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.strength = torch.nn.Parameter(torch.ones(1))

    def encode_neighbors(self, latents):
        return latents.mean(1) * self.strength

    def forward(self, state, features, visible, index, weights=False):
        time = state.levels.amax((1, 2))[:, None, None, None].clamp(min=1e-3)
        velocity = (state.canvas - features) / time
        windows = crop_windows(velocity, state.levels.shape[-1], self.config.halo)
        windows = windows.take_along_dim(index[..., None, None, None], dim=1)
        (b, n, _, w, _), k = windows.shape, visible.shape[-1]
        return windows, torch.full((b, n, k, w // 2, w // 2), 1 / k)


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "toy")
    MeanDenoiser(MeanShape()).save(tmp_path / "toy" / "denoiser")
    write_manifest(tmp_path / "toy", "toy")
    return tmp_path / "toy"


def test_a_denoiser_from_outside_is_found_and_paints(bundle):
    toy = RissolePipeline.from_pretrained(bundle)
    assert type(toy.denoiser) is MeanDenoiser
    out = toy(neighbors=[3], seed=0, order="independent")
    wanted = toy.database.latents([3])
    torch.testing.assert_close(out.latents, wanted, rtol=0.05, atol=0.05)
    assert toy(out.checked[0]).images[0].tobytes() == out.images[0].tobytes()


def test_files_of_the_usual_denoiser_name_no_class(tiny_bundle, tmp_path):
    Denoiser.load(tiny_bundle / "denoiser").save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == (
        tiny_bundle / "denoiser" / "model.safetensors"
    ).read_bytes()


def test_an_unknown_class_is_refused_in_one_line(bundle):
    path = bundle / "denoiser" / "model.safetensors"
    save_file(load_file(path), path, {"config": json.dumps({"_class_name": ["odd"], "halo": 4})})
    write_manifest(bundle, "toy")
    with pytest.raises(RissoleError, match="denoiser must be one of Denoiser, .*mean-of-neighbors"):
        RissolePipeline.from_pretrained(bundle)
