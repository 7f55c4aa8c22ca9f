"""Who is whose neighbor."""

import numpy as np
import pytest
import torch
from conftest import picture, seeded

from rissole.config import RissoleError
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.training.neighborhoods import make_latents, neighbor_table, read_latents


@pytest.fixture(scope="module")
def photos():
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(48)])


def test_no_picture_retrieves_itself_or_its_mirror_image_or_a_duplicate():
    vectors = torch.nn.functional.normalize(
        torch.randn(40, 8, generator=torch.Generator().manual_seed(0)), dim=1
    )
    vectors[7] = vectors[3]  # a duplicate of another photo
    table = neighbor_table(vectors, pool=10)
    own = torch.arange(40)[:, None]
    assert not (table % 20 == own % 20).any()
    assert 7 not in table[3].tolist()
    nearest_other = (vectors @ vectors.T)[0].clone()
    nearest_other[[0, 20]] = -2
    assert table[0, 0] == nearest_other.argmax()


def test_latents_are_made_anew_for_other_photos_and_another_autoencoder(photos, tmp_path):
    codec = Codec(seeded(tiny_autoencoder(16, 4, (1, 1, 1), (1, 1, 1)), 0))

    def make(photos):
        codec.save(tmp_path / "autoencoder")
        made = make_latents(tmp_path / "autoencoder", photos, tmp_path / "latents", "cpu")
        return made["latents"]

    before = make(photos)
    assert torch.equal(read_latents(tmp_path, photos)["latents"], before)
    with pytest.raises(RissoleError, match="not the photos"):
        read_latents(tmp_path, photos[:20])
    assert len(make(photos[:20])) == 2 * 19
    codec.model.decoder.layers[0].weight.mul_(1.5)
    codec.save(tmp_path / "autoencoder")
    read_latents(tmp_path)  # the decoder may be trained on
    codec.model.encoder.layers[0].weight.mul_(1.5)
    codec.save(tmp_path / "autoencoder")
    with pytest.raises(RissoleError, match="run --stage latents --resume"):
        read_latents(tmp_path)
    assert not torch.equal(make(photos), before)
