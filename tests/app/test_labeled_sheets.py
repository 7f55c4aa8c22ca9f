"""Pictures on one sheet."""

import numpy as np
from PIL import Image

from rissole.app.labeled_sheets import block_sheet, labeled_grid


def test_a_labeled_grid_holds_every_picture():
    colors = [["red", "lime"], ["blue", None]]
    cells = [[c and Image.new("RGB", (16, 16), c) for c in line] for line in colors]
    sheet = labeled_grid(
        cells, ["k 1", "k 2"], ["steps 4", "steps 8"], [["a", "b"], ["c", ""]], "T"
    )
    found = sheet.getcolors(sheet.width * sheet.height)
    area = {color: count for count, color in found}
    for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert area[color] == 160 * 160
    plain = labeled_grid([[cells[0][0]]], [""], [""])
    assert plain.height < sheet.height


def test_a_block_sheet_shows_whom_each_block_listened_to():
    image = Image.new("RGB", (64, 64), "red")
    pictures = {5: Image.new("RGB", (64, 64), "lime"), 8: Image.new("RGB", (64, 64), "blue")}
    attention = np.zeros((2, 2, 2))
    attention[..., 1] = 0.75  # all listen to 8, one block to 5 as well
    attention[0, 1, 0] = 0.25
    sheet = block_sheet(image, [5, 8], attention, pictures.__getitem__, tile=32)
    area = {color: count for count, color in sheet.getcolors(sheet.width * sheet.height)}
    assert (area[0, 255, 0], area[0, 0, 255]) == (32 * 32 + 60 * 60, 4 * 32 * 32 + 60 * 60)
    assert area[255, 0, 0] > 4 * 32 * 32  # the blocks and the whole picture
