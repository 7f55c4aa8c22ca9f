"""Which pictures have a clear defect, learned from grades that somebody gave to some of them.

No distance of distributions sees that two eyes do not match, and no discriminator of ours learned
to. A linear layer on features of a network that knows photos does, from some 1,500 grades. What it
finds is then avoided: by a network that is polished (learning from human feedback, arXiv
2304.05977; gradients through all steps, arXiv 2309.17400), and by a gallery that is chosen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from rissole.config import RissoleError
from rissole.data.photos import to_float
from rissole.evaluation.augmentation import turn_hue
from rissole.evaluation.lite import LiteNetwork
from rissole.evaluation.probe import auc
from rissole.loading import half_precision
from rissole.storage.files import save_tensors
from rissole.training.reconstruction import RESOLUTION, judging_network, shifted

STEM = "defects"  # of files in a run's folder, one for each kind
BLOCKS = 16  # of EfficientNet-Lite0: all but its head
CELLS = 8  # per side of the maps that are looked at
LEARNED = "fine", "coarse", "bias", "usual"  # tensors of the file
MARGIN = 0.5  # of a logit, by which painted pictures shall look better than photos
LOOKS = 4  # at every picture
FOLDS = 6
INSIDE = 0.1  # how much of what is looked at is kept while defects are led away from
PENALTIES = (3.0, 10.0, 30.0)  # of the ridge, of which the best is taken

Region = tuple[float, float, float, float]  # top, left, bottom, right, as shares of the side
WHOLE: Region = (0.0, 0.0, 1.0, 1.0)


class DefectJudge(nn.Module):
    """How sure it is that pictures have a clear defect; gradients flow back into the pictures.

    Args:
        network: whose two coarsest maps are looked at.
        region: the part of a picture that is looked at.
        weights: (C, h, w) for each of the two maps.
        bias: of the logit.
        usual: the logit that photos have on average.
    """

    fine: Tensor
    coarse: Tensor
    bias: Tensor
    usual: Tensor

    def __init__(
        self,
        network: LiteNetwork,
        region: Region,
        weights: Sequence[Tensor],
        bias: Tensor,
        usual: Tensor,
    ):
        super().__init__()
        self.network, self.region = network, region
        for name, value in zip(LEARNED, (*weights, bias, usual), strict=True):
            self.register_buffer(name, value.float())

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B,) of pictures (B, 3, S, S) in [-1, 1]: higher where a defect is more likely."""
        maps = looked_at(self.network, images, self.region)
        parts = zip(maps, (self.fine, self.coarse), strict=True)
        return sum((m * w).sum((1, 2, 3)) for m, w in parts) + self.bias

    def avoided(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What a painter of pictures (B, 3, S, S) lowers: how likely defects are, in any colors.

        In their own it would learn what color the eyes have that are seldom found wrong. What looks
        a little better than photos do is good enough: farther on, pictures would be less like them.
        """
        logits = self(turn_hue(images.float(), generator))
        return F.relu(logits - self.usual + MARGIN).mean()

    def elsewhere(self, like: Tensor) -> Tensor:
        """How much each cell (1, 1, S, S) of latents or pictures (B, C, S, S) shall be kept."""
        size = like.shape[-1]
        top, left, bottom, right = (round(share * size) for share in self.region)
        weights = torch.ones(1, 1, size, size, device=like.device)
        weights[..., top:bottom, left:right] = INSIDE
        return weights

    @torch.no_grad()
    def grade(self, images: Tensor, batch: int = 64) -> Tensor:
        """Logits (N,) on the CPU of uint8 pictures (N, 3, S, S)."""
        bar = tqdm(images.split(batch), "looking", unit="batch", leave=False, disable=None)
        with half_precision(self.bias.device):
            return torch.cat([self(to_float(part).to(self.bias.device)).cpu() for part in bar])

    def save(self, path: Path, figures: dict[str, Any]) -> None:
        """Writes what was learned, with figures on it; the network's weights are a package's."""
        told = {"region": list(self.region), **figures}
        tensors = {name: getattr(self, name).cpu() for name in LEARNED}
        save_tensors(tensors, path, {"judge": json.dumps(told)})

    @classmethod
    def open(cls, path: Path, device: str, network: LiteNetwork | None = None) -> DefectJudge:
        """Reads a file of `save`.

        Args:
            network: EfficientNet-Lite0 by default.

        Raises:
            RissoleError: for another file, or when the network's weights are not installed.
        """
        try:
            with safe_open(path, "pt") as file:
                fine, coarse, bias, usual = (file.get_tensor(name) for name in LEARNED)
                region = json.loads(file.metadata()["judge"])["region"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RissoleError(f"{path} holds no grades that were learned") from error
        network = defect_network(network, device)
        return cls(network, tuple(region), (fine, coarse), bias, usual).to(device)


class DefectJudges:
    """Those of all kinds of defects that a run's pictures were graded for.

    Args:
        judges: one at least.
    """

    def __init__(self, judges: Sequence[DefectJudge]):
        self.judges = judges

    def avoided(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The sum of what each lowers, see `DefectJudge.avoided`."""
        return torch.stack([judge.avoided(images, generator) for judge in self.judges]).sum()

    def elsewhere(self, like: Tensor) -> Tensor:
        """How much each cell shall be kept: what any of them looks at is free to change."""
        return torch.stack([judge.elsewhere(like) for judge in self.judges]).amin(0)

    def grade(self, images: Tensor) -> Tensor:
        """How many clear defects to expect in uint8 pictures (N, 3, S, S): (N,) on the CPU."""
        return torch.stack([judge.grade(images).sigmoid() for judge in self.judges]).sum(0)

    @classmethod
    def open(cls, run: Path, device: str, network: LiteNetwork | None = None) -> DefectJudges:
        """Those that the stage `defects` learned; the network is shared.

        Raises:
            RissoleError: as `DefectJudge.open`, and where there are none.
        """
        if not (files := defect_files(run)):
            raise RissoleError(f"{run} holds no grades that were learned")
        network = defect_network(network, device)
        return cls([DefectJudge.open(file, device, network) for file in files])


def defect_file(run: Path, about: str = "") -> Path:
    """Where the stage keeps what it learned of one kind of defects."""
    return run / f"{'-'.join(filter(None, (STEM, about)))}.safetensors"


def defect_files(run: Path) -> list[Path]:
    """What was learned of all kinds of defects."""
    return sorted(run.glob(f"{STEM}*.safetensors"))


def defect_network(network: LiteNetwork | None, device: str) -> LiteNetwork:
    """What looks at pictures, on the device: EfficientNet-Lite0 by default."""
    return judging_network(network or LiteNetwork.pretrained("lite0", BLOCKS, RESOLUTION), device)


def looked_at(
    network: LiteNetwork, images: Tensor, region: Region, mirrored: bool = False
) -> list[Tensor]:
    """The two coarsest maps (B, C, h, w) of a region of pictures, at most `CELLS` on a side."""
    top, left, bottom, right = (round(share * images.shape[-1]) for share in region)
    part = images[:, :, top:bottom, left:right]
    maps = network.maps(part.flip(-1) if mirrored else part)[-2:]
    return [F.adaptive_avg_pool2d(m.float(), min(CELLS, m.shape[-1])) for m in maps]


class Rows(NamedTuple):
    """What a ridge is fitted to, scaled so that every number counts as much.

    Attributes:
        values: (LOOKS N, D), one look at all pictures after another.
        mean, scale: (D,), of the numbers before.
        shapes: of the maps that they are of.
    """

    values: Tensor
    mean: Tensor
    scale: Tensor
    shapes: list[torch.Size]


@torch.no_grad()
def look(network: LiteNetwork, images: Tensor, region: Region, seed: int = 0) -> Rows:
    """Looks at uint8 pictures (N, 3, S, S), in other colors, moved, every second time mirrored."""
    device = network.device
    draw = torch.Generator(device).manual_seed(seed)
    found: list[list[Tensor]] = []
    parts = [(part, look % 2 == 1) for look in range(LOOKS) for part in images.split(32)]
    for part, mirrored in tqdm(parts, "looking", unit="batch", leave=False, disable=None):
        moved = turn_hue(shifted(to_float(part).to(device), draw), draw)
        with half_precision(device):
            found.append([m.cpu() for m in looked_at(network, moved, region, mirrored)])
    shapes = [m.shape[1:] for m in found[0]]
    flat = [torch.cat([m.flatten(1) for m in maps]) for maps in zip(*found, strict=True)]
    del found  # a gigabyte
    mean = torch.cat([f.mean(0) for f in flat])
    scale = torch.cat([(f.std(0) + 1e-3) * f.shape[1] ** 0.5 for f in flat])
    return Rows(torch.cat(flat, 1).sub_(mean).div_(scale), mean, scale, shapes)


def fit_defects(
    network: LiteNetwork,
    images: Tensor,
    defects: Tensor,
    photos: Tensor,
    region: Region = WHOLE,
    seed: int = 0,
) -> tuple[DefectJudge, dict[str, float]]:
    """Learns which pictures have a defect.

    Args:
        network: whose features are looked at.
        images: uint8 (N, 3, S, S).
        defects: bool (N,), as people say.
        photos: uint8 (M, 3, S, S), reconstructed; nobody need grade them, they are what pictures
            shall be like. Without, what is unusual in painted ones and well liked would go too far.
        region: the part of the pictures that is looked at.
        seed: of how they are moved.

    Returns:
        The judge, and figures on pictures that it was not fitted to (six parts of them take turns):
        `auc`, how often it finds the worse of a good and a bad picture, and the share of defects
        among all pictures, and among the fifth it likes best.

    Raises:
        RissoleError: for too few pictures of any kind.
    """
    if min(int(defects.sum()), int((~defects).sum()), len(photos)) < 2 * FOLDS:
        few = f"{2 * FOLDS} pictures with a defect, as many without, and as many photos"
        raise RissoleError(f"{few} are needed to learn from")
    bad = torch.cat([defects, torch.zeros(len(photos), dtype=torch.bool)])
    rows = look(network, torch.cat([images, photos]), region, seed)
    wanted, count = bad.float() * 2 - 1, len(images)
    gram, target = rows.values @ rows.values.T, wanted.repeat(LOOKS)
    tried = [crossed(gram, target, penalty) for penalty in PENALTIES]
    best = max(range(len(PENALTIES)), key=lambda n: figures_of(tried[n][:count], defects)["auc"])
    guess, penalty = tried[best], PENALTIES[best]
    gain, offset = calibrated(guess, bad)
    if gain <= 0:
        raise RissoleError(
            "nothing can be learned from these grades: guesses are no better than chance"
        )
    slope = (rows.values.T @ solved(gram, target, penalty)) * gain / rows.scale
    bias = gain * target.mean() + offset - (slope * rows.mean).sum()
    sizes = [shape.numel() for shape in rows.shapes]
    weights = [w.view(shape) for w, shape in zip(slope.split(sizes), rows.shapes, strict=True)]
    usual = (gain * guess[count:] + offset).mean()
    judge = DefectJudge(network, region, weights, bias, usual).to(network.device)
    return judge, figures_of(guess[:count], defects)


def figures_of(guess: Tensor, defects: Tensor) -> dict[str, float]:
    """How good guesses (N,) at defects (N,) are."""
    liked = defects[guess.argsort()[: max(1, len(guess) // 5)]]
    return {
        "pictures": len(defects),
        "defects": defects.float().mean().item(),
        "auc": auc(guess[defects], guess[~defects]),
        "defects_among_the_best_fifth": liked.float().mean().item(),
    }


def solved(gram: Tensor, target: Tensor, penalty: float) -> Tensor:
    """Weights (M,) of rows whose products are `gram` (M, M), for a centered target (M,)."""
    factor = torch.linalg.cholesky(gram + penalty * torch.eye(len(gram), dtype=gram.dtype))
    return torch.cholesky_solve((target - target.mean())[:, None], factor)[:, 0]


def crossed(gram: Tensor, target: Tensor, penalty: float) -> Tensor:
    """Guesses (N,) for pictures whose rows, one of each look, were left out, a part at a time."""
    shuffled = torch.randperm(len(gram) // LOOKS, generator=torch.Generator().manual_seed(0))
    part = (shuffled % FOLDS).repeat(LOOKS)
    guess = torch.zeros(len(gram))
    for number in range(FOLDS):
        out, known = part == number, part != number
        weights = solved(gram[known][:, known], target[known], penalty)
        guess[out] = gram[out][:, known] @ weights + target[known].mean()
    return guess.view(LOOKS, -1).mean(0)


def calibrated(guess: Tensor, defects: Tensor) -> tuple[float, float]:
    """Gain and offset that make guesses (N,) logits of having a defect."""
    line = torch.zeros(2, requires_grad=True)
    search = torch.optim.LBFGS([line], max_iter=100)

    def loss() -> Tensor:
        search.zero_grad()
        value = F.binary_cross_entropy_with_logits(line[0] * guess + line[1], defects.float())
        value.backward()
        return value

    search.step(loss)
    gain, offset = line.detach().tolist()
    return gain, offset
