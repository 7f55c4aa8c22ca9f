"""Measures with known answers, and the feature network on a few synthetic pictures."""

import json

import pytest
import torch
import torch.nn.functional as F

from rissole.config import RissoleError
from rissole.data.images import save_png, to_pil
from rissole.evaluation import network as ft
from rissole.evaluation import report as ev


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _gaussian(n, mean, root, seed):
    """Samples whose mean and covariance (root @ root) are exact, not only in expectation."""
    x = torch.randn(n, len(mean), generator=_generator(seed), dtype=torch.float64)
    x = x - x.mean(dim=0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ root + mean


def _pictures(n, size=32, seed=0):
    """Smooth coloured pictures, uint8, each with a base colour of its own."""
    generator = _generator(seed)
    base = torch.rand(n, 3, 1, 1, generator=generator) * 0.8 + 0.1
    waves = torch.randn(n, 3, 5, 5, generator=generator) * 0.08
    waves = F.interpolate(waves, (size, size), mode="bicubic", align_corners=True)
    return ((base + waves).clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.fixture(scope="module")
def network():
    return ft.train_features(_pictures(16), batch_size=8, steps=2)


# ------------------------------------------------------------------- distributions of features


def test_frechet_distance_of_a_set_to_itself_is_zero():
    x = torch.randn(50, 8, generator=_generator())
    assert ev.frechet_distance(x, x) < 1e-9


def test_frechet_distance_of_gaussians_is_the_analytic_one():
    root_a, root_b = torch.diag(torch.tensor([1.0, 2, 3])), torch.diag(torch.tensor([2.0, 2, 1]))
    mean_b = torch.tensor([1.0, 0, -2], dtype=torch.float64)
    a = _gaussian(100, torch.zeros(3, dtype=torch.float64), root_a.double(), seed=1)
    b = _gaussian(70, mean_b, root_b.double(), seed=2)
    # |mean|^2 + sum (sigma_a - sigma_b)^2, as the covariances commute
    assert ev.frechet_distance(a, b) == pytest.approx(5 + 1 + 0 + 4, abs=1e-8)
    assert ev.frechet_distance(b, a) == pytest.approx(10, abs=1e-8)


def test_frechet_distance_of_covariances_that_do_not_commute():
    root_a = torch.tensor([[2.0, 1], [1, 1]], dtype=torch.float64)
    root_b = torch.tensor([[1.0, 0], [0, 3]], dtype=torch.float64)
    zero = torch.zeros(2, dtype=torch.float64)
    a, b = _gaussian(40, zero, root_a, 1), _gaussian(40, zero, root_b, 2)
    product = root_a @ root_a @ root_b @ root_b
    # tr sqrt(P) of a 2x2 matrix with positive eigenvalues is sqrt(tr P + 2 sqrt(det P))
    cross = (product.trace() + 2 * product.det().sqrt()).sqrt()
    expected = (root_a @ root_a).trace() + (root_b @ root_b).trace() - 2 * cross
    assert ev.frechet_distance(a, b) == pytest.approx(float(expected), abs=1e-8)


def test_frechet_distance_with_fewer_images_than_features():
    x = torch.randn(10, 40, generator=_generator())
    assert ev.frechet_distance(x, x) < 1e-6
    assert ev.frechet_distance(x, x + 1) == pytest.approx(40, rel=1e-5)


def test_frechet_distance_of_one_image_is_refused():
    with pytest.raises(RissoleError, match="at least 2"):
        ev.frechet_distance(torch.zeros(1, 4), torch.zeros(5, 4))


def test_kernel_distance_is_the_unbiased_estimate():
    a = torch.randn(6, 3, generator=_generator(1), dtype=torch.float64)
    b = torch.randn(6, 3, generator=_generator(2), dtype=torch.float64)

    def kernel(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    within = sum(kernel(x[i], x[j]) for x in (a, b) for i in range(6) for j in range(6) if i != j)
    between = sum(kernel(x, y) for x in a for y in b)
    expected = within / 30 - 2 * between / 36
    value, deviation = ev.kernel_distance(a, b, subsets=3)
    assert value == pytest.approx(expected, abs=1e-12)
    assert deviation < 1e-12  # every subset is the whole set


def test_kernel_distance_is_small_for_one_distribution_and_grows_with_a_shift():
    a = torch.randn(400, 16, generator=_generator(1))
    b = torch.randn(400, 16, generator=_generator(2))
    same, _ = ev.kernel_distance(a, b, subset_size=200)
    near, far = (ev.kernel_distance(a, b + s, subset_size=200)[0] for s in (0.3, 1.0))
    assert abs(same) < 0.02 < near < far


def test_precision_and_recall_see_a_lost_mode_and_implausible_images():
    noise = torch.randn(200, 4, generator=_generator()) * 0.1
    real = torch.cat([noise[:100], noise[100:] + 10])
    one_mode = torch.randn(200, 4, generator=_generator(1)) * 0.05
    precision, recall = ev.precision_recall(real, one_mode)
    assert precision > 0.95 and recall <= 0.5
    assert ev.precision_recall(real, one_mode + 100) == (0.0, 0.0)
    assert ev.precision_recall(real, real) == (1.0, 1.0)


def test_interval_of_a_mean_is_its_standard_error():
    x = torch.randn(400, generator=_generator())
    low, high = ev.interval(lambda i: float(x[i].mean()), 400, resamples=400)
    assert (low + high) / 2 == pytest.approx(float(x.mean()), abs=1e-6)
    assert (high - low) / 2 == pytest.approx(1.96 * float(x.std()) / 20, rel=0.15)


def test_only_inception_gives_a_fid():
    x, y = torch.randn(20, 4, generator=_generator()), torch.randn(30, 4, generator=_generator(1))
    own = ev.feature_metrics(x, y, "resnet18-vicreg-seed0", resamples=2)
    assert "fid" not in own
    assert (own["n"], own["n_reference"], own["network"]) == (20, 30, "resnet18-vicreg-seed0")
    assert own["fd_ci95"][0] < own["fd"] < own["fd_ci95"][1]
    assert ev.feature_metrics(x, y, ev.INCEPTION, resamples=2)["fid"] == own["fd"]


# ----------------------------------------------------------------------------------- seams


def test_seam_ratio_of_a_ramp_is_one_and_of_noise_about_one():
    ramp = torch.linspace(-1, 1, 64)
    assert ev.seam_ratio((ramp[:, None] + ramp).expand(2, 3, 64, 64)) == pytest.approx(1, abs=1e-5)
    noise = torch.randn(32, 3, 64, 64, generator=_generator())
    smooth = F.avg_pool2d(noise, 5, stride=1, padding=2)[..., 2:-2, 2:-2]
    assert ev.seam_ratio(F.interpolate(smooth, (64, 64))) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("axis", [-1, -2])
def test_seam_ratio_is_high_for_a_mosaic(axis):
    steps = torch.arange(4).repeat_interleave(16).float() * 0.2
    mosaic = (steps + 0.01 * torch.arange(64)).expand(1, 3, 64, 64).transpose(-1, axis)
    rows = 0.01 * torch.arange(64).expand(1, 3, 64, 64).transpose(-1, -3 - axis)
    # across the mosaic: 0.21 at borders against 0.01; along it 0.01 against 0.01
    assert ev.seam_ratio(mosaic + rows) == pytest.approx(0.22 / 0.02, rel=1e-3)
    assert ev.seam_ratio(mosaic + rows, grid=2) == pytest.approx(0.22 / 0.02, rel=1e-3)


def test_seam_ratio_ignores_the_scale_of_the_pixels():
    pictures = _pictures(4, 64)
    assert ev.seam_ratio(pictures) == pytest.approx(ev.seam_ratio(ft.to_float(pictures)), rel=1e-5)


@pytest.mark.parametrize("grid", [1, 16])
def test_seam_ratio_needs_borders(grid):
    with pytest.raises(RissoleError, match="no borders"):
        ev.seam_ratio(torch.zeros(1, 3, 64, 64), grid)


# --------------------------------------------------------------------------- coherence probe


def test_swapped_blocks_come_from_the_neighbours_at_the_same_place():
    photos = _pictures(12)
    neighbors = torch.tensor([[3, 5]] * 12)
    swapped = ev.swap_blocks(photos, torch.tensor([0, 1, 7]), neighbors, 4, _generator())
    foreign = 0
    for image, own in zip(swapped, (0, 1, 7), strict=True):
        before = foreign
        for y in range(0, 32, 8):
            for x in range(0, 32, 8):
                block = image[:, y : y + 8, x : x + 8]
                owner = [i for i in (own, 3, 5) if block.equal(photos[i][:, y : y + 8, x : x + 8])]
                assert len(owner) == 1
                foreign += owner[0] != own
        assert foreign > before
    assert foreign < 40


def test_neighbours_are_neither_the_photo_itself_nor_its_duplicate():
    photos = _pictures(20)
    photos[7] = photos[3]
    neighbors = ev.nearest_photos(photos, k=5)
    assert neighbors.shape == (20, 5)
    assert not (neighbors == torch.arange(20)[:, None]).any()
    assert 7 not in neighbors[3] and 3 not in neighbors[7]


def test_auc_counts_pairs_and_halves_ties():
    assert ev.auc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0])) == 1
    assert ev.auc(torch.tensor([0.0]), torch.tensor([0.0, 1.0])) == 0.25
    assert ev.auc(torch.tensor([1.0, 1.0]), torch.tensor([1.0])) == 0.5


def test_interval_of_an_auc_knows_that_few_photos_tell_little():
    many, few = torch.randn(1000, generator=_generator()), torch.randn(25, generator=_generator(1))
    for pair in ((many, few), (few, many)):
        low, high = ev.auc_interval(*pair)
        assert (high - low) / 2 == pytest.approx(1.96 / (12 * 25) ** 0.5, rel=0.35)
        assert low < ev.auc(*pair) < high


def test_probe_finds_foreign_blocks_and_passes_photos():
    photos, held, fresh = _pictures(128), _pictures(64, seed=1), _pictures(64, seed=2)
    probe = ev.train_probe(photos, steps=40, batch_size=16)
    own = ev.probe_coherence(probe, fresh, held, photos)
    assert own["auc_swapped"] > 0.85
    assert abs(own["auc"] - 0.5) < 0.2
    assert own["auc_ci95"][0] < own["auc"] < own["auc_ci95"][1]
    patched = ev.swap_blocks(fresh, torch.arange(64), ev.nearest_photos(fresh), 4, _generator())
    assert ev.probe_coherence(probe, patched, held, photos)["auc"] > 0.85


def test_probe_does_not_see_the_pixels_at_block_borders():
    probe = ev.CoherenceProbe()
    torch.nn.init.normal_(probe.net[-1].weight, generator=_generator())
    images = ft.to_float(_pictures(2, 128))
    damaged = images.clone()
    damaged[..., 30:34] = 1
    assert torch.equal(probe.scores(damaged), probe.scores(images))
    damaged[..., 40:44] = 1
    assert not torch.equal(probe.scores(damaged), probe.scores(images))


def test_probe_is_reproducible():
    a, b = (ev.train_probe(_pictures(16), steps=3, batch_size=4, seed=5) for _ in range(2))
    assert torch.equal(a.scores(_pictures(4)), b.scores(_pictures(4)))


# ---------------------------------------------------------------------------------- copies


def test_copies_finds_a_planted_mirrored_copy(network):
    training, held, images = (_pictures(60, seed=s) for s in (0, 1, 2))
    images[4] = training[17].flip(-1)
    report = ev.copies(images, training, held, network)
    for space in ("pixel", "feature"):
        image, photo, distance = report[space]["closest"][0]
        assert (image, photo) == (4, 17)
        assert distance < 1e-3 < report[space]["median"]
    assert report["pixel"]["share"] >= 1 / 60


def test_copies_of_everything_and_of_nothing():
    training, held, fresh = (_pictures(100, seed=s) for s in (0, 1, 2))
    copied = ev.copies(training[:30], training, held)
    assert copied["pixel"]["share"] == copied["block"]["share"] == 1
    assert copied["pixel"]["median"] == 0
    chance = ev.copies(fresh, training, held)
    assert chance["pixel"]["share"] < 0.1 and chance["block"]["share"] < 0.1


def test_copied_blocks_are_found_in_images_that_are_no_copies():
    training, held, images = (_pictures(100, seed=s) for s in (0, 1, 2))
    images[:, :, :8] = training[:, :, :8].flip(-1)  # the upper row of blocks, mirrored
    report = ev.copies(images, training, held)
    assert 0.25 <= report["block"]["share"] < 0.35
    assert report["pixel"]["median"] > 0


# ------------------------------------------------------------------------- feature network


def test_training_is_reproducible_and_depends_on_seed_and_architecture(network):
    again = ft.train_features(_pictures(16), batch_size=8, steps=2)
    other = ft.train_features(_pictures(16), batch_size=8, steps=1, seed=1, arch="resnet34")
    assert again.name == network.name != other.name
    assert torch.equal(again.extract(_pictures(4)), network.extract(_pictures(4)))


def test_features_are_scaled_to_a_known_variance(network):
    variance = network.extract(_pictures(16)).var(dim=0).sum()
    assert float(variance) == pytest.approx(ft.TOTAL_VARIANCE, rel=1e-3)


def test_training_lowers_the_loss():
    history = []
    photos = _pictures(16, size=16)
    ft.train_features(photos, batch_size=16, steps=81, on_step=lambda _, x: history.append(x))
    assert history[-1]["total"] < 0.95 * history[0]["total"]


def test_ctrl_c_keeps_a_feature_network_and_it_is_trained_on(tmp_path):
    out = tmp_path / "features.safetensors"

    def stop(step, losses):
        if step == 20:
            raise KeyboardInterrupt

    def weights(network):
        return network.trunk.layer4[1].conv2.weight.detach()

    with pytest.raises(KeyboardInterrupt):
        ft.train_features(_pictures(16), batch_size=8, steps=30, out=out, on_step=stop)
    kept = ft.FeatureNetwork.load(out)
    more = ft.train_features(_pictures(16), batch_size=8, steps=1, out=out)
    moved = (weights(more) - weights(kept)).abs().max()
    assert 0 < moved < 1e-3 < (weights(kept) - weights(ft.FeatureNetwork())).abs().max()
    variance = more.extract(_pictures(16)).var(dim=0).sum()
    assert float(variance) == pytest.approx(ft.TOTAL_VARIANCE, rel=1e-3)


def test_feature_network_survives_saving(network, tmp_path):
    network.save(tmp_path / "features.safetensors")
    loaded = ft.FeatureNetwork.load(tmp_path / "features.safetensors")
    assert loaded.config == network.config and loaded.name == network.name
    pictures = _pictures(6, seed=3)
    assert torch.allclose(loaded.extract(pictures), network.extract(pictures), rtol=0.02, atol=0.05)


def test_extraction_does_not_depend_on_batches_or_type(network):
    pictures = _pictures(5, size=48)
    whole = network.extract(pictures)
    assert whole.shape == (5, network.dim)
    assert torch.allclose(network.extract(pictures, batch_size=2), whole, atol=1e-3)
    assert torch.allclose(network.extract(ft.to_float(pictures)), whole, atol=1e-3)


def test_damage_of_every_kind_happens_and_intact_photos_stay_intact():
    flat = torch.full((300, 3, 32, 32), -0.5)
    flat[150:] = 0.5
    images, kinds = ft.random_damage(flat, _generator())
    assert set(kinds.tolist()) == set(range(len(ft.DAMAGES)))
    spread = images.std(dim=(2, 3)).amax(dim=1)
    # one colour all over: warped, moved and blurred it still is, noisy it is not
    assert spread[(kinds != 5) & (kinds != 2)].max() < 1e-5
    assert spread[kinds == 5].min() > 0.02


def test_vicreg_terms():
    x = torch.randn(64, 8, generator=_generator())
    same = ft.vicreg(x, x)
    assert same["invariance"] == 0
    collapsed = ft.vicreg(torch.zeros(64, 8), torch.zeros(64, 8))
    assert float(collapsed["variance"]) == pytest.approx(25 * 0.99)
    assert collapsed["covariance"] == 0 < same["covariance"]


@pytest.mark.parametrize("content", [b"", b"not a network"])
def test_a_file_that_is_no_feature_network(tmp_path, content):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(RissoleError, match="not a feature network"):
        ft.FeatureNetwork.load(path)


def test_an_unknown_architecture_is_refused():
    with pytest.raises(RissoleError, match="resnet18"):
        ft.FeatureNetwork(ft.FeatureConfig(arch="vgg"))


# ------------------------------------------------------------------------------ all together


def test_evaluate_a_folder_against_photos(network, tmp_path):
    for i, picture in enumerate(to_pil(ft.to_float(_pictures(12, seed=4)))):
        save_png(picture, tmp_path / f"{i}.png")
    probe = ev.CoherenceProbe()
    report = ev.evaluate(tmp_path, _pictures(100), network, size=32, probe=probe)
    assert json.loads(json.dumps(report)) == report
    assert (report["n"], report["n_training"], report["n_held_out"]) == (12, 95, 5)
    assert report["features"]["network"] == network.name
    assert set(report["copies"]) == {"pixel", "feature", "block"}
    assert report["photos"]["features"]["n"] == 5
    assert report["seams"]["seam_ratio"] > 0


def test_evaluate_measures_only_what_is_asked_for(network):
    pictures = _pictures(10)
    report = ev.evaluate(pictures, pictures, network, held_out=pictures, parts=["seams"])
    assert set(report) == {"n", "n_training", "n_held_out", "photos", "seams"}
    assert report["seams"]["seam_ratio"] == report["photos"]["seam_ratio"]


@pytest.mark.parametrize(("images", "photos"), [(3, 100), (8, 40), (8, 4)])
def test_evaluate_refuses_too_few(network, images, photos):
    with pytest.raises(RissoleError, match="too few"):
        ev.evaluate(_pictures(images), _pictures(photos), network)


def test_feature_training_refuses_too_few():
    with pytest.raises(RissoleError, match="at least 4"):
        ft.train_features(_pictures(3), steps=1)


def test_evaluate_refuses_what_it_does_not_know(network, tmp_path):
    pictures = _pictures(100)
    with pytest.raises(RissoleError, match="no measure 'beauty'"):
        ev.evaluate(pictures, pictures, network, parts=["beauty"])
    with pytest.raises(RissoleError, match="no feature network 'nonsense'"):
        ev.evaluate(pictures, pictures, "nonsense")
    with pytest.raises(RissoleError, match="no pictures"):
        ev.evaluate(tmp_path, pictures, network)
