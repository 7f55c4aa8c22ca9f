"""How near a picture is to photos that are not there any more."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from rissole.config import RissoleError
from rissole.retrieval.training_photos import FILE, TrainingPhotos


def latents(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 4, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def photos() -> TrainingPhotos:
    return TrainingPhotos.fit(latents(30, 0), latents(10, 1))


def test_a_copy_is_near_and_so_is_its_mirror_image(photos):
    for copy in (latents(30, 0)[7:8], latents(30, 0)[7:8].flip(-1)):
        count, distance, nearer = photos.nearness(copy)
        assert (count, nearer) == (30, 0.0)
        assert distance < 1e-3  # half precision


def test_distance_is_the_difference_of_means(photos):
    far = latents(30, 0)[7:8] + 3.0  # of a picture that is lighter all over
    _, distance, nearer = photos.nearness(far)
    assert distance == pytest.approx(3.0, abs=0.2)  # another photo may be a little nearer
    assert distance <= 3.001
    assert nearer == 1.0


def test_held_out_photos_are_as_near_as_they_are(photos):
    found = [photos.nearness(one[None]) for one in latents(10, 1)]
    distances = sorted(near.distance for near in found)
    assert photos.usual.tolist() == pytest.approx(distances, abs=1e-3)
    assert max(near.nearer for near in found) >= 0.8


def test_it_comes_back_from_its_file_and_holds_no_photo(photos, tmp_path):
    assert TrainingPhotos.load(tmp_path, 4) is None
    photos.save(tmp_path)
    again, picture = TrainingPhotos.load(tmp_path, 4), latents(1, 2)
    assert again.nearness(picture) == photos.nearness(picture)
    stored = load_file(tmp_path / FILE)
    assert {name: one.numel() for name, one in stored.items()} == {"means": 30 * 64, "usual": 10}


def test_a_file_that_does_not_fit_is_one_line(photos, tmp_path):
    photos.save(tmp_path)
    with pytest.raises(RissoleError, match="training photos"):
        TrainingPhotos.load(tmp_path, 3)
    save_file({"means": torch.zeros(0, 64).half(), "usual": torch.zeros(0)}, tmp_path / FILE)
    with pytest.raises(RissoleError, match="training photos"):
        TrainingPhotos.load(tmp_path, 4)
