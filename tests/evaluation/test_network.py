"""The feature network on a few synthetic pictures."""

import pytest
import torch
from synthetic import smooth_pictures, trained_network

from rissole.config import RissoleError
from rissole.data.photos import to_float
from rissole.evaluation.network import FeatureConfig, FeatureNetwork


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_network(tmp_path_factory.mktemp("networks") / "features.safetensors")


def test_feature_network_survives_saving(network, tmp_path):
    network.write(tmp_path / "features.safetensors")
    loaded = FeatureNetwork.open(tmp_path / "features.safetensors")
    assert loaded.config == network.config and loaded.name == network.name
    pictures = smooth_pictures(6, seed=3)
    assert torch.allclose(loaded.extract(pictures), network.extract(pictures), rtol=0.02, atol=0.05)


def test_extraction_does_not_depend_on_batches_or_type(network):
    pictures = smooth_pictures(5, size=48)
    whole = network.extract(pictures)
    assert whole.shape == (5, network.dim)
    assert torch.allclose(network.extract(pictures, batch_size=2), whole, atol=1e-3)
    assert torch.allclose(network.extract(to_float(pictures)), whole, atol=1e-3)


@pytest.mark.parametrize("content", [b"", b"not a network"])
def test_a_file_that_is_no_feature_network(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(RissoleError, match="no usable feature network"):
        FeatureNetwork.open(path)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(RissoleError, match="resnet18"):
        FeatureNetwork(FeatureConfig(arch="vgg"))
