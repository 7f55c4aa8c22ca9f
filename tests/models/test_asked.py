"""Inputs of a denoiser beside the canvas: where a step ends, guidance, strength."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY, seeded

from rissole.blocks import blend, blend_active, inner, stitch
from rissole.models.denoiser import Denoiser, DenoiserConfig
from rissole.models.interface import Aims, State
from rissole.models.scheduler import flow_map_levels
from rissole.training.teaching import grown

EVERYTHING = {"flow_map": True, "strength": True, "augmentation": 2}


def run(model, **changes):
    draw = torch.Generator().manual_seed(0)
    levels = torch.full((2, 4, 4), 0.5)
    canvas = torch.randn(2, 4, 32, 32, generator=draw)
    state = State(canvas, levels, levels > 0, levels[:, 0, 0] > 0)
    neighbors = torch.randn(2, 3, 4, 32, 32, generator=draw)
    visible, index = torch.ones(2, 4, 4, 3, dtype=torch.bool), torch.arange(16).expand(2, -1)
    state = state._replace(**{name: made(state) for name, made in changes.items()})
    with torch.inference_mode():
        return model(state, model.encode_neighbors(neighbors), visible, index)[0]


def asked(model, **aims):
    return run(model, aims=lambda state: Aims(**aims))


def test_more_inputs_change_nothing_before_they_are_trained():
    plain = seeded(Denoiser(TINY), 3)
    aims = {
        "ends": torch.zeros(2, 4, 4), "guidance": torch.full((2,), 2.0),
        "strength": torch.ones(2, 4, 4), "augmentation": torch.ones(2, 2),
    }  # fmt: skip
    torch.testing.assert_close(asked(grown(plain, **EVERYTHING), **aims), run(plain))


def test_a_network_of_the_shipped_shape_with_all_inputs_has_at_most_ten_million_weights():
    config = DenoiserConfig(flow_map=True, strength=True, augmentation=8)
    assert sum(p.numel() for p in Denoiser(config).parameters()) <= 10_000_000


def test_every_input_is_heard_once_it_is_trained():
    model = seeded(Denoiser(replace(TINY, **EVERYTHING)), 3)
    plain = run(model)
    for aims in (
        {"ends": torch.zeros(2, 4, 4)},
        {"guidance": torch.full((2,), 2.0)},
        {"strength": torch.ones(2, 4, 4)},
        {"augmentation": torch.ones(2, 2)},
    ):
        assert not torch.allclose(asked(model, **aims), plain)
    own_level = {"ends": torch.full((2, 4, 4), 0.5), "guidance": torch.ones(2)}
    torch.testing.assert_close(asked(model, **own_level), plain)


def test_a_network_without_inputs_ignores_them():
    model = seeded(Denoiser(TINY), 3)
    assert torch.equal(asked(model, strength=torch.ones(2, 4, 4)), run(model))


def test_inputs_are_stored(tmp_path):
    model = seeded(Denoiser(replace(TINY, **EVERYTHING)), 3)
    model.save(tmp_path)
    loaded = Denoiser.load(tmp_path)
    assert loaded.config == model.config and loaded.flow_map


def test_blocks_without_a_view_still_see_their_halo():
    def brighter(state):
        canvas = state.canvas.clone()
        canvas[..., :8, :8] += 3  # the first block alone
        return canvas

    def unseen(state):
        return state.context & False

    model = seeded(Denoiser(TINY), 3)
    before, after = run(model, view=unseen), run(model, view=unseen, canvas=brighter)
    moved = (before - after).abs().flatten(2).amax(2)[0].view(4, 4) > 1e-6
    assert moved[:2, :2].all()
    assert not moved[2:].any()
    assert not moved[:, 2:].any()


@pytest.mark.parametrize("halo", [0, 4])
def test_windows_are_blended_as_when_painting(halo):
    size = 8 + 2 * halo
    windows = torch.randn(3, 16, 4, size, size, generator=torch.Generator().manual_seed(0))
    active = torch.ones(3, 16, dtype=torch.bool)
    active[1] = (torch.arange(16) == 5) | (torch.arange(16) == 6)
    found = blend_active(windows, active, torch.tensor([True, True, False]), 4, halo)
    torch.testing.assert_close(found[:1], blend(windows[:1], torch.arange(16), 4, halo))
    two = torch.tensor([5, 6])
    torch.testing.assert_close(found[1:2], blend(windows[1:2][:, two], two, 4, halo))
    torch.testing.assert_close(found[2:], stitch(inner(windows[2:], 4, halo), 4))


def test_levels_of_a_flow_map_fall_from_noise_to_clean():
    for calls in range(1, 21):
        levels = flow_map_levels(calls)
        assert len(levels) == calls + 1
        assert (levels[0], levels[-1]) == (1, 0)
        assert (levels.diff() < 0).all()
