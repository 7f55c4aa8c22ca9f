from dataclasses import replace

import pytest
import torch
from conftest import TINY, seeded
from diffusers import DDIMScheduler

from rissole.blocks import blend
from rissole.config import Recipe
from rissole.models.denoiser import Denoiser
from rissole.models.interface import Aims, State
from rissole.models.scheduler import default_scheduler, set_levels
from rissole.sampling import Plan, is_guided, paint, told_strength, visible_neighbors


@pytest.fixture(scope="module")
def model():
    return seeded(Denoiser(TINY), 4)


@pytest.fixture(scope="module")
def flow_map():
    return seeded(Denoiser(replace(TINY, flow_map=True, strength=True)), 3)


def painted(
    model, guidance_scale, order="parallel", steps=4, neighbors=None, visible=None, **changes
):
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 4, 32, 32, generator=draw)
    near = torch.randn(1, 3, 4, 32, 32, generator=draw) if neighbors is None else neighbors
    with torch.inference_mode():
        features = model.encode_neighbors(near)
    if visible is None:
        visible = torch.ones(1, 4, 4, 3, dtype=torch.bool)
    plan = Plan(noise, features, visible, guidance_scale, steps, order, **changes)
    return list(paint(model, default_scheduler(), plan))[-1]


@pytest.mark.parametrize("order", ["parallel", "independent"])
def test_blocks_follow_neighbors_of_their_own_as_much_as_is_asked_for(model, order):
    usual = torch.ones(1, 4, 4, 3, dtype=torch.bool)
    usual[..., 2] = False
    given = usual.clone()
    given[0, 1, 2] = torch.tensor([False, False, True])

    def result(follow, steps=1):
        return painted(model, 1.0, order, steps, visible=given, usual=usual, follow=follow)

    plain = painted(model, 1.0, order, 1, visible=given)
    assert torch.equal(result(1.0).estimate, plain.estimate)
    assert (result(1.0).network_calls, result(2.0).network_calls) == (1, 2)
    zero, one, two = (result(follow).estimate for follow in (0.0, 1.0, 2.0))
    assert (one - zero).abs().amax() > 1e-3
    assert torch.allclose(two - zero, 2 * (one - zero), atol=1e-4)
    changed = (two - zero)[0].abs().amax(0) > 1e-4
    assert changed[8:16, 16:24].any()
    assert not changed[20:].any() and not changed[:, :12].any()  # beyond the halo of the block


@pytest.mark.parametrize(("strength", "told"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0), (3.0, 1.0)])
def test_only_blocks_with_neighbors_of_their_own_are_told_to_follow(strength, told):
    own = {(1, 2): [9], (3, 3): [4]}  # the second sees what it would see anyway
    recipe = Recipe.validated(neighbors=[4], block_neighbors=own, strength=strength)
    asked = told_strength(strength, *visible_neighbors(recipe, [4, 9]))
    assert asked[0, 1, 2].item() == pytest.approx(told)
    asked[0, 1, 2] = 0
    assert not asked.any()


def test_only_blocks_that_are_led_take_an_evaluation_more(model):
    usual = torch.ones(1, 4, 4, 3, dtype=torch.bool)
    given = usual.clone()
    given[0, 0, :2, 0] = False
    how = {"visible": given, "usual": usual, "follow": 2.0}
    assert painted(model, 1.0, "sequential", 2, **how).network_calls == 2 * (16 + 2)
    assert painted(model, 0.0, "parallel", 2, **how).network_calls == 2  # nobody is listened to


def test_levels_fall_from_noise_to_clean_in_small_steps_at_both_ends():
    scheduler = default_scheduler()
    set_levels(scheduler, 20)
    gaps = -scheduler.sigmas.diff()
    assert scheduler.sigmas[0] == 1 and scheduler.sigmas[-1] == 0
    assert (gaps > 0).all() and len(scheduler.timesteps) == 20
    assert gaps[0] < gaps.max() and gaps[-1] < gaps[0]


def test_other_schedulers_keep_their_levels():
    ours, plain = DDIMScheduler(), DDIMScheduler()
    set_levels(ours, 7)
    plain.set_timesteps(7)
    assert torch.equal(ours.timesteps, plain.timesteps)


@pytest.mark.parametrize("order", ["parallel", "sequential", "independent"])
def test_guidance_costs_a_call_only_where_it_acts(model, order):
    scheduler = default_scheduler()
    set_levels(scheduler, 4)
    guided = sum(is_guided(float(level), 1.5) for level in scheduler.sigmas[:-1])
    blocks = 16 if order == "sequential" else 1
    plain, led = (painted(model, scale, order) for scale in (1.0, 1.5))
    assert 0 < guided < 4
    assert plain.network_calls == 4 * blocks
    assert led.network_calls == (4 + guided) * blocks
    assert not torch.equal(plain.estimate, led.estimate)


def test_guided_pictures_have_no_harder_borders_between_blocks(model):
    """What guides knows no blocks, so that their borders do not show in it."""

    def border(step):
        jump = step.estimate.diff(dim=-1).abs().mean((0, 1, 2))
        return jump[7::8].mean() / jump.mean()

    assert border(painted(model, 3.0)) < 1.05 * border(painted(model, 1.0))


def test_without_guidance_scale_neighbors_have_no_effect(model):
    other = torch.zeros(1, 3, 4, 32, 32)
    assert torch.equal(painted(model, 0.0).estimate, painted(model, 0.0, neighbors=other).estimate)


@pytest.mark.parametrize(
    ("order", "groups"), [("parallel", 1), ("sequential", 16), ("independent", 1)]
)
def test_a_flow_map_takes_one_call_a_step_in_every_order(flow_map, order, groups):
    plain, led = (painted(flow_map, scale, order, steps=2) for scale in (1.0, 1.6))
    assert plain.network_calls == led.network_calls == 2 * groups
    strong = painted(flow_map, 1.6, order, steps=2, strength=torch.ones(1, 4, 4))
    assert led.estimate.isfinite().all()
    assert not torch.allclose(led.estimate, plain.estimate)
    assert not torch.allclose(led.estimate, strong.estimate)


def test_a_flow_map_repaints_a_block_alone(flow_map):
    init = torch.zeros(1, 4, 32, 32)
    last = painted(flow_map, 1.6, steps=2, init=init, blocks=[(1, 2)])
    assert last.network_calls == 2
    assert (last.estimate[..., 8:16, 16:24] != 0).any()
    last.estimate[..., 8:16, 16:24] = 0
    assert (last.estimate == 0).all()


def test_steps_of_a_flow_map_are_jumps_to_the_next_level(flow_map):
    """Two steps by hand: each is asked for its own end, and just taken."""
    draw = torch.Generator().manual_seed(0)
    canvas = torch.randn(1, 4, 32, 32, generator=draw)
    with torch.inference_mode():
        features = flow_map.encode_neighbors(torch.randn(1, 3, 4, 32, 32, generator=draw))
    visible, index = torch.ones(1, 4, 4, 3, dtype=torch.bool), torch.arange(16)
    for level, end in ((1.0, 0.55), (0.55, 0.0)):
        levels = torch.full((1, 4, 4), level)
        aims = Aims(torch.full((1, 4, 4), end), torch.full((1,), 1.6))
        state = State(canvas, levels, levels > 0, torch.tensor([True]), aims=aims)
        with torch.inference_mode():
            windows, _ = flow_map(state, features, visible, index[None])
        canvas = canvas - (level - end) * blend(windows, index, 4, 4)
    found = painted(flow_map, 1.6, steps=2).estimate
    torch.testing.assert_close(found, canvas, rtol=1e-4, atol=1e-4)
