"""The coherence probe finds what it should."""

import pytest
import torch
from synthetic import generator, smooth_pictures

from rissole.data.photos import to_float
from rissole.evaluation.probe import (
    CoherenceProbe,
    auc,
    auc_interval,
    nearest_photos,
    probe_coherence,
    swap_blocks,
    train_probe,
)


def test_swapped_blocks_come_from_the_neighbors_at_the_same_place():
    photos = smooth_pictures(12)
    neighbors = torch.tensor([[3, 5]] * 12)
    swapped = swap_blocks(photos, torch.tensor([0, 1, 7]), neighbors, 4, generator())
    foreign = 0
    for image, own in zip(swapped, (0, 1, 7), strict=True):
        before = foreign
        for y in range(0, 32, 8):
            for x in range(0, 32, 8):
                block = image[:, y : y + 8, x : x + 8]
                owner = [i for i in (own, 3, 5) if block.equal(photos[i][:, y : y + 8, x : x + 8])]
                assert len(owner) == 1
                foreign += owner[0] != own
        assert foreign > before
    assert foreign < 40


def test_neighbors_are_neither_the_photo_itself_nor_its_duplicate():
    photos = smooth_pictures(20)
    photos[7] = photos[3]
    neighbors = nearest_photos(photos, k=5)
    assert neighbors.shape == (20, 5)
    assert not (neighbors == torch.arange(20)[:, None]).any()
    assert 7 not in neighbors[3] and 3 not in neighbors[7]


def test_auc_counts_pairs_and_halves_ties():
    assert auc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert auc(torch.tensor([0.0]), torch.tensor([0.0, 1.0])) == 0.25
    assert auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0])) == 0.5


def test_interval_of_an_auc_knows_that_few_photos_tell_little():
    many, few = torch.randn(1000, generator=generator()), torch.randn(25, generator=generator(1))
    for pair in ((many, few), (few, many)):
        low, high = auc_interval(*pair)
        assert (high - low) / 2 == pytest.approx(1.96 / (12 * 25) ** 0.5, rel=0.35)
        assert low < auc(*pair) < high


def test_probe_finds_foreign_blocks_and_passes_photos():
    photos, held, fresh = (
        smooth_pictures(128),
        smooth_pictures(64, seed=1),
        smooth_pictures(64, seed=2),
    )
    probe = train_probe(photos, steps=40, batch_size=16)
    own = probe_coherence(probe, fresh, held, photos)
    assert own["auc_swapped"] > 0.85
    assert abs(own["auc"] - 0.5) < 0.2
    assert own["auc_ci95"][0] < own["auc"] < own["auc_ci95"][1]
    patched = swap_blocks(fresh, torch.arange(64), nearest_photos(fresh), 4, generator())
    assert probe_coherence(probe, patched, held, photos)["auc"] > 0.85


def test_probe_does_not_see_the_pixels_at_block_borders():
    probe = CoherenceProbe()
    torch.nn.init.normal_(probe.net[-1].weight, generator=generator())
    images = to_float(smooth_pictures(2, 128))
    damaged = images.clone()
    damaged[..., 30:34] = 1
    assert torch.equal(probe.scores(damaged), probe.scores(images))
    damaged[..., 40:44] = 1
    assert not torch.equal(probe.scores(damaged), probe.scores(images))


def test_probe_is_reproducible():
    a, b = (train_probe(smooth_pictures(16), steps=3, batch_size=4, seed=5) for _ in range(2))
    assert torch.equal(a.scores(smooth_pictures(4)), b.scores(smooth_pictures(4)))
