"""Distances with known answers."""

import pytest
import torch
from synthetic import generator, trained_network

from rissole.config import RissoleError
from rissole.evaluation.distances import (
    feature_metrics,
    frechet_distance,
    interval,
    kernel_distance,
    precision_recall,
)
from rissole.evaluation.network import (
    INCEPTION,
)


def _gaussian(n, mean, root, seed):
    """Samples whose mean and covariance (root @ root) are exact, not only in expectation."""
    x = torch.randn(n, len(mean), generator=generator(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ root + mean


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return trained_network(tmp_path_factory.mktemp("networks") / "features.safetensors")


def test_frechet_distance_of_a_set_to_itself_is_zero():
    x = torch.randn(50, 8, generator=generator())
    assert frechet_distance(x, x) < 1e-9


def test_frechet_distance_of_gaussians_is_the_analytic_one():
    root_a, root_b = torch.diag(torch.tensor([1.0, 2, 3])), torch.diag(torch.tensor([2.0, 2, 1]))
    mean_b = torch.tensor([1.0, 0, -2], dtype=torch.float64)
    a = _gaussian(100, torch.zeros(3, dtype=torch.float64), root_a.double(), seed=1)
    b = _gaussian(70, mean_b, root_b.double(), seed=2)
    # |mean|^2 + sum (sigma_a - sigma_b)^2, as the covariances commute
    assert frechet_distance(a, b) == pytest.approx(5 + 1 + 0 + 4, abs=1e-8)
    assert frechet_distance(b, a) == pytest.approx(10, abs=1e-8)


def test_frechet_distance_of_covariances_that_do_not_commute():
    root_a = torch.tensor([[2.0, 1], [1, 1]], dtype=torch.float64)
    root_b = torch.tensor([[1.0, 0], [0, 3]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    a, b = _gaussian(40, zero, root_a, 1), _gaussian(40, zero, root_b, 2)
    product = root_a @ root_a @ root_b @ root_b
    # tr sqrt(P) of a 2x2 matrix with positive eigenvalues is sqrt(tr P + 2 sqrt(det P))
    cross = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = (root_a @ root_a).trace() + (root_b @ root_b).trace() - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-8)


def test_frechet_distance_with_fewer_images_than_features():
    x = torch.randn(10, 40, generator=generator())
    assert frechet_distance(x, x) < 1e-6
    assert frechet_distance(x, x + 1) == pytest.approx(40, rel=1e-5)


def test_frechet_distance_of_one_image_is_refused():
    with pytest.raises(RissoleError, match="at least 2"):
        frechet_distance(torch.zeros(1, 4), torch.zeros(5, 4))


def test_kernel_distance_is_the_unbiased_estimate():
    a = torch.randn(6, 3, generator=generator(1), dtype=torch.float64)
    b = torch.randn(6, 3, generator=generator(2), dtype=torch.float64)

    def kernel(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    within = sum(kernel(x[i], x[j]) for x in (a, b) for i in range(6) for j in range(6) if i != j)
    between = sum(kernel(x, y) for x in a for y in b)
    expected = within / 30 - 2 * between / 36
    value, deviation = kernel_distance(a, b, subsets=3)
    assert value == pytest.approx(expected, abs=1e-12)
    assert deviation < 1e-12  # every subset is the whole set


def test_kernel_distance_is_small_for_one_distribution_and_grows_with_a_shift():
    a = torch.randn(400, 16, generator=generator(1))
    b = torch.randn(400, 16, generator=generator(2))
    same, _ = kernel_distance(a, b, subset_size=200)
    near, far = (kernel_distance(a, b + s, subset_size=200)[0] for s in (0.3, 1.0))
    assert abs(same) < 0.02 < near < far


def test_precision_and_recall_see_a_lost_mode_and_implausible_images():
    noise = torch.randn(200, 4, generator=generator()) * 0.1
    real = torch.cat([noise[:100], noise[100:] + 10])
    one_mode = torch.randn(200, 4, generator=generator(1)) * 0.05
    precision, recall = precision_recall(real, one_mode)
    assert precision > 0.95 and recall <= 0.5
    assert precision_recall(real, one_mode + 100) == (0.0, 0.0)
    assert precision_recall(real, real) == (1.0, 1.0)


def test_interval_of_a_mean_is_its_standard_error():
    x = torch.randn(400, generator=generator())
    low, high = interval(lambda i: float(x[i].mean()), 400, resamples=400)
    assert (low + high) / 2 == pytest.approx(float(x.mean()), abs=1e-6)
    assert (high - low) / 2 == pytest.approx(1.96 * float(x.std()) / 20, rel=0.15)


def test_only_inception_gives_a_fid():
    x, y = torch.randn(20, 4, generator=generator()), torch.randn(30, 4, generator=generator(1))
    own = feature_metrics(x, y, "resnet18-vicreg-seed0", resamples=2)
    assert "fid" not in own
    assert (own["n"], own["n_reference"], own["network"]) == (20, 30, "resnet18-vicreg-seed0")
    assert own["fd_ci95"][0] < own["fd"] < own["fd_ci95"][1]
    assert feature_metrics(x, y, INCEPTION, resamples=2)["fid"] == own["fd"]
