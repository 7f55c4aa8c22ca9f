"""Measuring generated images: do they look real, hold together, and are they new?

:func:`evaluate` reports everything at once; each measure is a function of its own above it.

============  =====================================================================================
Frechet       How far the distribution of features is from that of real photos (FD, KD), and in
              which way: precision (is every image plausible?), recall (is every photo covered?).
Seam ratio    Whether block borders can be seen in the pixels.
Probe         Whether the blocks of an image belong together, borders aside.
Copies        Whether images are copies of training photos, as a whole or block by block.
Classes       Whether images show what they were asked to.
============  =====================================================================================

Images are tensors (N, 3, H, W), uint8 or float in [-1, 1]. No figure means much alone: each comes
with the same figure for real photos that no network was trained on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from rissole.config import RissoleError
from rissole.data.photos import load_photos, split
from rissole.evaluation.network import FeatureNetwork, blurred, jitter_colours, resize, to_float

Source = Tensor | str | Path
PARTS = ("features", "seams", "probe", "copies")
# torch-fidelity's name of the one network whose Frechet distance is the FID.
INCEPTION = "inception-v3-compat"
EXTRACTORS = {INCEPTION: "2048", "clip-vit-b-32": "clip"}  # network: its layer


# ------------------------------------------------------------------ distributions of features


class Gaussian(NamedTuple):
    """Mean (D,) of features and a root R (min(N, D), D) of their covariance ``R^T R``."""

    mean: Tensor
    root: Tensor

    @classmethod
    def fit(cls, features: Tensor) -> Gaussian:
        """Fit to features (N, D), in float64."""
        if len(features) < 2:
            raise RissoleError("a Frechet distance needs at least 2 images a side")
        features = features.double()
        mean = features.mean(dim=0)
        root = torch.linalg.qr(features - mean, mode="r").R / (len(features) - 1) ** 0.5
        return cls(mean, root)


def frechet_distance(a: Tensor | Gaussian, b: Tensor | Gaussian) -> float:
    """Frechet distance between Gaussians fitted to two sets of features, in float64.

    ``|mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^(1/2))`` (Dowson and Landau, 1982). With
    ``S = R^T R`` the last trace is the sum of the singular values of ``R_a R_b^T``, which needs no
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
    values = [
        _mmd(_subset(a, size, generator), _subset(b, size, generator)) for _ in range(subsets)
    ]
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std()) if subsets > 1 else 0.0


def _subset(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    return x[torch.randperm(len(x), generator=generator)[:size]]


def _mmd(a: Tensor, b: Tensor) -> float:
    a, b = a.double(), b.double()
    n, dim = a.shape
    within = sum(k.sum() - k.trace() for k in ((x @ x.T / dim + 1) ** 3 for x in (a, b)))
    return float(within / (n * (n - 1)) - 2 * ((a @ b.T / dim + 1) ** 3).mean())


def precision_recall(real: Tensor, images: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019, eq. 1-2).

    Precision: share of images inside the manifold of real photos, i.e. within the distance to the
    k-th neighbour of at least one photo. Recall: the same with the roles swapped. Both depend on
    the counts: :func:`evaluate` uses as many photos as images.

    Args:
        real: (N, D) features of photos, N > k.
        images: (M, D) features of images, M > k.
        k: Which neighbour gives the radius.
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


# ----------------------------------------------------------------------------------- seams


def seam_ratio(images: Tensor, grid: int = 4) -> float:
    """Mean absolute pixel jump across block borders / the same 2 and 3 pixels away.

    1 means that borders cannot be told from their surroundings; real photos have about 1.

    Args:
        images: (N, 3, H, W), uint8 or float.
        grid: Blocks per side, at least 2.
    """
    at, beside = seam_jumps(images, grid)
    return float(at.sum() / beside.sum().clamp_min(1e-12))


def seam_jumps(images: Tensor, grid: int = 4) -> tuple[Tensor, Tensor]:
    """Mean absolute jump (N,) per image at the borders and beside them, in both directions."""
    size = min(images.shape[-2:])
    if grid < 2 or size < 8 * grid:
        raise RissoleError(f"a {grid}x{grid} grid on {size} pixels has no borders to compare")
    pairs = [_jumps_along(to_float(images).transpose(-1, axis), grid) for axis in (-1, -2)]
    return tuple(torch.stack(part).mean(dim=0) for part in zip(*pairs, strict=True))


def _jumps_along(images: Tensor, grid: int) -> tuple[Tensor, Tensor]:
    width = images.shape[-1]
    jumps = images.diff(dim=-1).abs().double().mean(dim=(1, 2))  # (N, W - 1); i is between i, i + 1
    borders = torch.tensor([round(i * width / grid) - 1 for i in range(1, grid)])
    beside = (borders[:, None] + torch.tensor([-3, -2, 2, 3])).flatten()
    return jumps[:, borders].mean(dim=1), jumps[:, beside].mean(dim=1)


# --------------------------------------------------------------------------- coherence probe


class CoherenceProbe(nn.Module):
    """Small CNN that tells photos from photos with foreign blocks; higher means less coherent.

    The pixels at block borders are hidden from it: seams are measured by :func:`seam_ratio`, the
    probe shall look at what lies on both sides of them.

    Args:
        grid: Blocks per side.
        width: Channels of the first layer.
        seed: Of the weights.
    """

    hidden = 3  # pixels each side of a border, of 128
    resolution = 64

    def __init__(self, grid: int = 4, width: int = 24, seed: int = 0):
        super().__init__()
        self.grid = grid
        plan = [(3, 1, 2), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 4, 2), (4, 4, 1)]
        layers = [_layer(i if i == 3 else i * width, o * width, stride) for i, o, stride in plan]
        # Flattened, not pooled: left and right have to be compared.
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * width, 1))
        generator = torch.Generator().manual_seed(seed)
        for part in self.net.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, generator=generator)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) that images (B, 3, H, W) in [-1, 1] contain foreign blocks."""
        return self.net(resize(self._hide_borders(resize(images, 128)), self.resolution))[:, 0]

    def _hide_borders(self, images: Tensor) -> Tensor:
        distance = torch.arange(128, device=images.device) + 0.5
        near = torch.zeros(128, dtype=torch.bool, device=images.device)
        for i in range(1, self.grid):
            near |= (distance - 128 * i / self.grid).abs() < self.hidden
        return images.masked_fill(near[:, None] | near, 0)

    @torch.no_grad()
    def scores(self, images: Tensor, batch_size: int = 256) -> Tensor:
        """Logits (N,) on the CPU for images, uint8 or float in [-1, 1], on any device."""
        self.eval()
        device = next(self.parameters()).device
        return torch.cat([self(to_float(x.to(device))).cpu() for x in images.split(batch_size)])


def _layer(inputs: int, outputs: int, stride: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def train_probe(
    photos: Tensor,
    *,
    grid: int = 4,
    steps: int = 300,
    batch_size: int = 64,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> CoherenceProbe:
    """Train a probe: each batch holds photos, and the same photos with neighbours' blocks.

    Args:
        photos: (N, 3, S, S) real photos, uint8 or float.
        grid: Blocks per side.
        steps: Training steps; 300 take some 3 minutes on 2 CPU cores, seconds on a GPU.
        batch_size: Photos per step.
        seed: Of weights and batches.
        device: Where to train.
    """
    probe = CoherenceProbe(grid, seed=seed).to(device).train()
    photos, neighbors = photos.to(device), nearest_photos(photos, device=device).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in tqdm(range(steps), desc="coherence probe", leave=False, disable=None):
        picks = torch.randint(len(photos), (batch_size,), generator=generator, device=device)
        swapped = swap_blocks(photos, picks, neighbors, grid, generator)
        pair = _vary(to_float(photos[picks]), to_float(swapped), generator)
        target = torch.arange(2, device=device).repeat_interleave(len(picks)).float()
        loss = F.binary_cross_entropy_with_logits(probe(pair), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return probe.eval()


def nearest_photos(
    photos: Tensor, k: int = 8, count: int | None = None, device: str | torch.device = "cpu"
) -> Tensor:
    """Indices (N, k) of each photo's nearest others by cosine of 8x8 thumbnails.

    Near duplicates (cosine above 0.97, the next frame of the same cat) are left out: a block of
    one would be called foreign and look at home.

    Args:
        photos: (N, 3, S, S).
        k: How many of each.
        count: Only for so many photos, the first ones.
        device: Where they are compared, some hundred at a time.
    """
    thumbs = thumbnails(photos, 8).flatten(1).to(device)
    thumbs = F.normalize(thumbs - thumbs.mean(dim=1, keepdim=True), dim=1)
    found = []
    for rows in torch.arange(len(thumbs) if count is None else count, device=device).split(512):
        similarity = thumbs[rows] @ thumbs.T
        similarity = similarity.masked_fill(similarity > 0.97, -1).scatter(1, rows[:, None], -2)
        found.append(similarity.topk(min(k, len(photos) - 1), dim=1).indices.cpu())
    return torch.cat(found)


def swap_blocks(
    photos: Tensor, picks: Tensor, neighbors: Tensor, grid: int, generator: torch.Generator
) -> Tensor:
    """The picked photos with 1/10 to 6/10 of their blocks (at least one) from their neighbours.

    Args:
        photos: (N, 3, S, S).
        picks: (B,) indices of the photos to change.
        neighbors: (N, k) indices of each photo's neighbours; each block draws its own.
        grid: Blocks per side.
        generator: On the device of ``photos``.
    """
    count, size, device = len(picks), photos.shape[-1], photos.device
    draw = torch.empty(count, 1, grid, grid, device=device).uniform_(generator=generator)
    share = torch.empty(count, 1, 1, 1, device=device).uniform_(0.1, 0.6, generator=generator)
    foreign = (draw < share) | (draw == draw.amin(dim=(2, 3), keepdim=True))
    shape = (count, grid, grid)
    choice = torch.randint(neighbors.shape[1], shape, generator=generator, device=device)
    owner = neighbors[picks[:, None, None], choice]
    owner = torch.where(foreign[:, 0], owner, picks[:, None, None])
    cell = torch.arange(size, device=device) * grid // size  # pixel -> block
    y, x = torch.arange(size, device=device)[:, None], torch.arange(size, device=device)
    pixel_owner = owner[:, cell[:, None], cell]
    return photos.permute(0, 2, 3, 1)[pixel_owner, y, x].permute(0, 3, 1, 2)


def _vary(real: Tensor, swapped: Tensor, generator: torch.Generator) -> Tensor:
    """Both batches, one after the other, under the same random mirror, colours and softness.

    Generated images are a little softer and paler than photos. Without this the probe would take
    that for a sign.
    """
    count, device = len(real), real.device
    both = torch.cat([real, swapped], dim=1)  # as channels: the same change for both
    mirror = torch.empty(count, 1, 1, 1, device=device).uniform_(generator=generator) < 0.5
    both = torch.where(mirror, both.flip(-1), both)
    soft = torch.empty(count, 1, 1, 1, device=device).uniform_(generator=generator)
    both = torch.lerp(both, blurred(both, 1.0), soft)
    state = generator.get_state()
    real = jitter_colours(both[:, :3], generator)
    generator.set_state(state)
    return torch.cat([real, jitter_colours(both[:, 3:], generator)])


def auc(positive: Tensor, negative: Tensor) -> float:
    """Chance that a random positive score exceeds a random negative one; ties count half."""
    ordered = negative.sort().values
    positive = positive.contiguous()
    below, up_to = (torch.searchsorted(ordered, positive, right=r) for r in (False, True))
    return float((below + up_to).double().mean() / (2 * len(negative)))


def auc_interval(positive: Tensor, negative: Tensor, seed: int = 0) -> list[float]:
    """95 % interval of :func:`auc`; both sides are samples, and the smaller one errs more."""
    value = auc(positive, negative)
    tops = (
        interval(lambda i: auc(positive[i], negative), len(positive), seed=seed)[1],
        interval(lambda i: auc(positive, negative[i]), len(negative), seed=seed)[1],
    )
    error = math.hypot(*(top - value for top in tops))  # independent: their variances add up
    return [value - error, value + error]


def probe_coherence(
    probe: CoherenceProbe, images: Tensor, held_out: Tensor, training: Tensor, seed: int = 0
) -> dict[str, float | list[float] | int]:
    """Compare images with real photos under a trained probe.

    Args:
        probe: From :func:`train_probe`.
        images: (N, 3, H, W) images to judge.
        held_out: (M, 3, S, S) real photos that the probe has not seen.
        training: (K, 3, S, S) real photos that lend blocks to them for ``auc_swapped``.
        seed: Of the blocks swapped into the held-out photos.

    Returns:
        ``auc`` of images against photos (0.5: as coherent as photos; 1: each looks patched),
        its interval ``auc_ci95``, ``auc_swapped`` of photos with swapped blocks against photos
        (how well the probe can tell at all), and ``auc_photos``, one half of the photos against
        the other (0.5 but for chance).
    """
    generator = torch.Generator().manual_seed(seed)
    held, everyone = held_out.cpu(), torch.cat([held_out.cpu(), training.cpu()])
    device = next(probe.parameters()).device
    neighbors = nearest_photos(everyone, count=len(held), device=device)
    swapped = swap_blocks(everyone, torch.arange(len(held)), neighbors, probe.grid, generator)
    real, fake, patched = (probe.scores(x) for x in (held, images, swapped))
    return {
        "auc": auc(fake, real),
        "auc_ci95": auc_interval(fake, real, seed),
        "auc_swapped": auc(patched, real),
        "auc_photos": auc(real[::2], real[1::2]),
        "n_held_out": len(held),
    }


# ---------------------------------------------------------------------------------- copies


def thumbnails(images: Tensor, size: int = 16) -> Tensor:
    """Images averaged down to (N, 3, size, size), on the CPU."""
    return torch.cat([F.adaptive_avg_pool2d(to_float(x), size).cpu() for x in images.split(512)])


def nearest(
    queries: Sequence[Tensor], training: Tensor, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Distance (N,) to, and index (N,) of, the nearest training item.

    Args:
        queries: (N, D) embeddings of the images, and of their mirror images, and so on; the
            nearest of all counts.
        training: (M, D) embeddings of the training photos.
        device: Where they are compared.

    Returns:
        Root mean square difference per dimension, and indices into ``training``.
    """
    best = [_nearest_one(query.to(device), training.to(device)) for query in queries]
    distance, which = torch.stack([d for d, _ in best]).min(dim=0)
    index = torch.stack([i for _, i in best]).gather(0, which[None])[0]
    return distance.cpu(), index.cpu()


def _nearest_one(query: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Search by the fast cdist, then measure exactly: its rounding keeps copies away from 0."""
    parts = query.split(1024)  # against 50,000 photos 200 MB at a time
    index = torch.cat([torch.cdist(part, training).argmin(dim=1) for part in parts])
    return (query - training[index]).square().mean(dim=1).sqrt(), index


def copies(
    images: Tensor,
    training: Tensor,
    held_out: Tensor,
    features: FeatureNetwork | None = None,
    grid: int = 4,
) -> dict[str, dict]:
    """Distances to the nearest training photo, mirror images included.

    Args:
        images: (N, 3, H, W) images to judge.
        training: (M, 3, S, S) photos the generator was trained on.
        held_out: (K, 3, S, S) photos it was not trained on: how near is near by chance.
        features: Adds distances in this network's feature space.
        grid: Blocks per side of the comparison block by block.

    Returns:
        Per space (``pixel``: 16x16 thumbnails, ``feature``, ``block``: blocks at the same position
        in thumbnails of 8x8 each): ``median`` and ``median_held_out`` distance, ``p01_held_out``,
        and ``share`` of images (blocks) closer than that, 0.01 by chance. Whole-image spaces
        list the ``closest`` pairs as [image, training photo, distance].
    """
    sets = (images, training, held_out)
    device = features.device if features is not None else torch.device("cpu")
    result = {"pixel": _compare(*(with_mirror(thumbnails(x)) for x in sets), device)}
    if features is not None:
        pairs = [(features.extract(x), features.extract(x.flip(-1))) for x in (images, held_out)]
        result["feature"] = _compare(pairs[0], (features.extract(training),), pairs[1], device)
    result["block"] = _block_copies(*(thumbnails(x, 8 * grid) for x in sets), grid, device)
    return result


def with_mirror(thumbs: Tensor) -> tuple[Tensor, Tensor]:
    """Flat thumbnails (N, D), and those of the mirror images."""
    return thumbs.flatten(1), thumbs.flip(-1).flatten(1)


def _compare(
    images: Sequence[Tensor],
    training: Sequence[Tensor],
    held: Sequence[Tensor],
    device: str | torch.device,
) -> dict:
    distance, index = nearest(images, training[0], device)
    baseline, _ = nearest(held, training[0], device)
    order = distance.argsort()[:8].tolist()
    closest = [[i, int(index[i]), float(distance[i])] for i in order]
    return {**_summary(distance, baseline), "closest": closest}


def _summary(distance: Tensor, baseline: Tensor) -> dict[str, float]:
    limit = baseline.double().quantile(0.01)
    return {
        "median": float(distance.median()),
        "median_held_out": float(baseline.median()),
        "p01_held_out": float(limit),
        "share": float((distance < limit).double().mean()),
    }


def _block_copies(
    images: Tensor, training: Tensor, held: Tensor, grid: int, device: str | torch.device
) -> dict[str, float]:
    """The same for blocks against blocks at their position; limits are per position."""
    parts = []
    for row, column in itertools.product(range(grid), repeat=2):
        base = _cut(training, row, column)[0]
        near = (nearest(_cut(x, row, column), base, device)[0] for x in (images, held))
        parts.append(_summary(*near))
    return {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}


def _cut(thumbs: Tensor, row: int, column: int) -> tuple[Tensor, Tensor]:
    """Block (row, column), 8x8, of thumbnails and of their mirror images."""
    window = (..., slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
    return thumbs[window].flatten(1), thumbs.flip(-1)[window].flatten(1)


# --------------------------------------------------------------------------------- classes


class LinearClassifier(NamedTuple):
    """Least squares from features to classes.

    Attributes:
        weight: (D + 1, classes), the last row a constant; float64.
    """

    weight: Tensor

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, ridge: float = 1e-2) -> LinearClassifier:
        """Fit to features (N, D) and labels (N,); those of -1 are left out.

        Args:
            features: Of photos.
            labels: Their classes.
            ridge: Weight of the penalty, in units of the features' mean variance.
        """
        known = labels >= 0
        x, y = cls._padded(features[known]), F.one_hot(labels[known]).double()
        penalty = ridge * len(x) * features.double().var(dim=0).mean()
        gram = x.T @ x + penalty * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        return cls(torch.linalg.solve(gram, x.T @ y))

    def predict(self, features: Tensor) -> Tensor:
        """The class (N,) of each of features (N, D)."""
        return (self._padded(features) @ self.weight).argmax(dim=1)

    def margin(self, features: Tensor, wanted: Tensor) -> Tensor:
        """By how much (N,) features (N, D) look like their wanted class (N,), not the next best."""
        score = self._padded(features) @ self.weight
        own = score.gather(1, wanted[:, None])
        return (own - score.scatter(1, wanted[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]

    @staticmethod
    def _padded(features: Tensor) -> Tensor:
        return F.pad(features.double(), (0, 1), value=1.0)


# ------------------------------------------------------------------------------ all together


class LibraryFeatures:
    """A well-known network of the torch-fidelity library, with its downloaded weights.

    Args:
        name: One of ``EXTRACTORS``.
        device: Where to run it.

    Raises:
        RissoleError: Unknown name, library not installed, or weights not to be had.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu"):
        if name not in EXTRACTORS:
            raise RissoleError(
                f"no feature network {name!r}: give a file or one of {[*EXTRACTORS]}"
            )
        try:
            from torch_fidelity.utils import create_feature_extractor
        except ImportError as error:
            raise RissoleError(f"{name} needs the package torch-fidelity") from error
        try:
            network = create_feature_extractor(name, [EXTRACTORS[name]], cuda=False)
        except Exception as error:  # no network, no space, a damaged download, ...
            raise RissoleError(f"cannot load the weights of {name}: {error}") from error
        self.name, self.device, self.network = name, device, network.to(device)

    @torch.no_grad()
    def extract(self, images: Tensor, batch_size: int = 64) -> Tensor:
        """Features (N, D) on the CPU of images, uint8 or float in [-1, 1]."""
        batches = tqdm(images.split(batch_size), desc=self.name, leave=False, disable=None)
        outputs = [self.network(to_bytes(x).to(self.device))[0] for x in batches]
        return torch.cat([x.float().cpu() for x in outputs])


def to_bytes(images: Tensor) -> Tensor:
    """Images as uint8: floats in [-1, 1] are rescaled, uint8 passes."""
    if images.dtype == torch.uint8:
        return images
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def load_features(
    features: FeatureNetwork | str | Path, device: str | torch.device = "cpu"
) -> FeatureNetwork | LibraryFeatures:
    """A feature network from a file written by ``FeatureNetwork.save`` or by its known name."""
    if isinstance(features, FeatureNetwork):
        return features.to(device).eval()
    if Path(features).is_file():
        return FeatureNetwork.load(features, device)
    return LibraryFeatures(str(features), device)


def feature_metrics(
    images: Tensor, real: Tensor, name: str, *, resamples: int = 20, seed: int = 0
) -> dict:
    """FD, KD, precision and recall between features of images (N, D) and of photos (M, D).

    Returns:
        ``fd`` with its interval, ``kd`` with its deviation over subsets, ``precision``, ``recall``,
        counts and network. ``fid`` is there only when the features are Inception's.
    """
    generator = torch.Generator().manual_seed(seed)
    kd, kd_std = kernel_distance(images, real, generator=generator)
    count = min(len(images), len(real))
    precision, recall = precision_recall(
        _subset(real, count, generator), _subset(images, count, generator)
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


def evaluate(
    images: Source,
    reference: Source,
    features: FeatureNetwork | str | Path,
    *,
    held_out: Source | None = None,
    size: int = 128,
    grid: int = 4,
    parts: Sequence[str] = PARTS,
    probe: CoherenceProbe | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> dict:
    """Measure images against real photos.

    Args:
        images: Generated images: a tensor, or a folder of pictures.
        reference: Training photos: a tensor, a folder, or a parquet file or folder of such.
        features: Network for distances: itself, a file, or a name in ``EXTRACTORS``.
        held_out: Photos that no network was trained on. By default split off ``reference`` in
            the way that training does.
        size: Side in pixels to which folders are read.
        grid: Blocks per side, for seams, probe and copies.
        parts: What to measure, of ``PARTS``.
        probe: A trained probe, to save its training when many sets are measured.
        seed: Of everything random.
        device: Where networks run.

    Returns:
        Nested dict, ready for JSON: ``features`` (:func:`feature_metrics`), ``seams``,
        ``probe`` (:func:`probe_coherence`), ``copies`` (:func:`copies`, photos numbered as in
        the training part of ``reference``); ``photos`` holds the same
        figures for the held-out photos, the floor (``fd_images_at_n``: the images' FD at the
        photos' smaller count, to compare with).

    Raises:
        RissoleError: Unknown part, unreadable source, too few images.
    """
    check_parts(parts)
    training = _load(reference, size)
    training, held = split(training) if held_out is None else (training, _load(held_out, size))
    images = _load(images, size)
    _check_counts(images, training, held)
    network = load_features(features, device) if {"features", "copies"} & set(parts) else None
    result: dict[str, Any] = {
        "n": len(images),
        "n_training": len(training),
        "n_held_out": len(held),
    }
    result["photos"] = {"n": len(held)}
    if "features" in parts:
        result["features"], floor = _measure_features(images, training, held, network, seed)
        result["photos"] |= floor
    if "seams" in parts and grid > 1:
        result["seams"] = _measure_seams(images, grid, seed)
        result["photos"]["seam_ratio"] = seam_ratio(held, grid)
    if "probe" in parts and grid > 1:
        probe = probe or train_probe(training, grid=grid, seed=seed, device=device)
        result["probe"] = probe_coherence(probe, images, held, training, seed)
    if "copies" in parts:
        result["copies"] = copies(images, training, held, network, grid)
    return result


def check_parts(parts: Sequence[str]) -> None:
    """Refuse what is none of ``PARTS``."""
    if unknown := set(parts) - set(PARTS):
        raise RissoleError(f"no measure {min(unknown)!r}: choose from {', '.join(PARTS)}")


def _load(source: Source, size: int) -> Tensor:
    return source if isinstance(source, Tensor) else load_photos(source, size)


def _check_counts(images: Tensor, training: Tensor, held: Tensor) -> None:
    """The neighbours in several measures set the smallest useful counts."""
    for what, photos in (("image", images), ("training photo", training), ("held-out photo", held)):
        if len(photos) < 5:
            raise RissoleError(
                f"too few to measure: {len(photos)} {what}(s), at least 5 are needed"
            )


def _measure_features(
    images: Tensor, training: Tensor, held: Tensor, network: FeatureNetwork, seed: int
) -> tuple[dict, dict]:
    """Metrics of the images, and those of the held-out photos as their floor."""
    made, real, kept = (network.extract(x) for x in (images, training, held))
    result = feature_metrics(made, real, network.name, seed=seed)
    floor = feature_metrics(kept, real, network.name, seed=seed)
    count = min(len(made), len(kept))
    generator = torch.Generator().manual_seed(seed)
    fitted = Gaussian.fit(real)
    equal = [frechet_distance(_subset(made, count, generator), fitted) for _ in range(5)]
    return result, {"features": floor, "fd_images_at_n": sum(equal) / len(equal)}


def _measure_seams(images: Tensor, grid: int, seed: int) -> dict:
    at, beside = seam_jumps(images, grid)
    spread = interval(lambda i: float(at[i].sum() / beside[i].sum()), len(at), seed=seed)
    return {"grid": grid, "seam_ratio": float(at.sum() / beside.sum()), "seam_ratio_ci95": spread}
