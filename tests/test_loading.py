"""A bundle's parts from its folder: each that is missing or odd is named in one line."""

import json
import shutil

import pytest
import torch

from rissole.config import RissoleError
from rissole.loading import Parts, device_of, fast_dtype, read_config, read_parts, save_bundle
from rissole.storage.manifest import verify


@pytest.fixture
def folder(tiny_bundle, tmp_path):
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.parametrize("part", ["autoencoder", "denoiser", "scheduler", "embedding"])
def test_a_part_that_is_missing_is_named(folder, part):
    shutil.rmtree(folder / part)
    with pytest.raises(RissoleError, match=f"no usable {part} in {part}/: ") as caught:
        read_parts(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "image_size": 8, "defaults": 3}'])
def test_an_incomplete_config_is_refused_in_one_line(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(RissoleError, match="config.json is missing or incomplete"):
        read_config(folder)


def test_what_is_written_anew_is_read_again(folder, tmp_path):
    parts, config = read_parts(folder), read_config(folder)
    save_bundle(tmp_path / "anew", parts, folder / "database", config)
    verify(tmp_path / "anew")
    assert read_config(tmp_path / "anew") == config
    again = read_parts(tmp_path / "anew")
    for name in Parts._fields[:2]:
        one, other = (getattr(made, name).state_dict() for made in (parts, again))
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert json.loads((tmp_path / "anew" / "config.json").read_text())["name"] == "tiny"


def test_the_processor_is_always_there():
    assert device_of("cpu").type == "cpu"
    assert fast_dtype(torch.device("cpu")) in (torch.bfloat16, torch.float32)
    assert fast_dtype(torch.device("meta")) == torch.float32
