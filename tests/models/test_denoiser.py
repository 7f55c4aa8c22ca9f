import pytest
import torch
from conftest import TINY, seeded

from rissole.blocks import inner
from rissole.config import RissoleError
from rissole.models.denoiser import Denoiser
from rissole.models.interface import State


@pytest.fixture(scope="module")
def model():
    return seeded(Denoiser(TINY), 3)


def situation(grid=4, k=3, batch=1, level=0.5, context=True):
    draw = torch.Generator().manual_seed(0)
    state = State(
        torch.randn(batch, 4, 32, 32, generator=draw),
        torch.full((batch, grid, grid), level),
        torch.ones(batch, grid, grid, dtype=torch.bool),
        torch.full((batch,), context),
    )
    neighbors = torch.randn(batch, k, 4, 32, 32, generator=draw)
    visible = torch.ones(batch, grid, grid, k, dtype=torch.bool)
    return state, neighbors, visible, torch.arange(grid**2).expand(batch, -1)


def run(model, state, neighbors, visible, index, weights=False):
    with torch.inference_mode():
        return model(state, model.encode_neighbors(neighbors), visible, index, weights)


def test_shipped_shape_has_at_most_ten_million_weights():
    assert sum(p.numel() for p in Denoiser().parameters()) <= 10_000_000


@pytest.mark.parametrize(("grid", "window"), [(1, 32), (2, 24), (4, 16)])
def test_shapes(model, grid, window):
    velocity, share = run(model, *situation(grid, k=3, batch=2), weights=True)
    assert velocity.shape == (2, grid**2, 4, window, window)
    assert share.shape == (2, grid**2, 3, window // 2, window // 2)
    assert share.min() >= 0
    assert share.sum(2).max() <= 1 + 1e-5


def test_neighbors_are_a_set(model):
    state, neighbors, visible, index = situation(k=4)
    straight, _ = run(model, state, neighbors, visible, index)
    turned, _ = run(model, state, neighbors.flip(1), visible, index)
    torch.testing.assert_close(straight, turned)


def test_hidden_neighbors_have_no_effect(model):
    state, neighbors, visible, index = situation(k=4)
    visible = visible.clone()
    visible[..., 2:] = False
    some, _ = run(model, state, neighbors, visible, index)
    changed = neighbors.clone()
    changed[:, 2:] += 5
    torch.testing.assert_close(run(model, state, changed, visible, index)[0], some)
    fewer = run(model, state, neighbors[:, :2], visible[..., :2], index)[0]
    torch.testing.assert_close(fewer, some)
    assert not torch.allclose(run(model, state, changed, ~visible, index)[0], some)


def test_one_block_can_have_other_neighbors(model):
    state, neighbors, visible, index = situation(k=2)
    visible = visible.clone()
    visible[..., 1] = False
    plain, _ = run(model, state._replace(context=torch.tensor([False])), neighbors, visible, index)
    visible[0, 1, 2, 1] = True
    mixed, _ = run(model, state._replace(context=torch.tensor([False])), neighbors, visible, index)
    changed = (plain - mixed).abs().flatten(2).amax(2)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [6]


def test_independent_blocks_do_not_see_each_other(model):
    state, neighbors, visible, index = situation(context=False)
    before, _ = run(model, state, neighbors, visible, index)
    canvas = state.canvas.clone()
    canvas[..., 8:] += 3  # everything right of the first column of blocks
    after, _ = run(model, state._replace(canvas=canvas), neighbors, visible, index)
    same = inner(before - after, 4, 4).abs().flatten(2).amax(2)[0].view(4, 4) < 1e-6
    assert same[:, 0].all()
    assert not same[:, 1:].any()


def test_with_context_every_block_sees_the_whole_canvas(model):
    state, neighbors, visible, index = situation()
    before, _ = run(model, state, neighbors, visible, index)
    canvas = state.canvas.clone()
    canvas[..., :8, :8] += 3  # the first block alone
    after, _ = run(model, state._replace(canvas=canvas), neighbors, visible, index)
    assert ((before - after).abs().flatten(2).amax(2) > 1e-6).all()


def test_absent_blocks_are_not_seen(model):
    state, neighbors, visible, index = situation()
    present = state.present.clone()
    present[0, 3, 3] = False
    canvas = state.canvas.clone()
    canvas[..., 24:, 24:] += 3
    before, _ = run(model, state._replace(present=present), neighbors, visible, index)
    after, _ = run(model, state._replace(present=present, canvas=canvas), neighbors, visible, index)
    torch.testing.assert_close(before, after)


def test_subset_of_blocks_gives_the_same_windows(model):
    state, neighbors, visible, index = situation(batch=2)
    everything, _ = run(model, state, neighbors, visible, index)
    some = torch.tensor([[5, 2], [0, 15]])
    part, _ = run(model, state, neighbors, visible, some)
    expected = torch.stack([everything[b, some[b]] for b in range(2)])
    torch.testing.assert_close(part, expected, rtol=1e-4, atol=1e-5)


def test_save_and_load(model, tmp_path):
    model.save(tmp_path)
    loaded = Denoiser.load(tmp_path)
    assert loaded.config == model.config
    first, second = (run(m, *situation())[0] for m in (model, loaded))
    torch.testing.assert_close(first, second, rtol=0.02, atol=0.02)  # stored in half precision


def test_damaged_file_is_one_clear_line(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(RissoleError, match="no usable denoiser") as caught:
        Denoiser.load(tmp_path)
    assert "\n" not in str(caught.value)
