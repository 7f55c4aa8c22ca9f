"""A bundle learns which photos it was trained on."""

import shutil

import pytest
import torch
from conftest import picture

from rissole.cli import main
from rissole.data.images import to_tensor
from rissole.retrieval.training_photos import FILE, TrainingPhotos
from rissole.storage.manifest import fingerprint, verify


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """Without it."""
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path / "tiny"


def test_photos_leave_a_few_numbers_each(bundle, pipe, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for n in range(20):
        picture(300 + n).save(tmp_path / "photos" / f"{n:02}.png")
    before = fingerprint(verify(bundle))
    assert main(["trained-on", str(bundle), "--data", str(tmp_path / "photos")]) == 0
    assert "19 photos; 1 that were held out" in capsys.readouterr().out
    assert fingerprint(verify(bundle)) != before  # the manifest holds the new file
    found = TrainingPhotos.load(bundle, 4)
    assert found.means.shape == (19, 64)
    latents = torch.cat([pipe.codec.encode(to_tensor(picture(300 + n))) for n in (3, 19)])
    near, held = found.nearness(latents[:1]), found.nearness(latents[1:])
    assert near.distance < 1e-2 < held.distance
    assert held.distance == pytest.approx(found.usual.item(), rel=2e-3)


def test_what_cannot_be_read_leaves_the_bundle_as_it_was(bundle, tmp_path, capsys):
    kept = (bundle / FILE).read_bytes()
    assert main(["trained-on", str(bundle), "--data", str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert (bundle / FILE).read_bytes() == kept
