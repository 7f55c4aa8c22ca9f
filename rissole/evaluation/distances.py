"""How far features of images are from those of photos: one figure for two distributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rissole.config import RissoleError
from rissole.evaluation.network import INCEPTION


class Gaussian(NamedTuple):
    """Mean (D,) of features and a root R (min(N, D), D) of their covariance `R^T R`."""

    mean: Tensor
    root: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> Gaussian:
        """Fits to features (N, D), in float64."""
        if len(features) < 2:
            raise RissoleError("a Frechet distance needs at least 2 images a side")
        features = features.double()
        mean = features.mean(dim=0)
        root = torch.linalg.qr(features - mean, mode="r").R / (len(features) - 1) ** 0.5
        return cls(mean, root)


def frechet_distance(a: Tensor | Gaussian, b: Tensor | Gaussian) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, in float64.

    `|mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))` (Dowson and Landau, 1982). With
    `S = R^T R` the last trace is the sum of the singular values of `R_a R_b^T`, which needs no
    matrix square root, is exact for singular covariances (fewer images than features), and fast
    for few images. Few images bias the distance upwards: compare only equal counts.

    Args:
        a: (N, D) features, or the Gaussian fitted to them.
        b: (M, D) features, or the Gaussian fitted to them.
    """
    mean_a, root_a = a if isinstance(a, Gaussian) else Gaussian.fit(a)
    mean_b, root_b = b if isinstance(b, Gaussian) else Gaussian.fit(b)
    cross = torch.linalg.svdvals(root_a @ root_b.T).sum()
    spread = root_a.square().sum() + root_b.square().sum()  # the two traces
    return float(((mean_a - mean_b).square().sum() + spread - 2 * cross).clamp_min(0))


def kernel_distance(
    a: Tensor,
    b: Tensor,
    *,
    subsets: int = 50,
    subset_size: int = 500,
    generator: torch.Generator | None = None,
) -> tuple[float, float]:
    """Unbiased squared MMD with the cubic polynomial kernel (Binkowski et al., 2018, eq. 4).

    Unlike the Frechet distance it is unbiased for few images; it may come out below zero.

    Args:
        a: (N, D) features.
        b: (M, D) features.
        subsets: Random subsets to average over.
        subset_size: Images of each side per subset, at most min(N, M).
        generator: Chooses the subsets; seed 0 by default.

    Returns:
        Mean and standard deviation over subsets.
    """
    generator = generator or torch.Generator().manual_seed(0)
    size = min(subset_size, len(a), len(b))
    if size < 2:
        raise RissoleError("a kernel distance needs at least 2 images a side")
    drawn = [_mmd(subset(a, size, generator), subset(b, size, generator)) for _ in range(subsets)]
    values = torch.tensor(drawn, dtype=torch.float64)
    return float(values.mean()), float(values.std()) if subsets > 1 else 0.0


def subset(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """`size` rows of x at random, each at most once."""
    return x[torch.randperm(len(x), generator=generator)[:size]]


def _mmd(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    n, dim = a.shape
    within = sum(k.sum() - k.trace() for k in ((x @ x.T / dim + 1) ** 3 for x in (a, b)))
    return float(within / (n * (n - 1)) - 2 * ((a @ b.T / dim + 1) ** 3).mean())


def precision_recall(real: Tensor, images: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019, eq. 1-2).

    Precision: share of images inside the manifold of real photos, i.e. within the distance to the
    k-th neighbor of at least one photo. Recall: the same with the roles swapped. Both depend on
    the counts: `evaluate` uses as many photos as images.

    Args:
        real: (N, D) features of photos, N > k.
        images: (M, D) features of images, M > k.
        k: Which neighbor gives the radius.
    """
    if min(len(real), len(images)) <= k:
        raise RissoleError(f"precision and recall need more than {k} images a side")
    distance = torch.cdist(real, images)
    precision = (distance <= _radii(real, k)[:, None]).any(dim=0)
    recall = (distance <= _radii(images, k)[None, :]).any(dim=1)
    return float(precision.double().mean()), float(recall.double().mean())


def _radii(features: Tensor, k: int) -> Tensor:
    return torch.cdist(features, features).fill_diagonal_(0).kthvalue(k + 1, dim=1).values


def interval(
    statistic: Callable[[Tensor], float],
    count: int,
    *,
    resamples: int = 50,
    seed: int = 0,
) -> list[float]:
    """95 % bootstrap interval: the value plus and minus 1.96 standard errors.

    Not percentiles: resampling repeats images, which biases a Frechet distance upwards, so that its
    percentiles would lie beside the value.

    Args:
        statistic: Maps indices (count,) into the sample, with repetitions, to a figure.
        count: Size of the sample.
        resamples: How often to resample.
        seed: Of the resampling.
    """
    generator = torch.Generator().manual_seed(seed)
    value = statistic(torch.arange(count))
    draws = [
        statistic(torch.randint(count, (count,), generator=generator)) for _ in range(resamples)
    ]
    error = 1.96 * float(torch.tensor(draws, dtype=torch.float64).std())
    return [value - error, value + error]


def feature_metrics(
    images: Tensor, real: Tensor, name: str, *, resamples: int = 20, seed: int = 0
) -> dict:
    """FD, KD, precision and recall between features of images (N, D) and of photos (M, D).

    Returns:
        `fd` with its interval, `kd` with its deviation over subsets, `precision`, `recall`,
        counts and network. `fid` is there only when the features are Inception's.
    """
    generator = torch.Generator().manual_seed(seed)
    kd, kd_std = kernel_distance(images, real, generator=generator)
    count = min(len(images), len(real))
    precision, recall = precision_recall(
        subset(real, count, generator), subset(images, count, generator)
    )
    fitted = Gaussian.fit(real)
    fd = frechet_distance(images, fitted)
    spread = interval(
        lambda i: frechet_distance(images[i], fitted), len(images), resamples=resamples, seed=seed
    )
    result = {"network": name, "n": len(images), "n_reference": len(real), "fd": fd}
    result |= {"fd_ci95": spread, "kd": kd, "kd_std": kd_std}
    result |= {"precision": precision, "recall": recall, "n_precision": count}
    return {**result, "fid": fd} if name == INCEPTION else result
