"""The first stage: any class that is known by name, each with its own scale."""

import json

import pytest
import torch
from conftest import seeded
from diffusers import AutoencoderKL, VQModel

from rissole.config import RissoleError
from rissole.models.autoencoder import AUTOENCODERS, Codec, PixelSpace, tiny_autoencoder

TWO_STAGES = {"block_out_channels": (16, 16), "norm_num_groups": 8, "latent_channels": 4}
TWO_STAGES |= {"down_block_types": ("DownEncoderBlock2D",) * 2}
TWO_STAGES |= {"up_block_types": ("UpDecoderBlock2D",) * 2}


@pytest.mark.parametrize(
    ("make", "channels", "factor"),
    [
        (lambda: tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 4, 4),
        (lambda: AutoencoderKL(**TWO_STAGES), 4, 2),
        (lambda: VQModel(**TWO_STAGES, num_vq_embeddings=8), 4, 2),
        (lambda: PixelSpace(scaling_factor=2.0), 3, 1),
    ],
    ids=["tiny", "kl", "vq", "pixels"],
)
def test_a_codec_comes_back_by_its_class_name(make, channels, factor, tmp_path):
    codec = Codec(seeded(make(), 0))
    codec.save(tmp_path)
    loaded = Codec.load(tmp_path)
    assert type(loaded.model) is type(codec.model)
    assert (loaded.latent_channels, loaded.vae_scale_factor) == (channels, factor)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = loaded.encode(images)
    assert latents.shape == (1, channels, 32 // factor, 32 // factor)
    assert loaded.decode(latents).shape == images.shape
    torch.testing.assert_close(latents, codec.encode(images), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["UNet2DModel", ["odd"], None])
def test_an_unknown_class_is_refused_in_one_line(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(RissoleError, match="no usable autoencoder in .*/: class") as caught:
        Codec.load(tmp_path)
    assert "AutoencoderTiny" in str(caught.value) and "\n" not in str(caught.value)


def test_another_class_is_added_by_its_name(tmp_path, monkeypatch):
    class Negative(PixelSpace):
        def encode(self, images):
            return super().encode(-images)

    monkeypatch.setitem(AUTOENCODERS, "Negative", Negative)
    Codec(Negative(scaling_factor=1.0)).save(tmp_path)
    images = torch.ones(1, 3, 8, 8)
    assert torch.equal(Codec.load(tmp_path).encode(images), -images)
