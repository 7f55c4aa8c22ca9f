"""The autoencoder, and its decoder alone."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture

from rissole.evaluation.network import FeatureNetwork
from rissole.models.autoencoder import Codec
from rissole.training.checkpoint import read_state
from rissole.training.hyperparameters import CodecTraining, DecoderTraining
from rissole.training.neighborhoods import make_latents
from rissole.training.reconstruction import train_autoencoder
from rissole.training.sharpening import train_decoder
from rissole.training.trainer import Budget


@pytest.fixture(scope="module")
def photos():
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(48)])


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """A run with a barely trained autoencoder and its latents."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "latents").mkdir()
    settings = CodecTraining(batch_size=4)
    out = folder / "autoencoder"
    train_autoencoder(photos, out, Budget(steps=6), settings=settings, device="cpu")
    make_latents(folder / "autoencoder", photos, folder / "latents", "cpu")
    return folder


def test_autoencoder_is_a_diffusers_one_that_resumes(run, photos):
    codec = Codec.load(run / "autoencoder")
    latents = codec.encode(photos[:2].float() / 127.5 - 1)
    assert latents.shape == (2, 4, 32, 32)
    assert codec.decode(latents).shape == (2, 3, 128, 128)
    assert read_state(run / "state" / "autoencoder.safetensors").steps == 6


def test_sharpening_the_decoder_leaves_the_latents_alone(run, photos, tmp_path):
    out = tmp_path / "autoencoder"
    shutil.copytree(run / "autoencoder", out)
    settings = DecoderTraining(batch_size=4)
    for _ in range(2):
        train_decoder(
            photos, out, Budget(steps=1), critic=FeatureNetwork(), settings=settings, device="cpu"
        )
    assert read_state(tmp_path / "state" / "decoder.safetensors").steps == 2
    before, after = (Codec.load(folder / "autoencoder") for folder in (run, tmp_path))
    pictures = photos[:2].float() / 127.5 - 1
    latents = before.encode(pictures)
    assert torch.equal(after.encode(pictures), latents)
    assert not torch.equal(after.decode(latents), before.decode(latents))
