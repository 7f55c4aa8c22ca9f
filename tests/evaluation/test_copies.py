"""Planted copies are found."""

import pytest
from synthetic import smooth_pictures, trained_network

from rissole.evaluation.copies import copies


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_network(tmp_path_factory.mktemp("networks") / "features.safetensors")


def test_copies_finds_a_planted_mirrored_copy(network):
    training, held, images = (smooth_pictures(60, seed=s) for s in (0, 1, 2))
    images[4] = training[17].flip(-1)
    report = copies(images, training, held, network)
    for space in ("pixel", "feature"):
        image, photo, distance = report[space]["closest"][0]
        assert (image, photo) == (4, 17)
        assert distance < 1e-3 < report[space]["median"]
    assert report["pixel"]["share"] >= 1 / 60


def test_copies_of_everything_and_of_nothing():
    training, held, fresh = (smooth_pictures(100, seed=s) for s in (0, 1, 2))
    copied = copies(training[:30], training, held)
    assert copied["pixel"]["share"] == copied["block"]["share"] == 1
    assert copied["pixel"]["median"] == 0
    chance = copies(fresh, training, held)
    assert chance["pixel"]["share"] < 0.1 and chance["block"]["share"] < 0.1


def test_copied_blocks_are_found_in_images_that_are_no_copies():
    training, held, images = (smooth_pictures(100, seed=s) for s in (0, 1, 2))
    images[:, :, :8] = training[:, :, :8].flip(-1)  # the upper row of blocks, mirrored
    report = copies(images, training, held)
    assert 0.25 <= report["block"]["share"] < 0.35
    assert report["pixel"]["median"] > 0
