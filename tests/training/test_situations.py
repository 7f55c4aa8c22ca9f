"""What a denoiser meets in training."""

import torch

from rissole.models.interface import State
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.neighborhoods import block_tables
from rissole.training.situations import Sampler, loss_mask


def sampler(run, batch=64, **settings):
    from safetensors.torch import load_file

    data = load_file(run / "latents" / "latents.safetensors")
    chosen = DenoiserTraining(batch_size=batch, neighbors=3, **settings)
    draw = torch.Generator().manual_seed(0)
    blocks = block_tables(data["latents"], pool=6) if chosen.own else None
    return Sampler(data["latents"], data["neighbors"], chosen, draw, blocks=blocks)


def test_states_are_what_the_orders_will_meet(run):
    draws = sampler(run)
    clean = draws.latents[:64].float()
    state, noise, active = draws.state(clean, 4)
    levels = state.levels.flatten(1)
    present = state.present.flatten(1)
    assert (levels[~active & present] == 0).all()  # finished blocks are clean
    assert (levels[~present] == 1).all()
    assert active.any(1).all()  # something is painted in every picture
    kept = ~active & present
    cells = kept.view(64, 4, 4).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    assert torch.equal(state.canvas.where(cells, clean), clean)
    assert (~present).any()
    assert kept.any()
    assert (~state.context).any()


def test_a_repaint_paints_one_block_at_least(run):
    draws = sampler(run, situations=(0.0, 0.0, 1.0, 0.0, 0.0))
    counts = torch.cat([draws.state(draws.latents[:64].float(), 4)[2].sum(1) for _ in range(8)])
    assert counts.min() == 1
    assert counts.max() == 16


def test_some_pictures_see_no_neighbors_and_numbers_vary(run):
    neighbors, shown = sampler(run, drop=0.3).neighbors(torch.arange(64), 3)
    assert neighbors.shape == (64, 3, 4, 32, 32)
    assert set(shown.sum(1).tolist()) == {0, 1, 2, 3}


def test_loss_counts_cells_of_the_same_level_only():
    levels = torch.full((1, 2, 2), 0.5)
    levels[0, 0, 1] = 0.2
    everywhere = torch.ones(1, 2, 2, dtype=torch.bool)
    state = State(torch.zeros(1, 4, 32, 32), levels, everywhere, torch.tensor([True]))
    mask = loss_mask(state, everywhere.flatten(1), torch.tensor([[0, 1]]), halo=4)
    assert mask.shape == (1, 2, 24, 24)
    assert mask[0, 0, 4:20, 4:20].all()  # the block itself
    assert mask[0, 0, 20:, 4:20].all()  # below it, the same level
    assert not mask[0, 0, :20, 20:].any()  # right of it, another level
    assert not mask[0, 0, :4].any()  # beyond the canvas
    assert mask[0, 1].sum() == 16 * 16  # alone at its level
    alone = state._replace(context=torch.tensor([False]))
    assert loss_mask(alone, everywhere.flatten(1), torch.tensor([[0]]), 4).sum() == 16 * 16


def test_without_more_settings_nothing_more_is_told(run):
    draws = sampler(run)
    batch = draws.batch(torch.arange(64), 4)
    assert not batch.aims.strength.any() and not batch.own.any()
    assert batch.neighbors.shape[1] == 3
    assert draws.state(batch.clean, 4)[0].view is None


def test_blocks_have_neighbors_of_their_own(run):
    hood = sampler(run, own=1.0).hood(torch.arange(64), 4)
    assert hood.ids.shape == (64, 5)  # three of the picture, two of blocks
    assert hood.own.any((1, 2)).all() and not hood.own.all()
    assert torch.equal(hood.own, hood.visible[..., 3:].any(-1))
    whole = sampler(run, own=1.0).hood(torch.arange(64), 1)
    assert whole.ids.shape == (64, 3) and not whole.own.any()


def test_a_blocks_neighbors_are_near_to_it_and_never_itself(run):
    draws = sampler(run, own=1.0)
    table, latents = draws.block_table.long(), draws.latents.float()
    count = len(latents)
    own = torch.arange(count)[None, :, None] % (count // 2)
    assert (table % (count // 2) != own).all()
    block = latents[:, :, :8, :8]
    chosen = (block[table[0, :, 0]] - block).square().mean()
    assert chosen < (block[draws.table[:, 0]] - block).square().mean()


def test_nearness_is_told_of_blocks_that_see_near_neighbors(run):
    draws = sampler(run, told=1.0)
    clean = draws.latents[:2].float()
    near = torch.stack([clean, clean + 9], dim=1)
    visible = torch.ones(2, 4, 4, 2, dtype=torch.bool)
    visible[:, 0, 0, 0] = False
    found = draws.nearness(clean, near, visible)
    assert found[:, 0, 0].tolist() == [0, 0]
    assert (found.flatten(1)[:, 1:] == 1).all()
    assert (draws.nearness(clean, near, visible & False) == 0).all()
    told = draws.batch(torch.arange(64), 4).aims.strength
    assert told.min() >= 0 and told.max() <= 1 and told.any() and not told.all()


def test_some_pictures_do_not_view_the_canvas(run):
    draws = sampler(run, blinkered=0.5)
    view = draws.state(draws.latents[:64].float(), 4)[0].view
    assert view.any() and not view.all()
