"""The discriminator learns to tell, and teaches."""

import pytest
import torch
from conftest import seeded

from rissole.evaluation.lite import LiteNetwork
from rissole.training import trainer
from rissole.training.discriminator import ProjectedDiscriminator, fooled, hinge


def test_a_discriminator_learns_to_tell_and_teaches():
    network = seeded(LiteNetwork("lite0", blocks=3), 0)
    photos = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    real, fake = network.maps(photos), network.maps(torch.zeros_like(photos))
    judge = trainer.seeded(lambda: ProjectedDiscriminator([m.shape[1] for m in real]), 0)
    judge.calibrate(real)
    assert judge.spread.tolist() == pytest.approx([m.std().item() for m in real])
    assert [x.shape[-1] for x in judge(real)] == [8, 4]
    fixed = judge.lateral[0].weight.clone()
    optimizer = torch.optim.Adam([p for p in judge.parameters() if p.requires_grad], 1e-3)
    losses = []
    for _ in range(20):
        loss = hinge(judge(real), judge(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert torch.equal(judge.lateral[0].weight, fixed)
    assert fooled(judge(real)) < fooled(judge(fake))


def test_whole_pictures_are_judged_by_where_things_are():
    """Patches look the same on both sides of a wide picture; a whole one has its place for each."""
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(16, 8, 32, 32, generator=draw) / 4
    real[..., 14:17, 9:12] += 4
    fake, lost = real.roll(10, -1), []
    for sides in ((), (32,)):
        judge = trainer.seeded(lambda sides=sides: ProjectedDiscriminator([8], sides=sides), 0)
        judge.calibrate([real])
        optimizer = torch.optim.Adam([p for p in judge.parameters() if p.requires_grad], 1e-3)
        for _ in range(30):
            optimizer.zero_grad()
            judge.teach([real], [fake])
            optimizer.step()
        logits = judge([real])
        assert [x.shape[-1] for x in logits] == [16, *(1 for _ in sides)]
        lost.append(hinge(logits[-1:], judge([fake])[-1:]).item())
    assert lost[0] > 1.5 and lost[1] < 0.5


def test_losses_are_means_over_patches_and_maps():
    sure = [torch.full((1, 1, 4, 4), 2.0), torch.full((1, 1, 2, 2), 0.5)]
    assert fooled(sure) == -1.25
    assert hinge(sure, [-x for x in sure]) == 0.5  # what is beyond 1 counts no more
