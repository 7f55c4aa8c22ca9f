"""Photos in memory, and those that are held out."""

import numpy as np
import pytest
import torch
from conftest import picture

from rissole.config import RissoleError
from rissole.data.photos import load_photos, split


@pytest.fixture(scope="module")
def photos():
    return torch.stack([torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(48)])


def test_photos_from_a_folder_with_odd_files(tmp_path, capsys):
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "broken.png").write_bytes(b"not a picture either")
    assert load_photos(tmp_path, 64).shape == (3, 3, 64, 64)
    assert "left out: 2\n  2 x text (broken.png, notes.txt)" in capsys.readouterr().err
    with pytest.raises(RissoleError, match="no pictures"):
        load_photos(tmp_path / "..", 64, limit=0)


def test_split_holds_out_the_same_photos_every_time(photos):
    train, held = split(photos)
    assert len(train) + len(held) == len(photos)
    assert torch.equal(held, split(photos)[1])


def test_split_holds_out_one_of_a_few_photos(photos):
    for count in (2, 3, 19, 20, 39):
        assert len(split(photos[:count])[1]) == 1
    assert torch.equal(split(photos[:3])[1][0], photos[2])


def test_one_photo_cannot_be_split(photos):
    with pytest.raises(RissoleError, match="at least 2 photos are needed"):
        split(photos[:1])
