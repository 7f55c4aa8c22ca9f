import pytest
import torch

from rissole.blocks import (
    blend,
    blend_weights,
    crop_blocks,
    crop_windows,
    inner,
    per_cell,
    stitch,
    take_windows,
)

CANVAS = torch.arange(2 * 3 * 32 * 32, dtype=torch.float32).view(2, 3, 32, 32)


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_blocks_and_stitch_are_inverse(grid):
    assert torch.equal(stitch(crop_blocks(CANVAS, grid), grid), CANVAS)


@pytest.mark.parametrize("grid", [2, 4])
def test_window_holds_its_block_and_what_is_around_it(grid):
    windows = crop_windows(CANVAS, grid, 4)
    assert torch.equal(inner(windows, grid, 4), crop_blocks(CANVAS, grid))
    assert torch.equal(windows[0, 0, :, :4], torch.zeros_like(windows[0, 0, :, :4]))
    side = 32 // grid
    assert torch.equal(windows[0, -1, :, 4, :4], CANVAS[0, :, 32 - side, 28 - side : 32 - side])


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_take_windows_agrees_with_crop_windows(grid):
    index = torch.stack([torch.randperm(grid**2, generator=torch.Generator().manual_seed(s))
                         for s in range(2)])[:, : max(1, grid)]  # fmt: skip
    taken = take_windows(CANVAS.movedim(1, -1), index, grid, 4)
    windows = crop_windows(CANVAS, grid, 4)
    expected = torch.stack([windows[b, index[b]] for b in range(2)]).flatten(0, 1)
    assert torch.equal(taken.transpose(1, 2).reshape(expected.shape), expected)


@pytest.mark.parametrize("grid", [1, 2, 4])
def test_blending_what_was_cut_gives_it_back(grid):
    back = blend(crop_windows(CANVAS, grid, 4), torch.arange(grid**2), grid, 4)
    torch.testing.assert_close(back, CANVAS)


def test_blend_weights_add_up_to_one():
    weights = blend_weights(8, 4)
    overlaps = [weights[y : y + 8, x : x + 8] for y in (0, 8) for x in (0, 8)]
    torch.testing.assert_close(sum(overlaps), torch.ones(8, 8))


def test_blending_fades_from_one_block_to_the_next():
    values = torch.arange(4.0).view(1, 4, 1, 1, 1).expand(1, 4, 1, 24, 24)
    row = blend(values, torch.arange(4), 2, 4)[0, 0, 0]
    assert row[0] == 0
    assert row[-1] == 1
    assert (row.diff() >= 0).all()
    assert row.diff().max() < 0.2  # hard edges would jump by 1


def test_per_cell_spreads_block_values():
    values = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    assert torch.equal(per_cell(values, 4)[1], torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert torch.equal(per_cell(values, 4)[3], torch.tensor([2.0, 2.0, 3.0, 3.0]))
