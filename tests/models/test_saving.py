"""Whatever is learned is saved and loaded in one way, and nothing in a file is taken on trust."""

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from rissole.config import RissoleError
from rissole.models.saving import SavedNetwork


@dataclass(frozen=True)
class Shape:
    sizes: tuple[int, ...] = (3, 2)


class Small(SavedNetwork):
    config_class, file_name, what = Shape, "small.safetensors", "small network"

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(*config.sizes)
        self.norm = nn.BatchNorm1d(config.sizes[1])


@pytest.fixture
def saved(tmp_path):
    Small(Shape((4, 5))).save(tmp_path)
    return tmp_path


def changed(folder, change, config='{"sizes": [4, 5]}'):
    tensors = load_file(folder / "small.safetensors")
    save_file({**tensors, **change}, folder / "small.safetensors", {"config": config})


def test_what_is_saved_comes_back_in_half_precision(saved):
    network = Small.load(saved)
    assert network.config == Shape((4, 5))
    assert not network.training and not network.layer.weight.requires_grad
    network.write(saved / "other.safetensors")
    again = Small.read(saved / "other.safetensors")
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype
    stored = load_file(saved / "small.safetensors")
    assert stored["layer.weight"].dtype == torch.float16
    assert stored["norm.num_batches_tracked"].dtype == torch.int64
    with safe_open(saved / "small.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"]) == {"sizes": [4, 5]}


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"more": torch.zeros(1)}, '{"sizes": [4, 5]}'),
        ({"layer.weight": torch.zeros(5, 3)}, '{"sizes": [4, 5]}'),
        ({"layer.bias": torch.full((5,), torch.nan)}, '{"sizes": [4, 5]}'),
        ({}, '{"sizes": [4, 5], "color": "red"}'),
        ({}, '{"sizes": 4}'),
        ({}, '["sizes"]'),
        ({}, "no json"),
    ],
)
def test_strange_files_are_refused_in_one_line(saved, change, config):
    changed(saved, change, config)
    with pytest.raises(RissoleError, match="no usable small network in") as caught:
        Small.load(saved)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_one_without_a_config_are_refused_in_one_line(saved):
    save_file({"x": torch.zeros(1)}, saved / "small.safetensors")
    for folder in (saved, saved / "none"):
        with pytest.raises(RissoleError, match="no usable small network in"):
            Small.load(folder)


def test_weights_that_are_not_finite_are_not_written(saved):
    before = (saved / "small.safetensors").read_bytes()
    broken = Small(Shape((4, 5)))
    broken.layer.weight.data[0, 0] = 1e6  # more than half precision holds
    with pytest.raises(RissoleError, match=r"layer\.weight holds numbers that are not finite"):
        broken.save(saved)
    assert (saved / "small.safetensors").read_bytes() == before
