"""A projected discriminator (arXiv 2111.01007): judges pictures by features of a fixed network.

The network has seen a million photos and knows texture; what is trained are small heads on its
maps. Fixed random layers before the heads mix channels and let coarse maps reach fine ones, so that
no head can settle on a few features and forget the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

LESSONS = 500  # after which it, which knows nothing at first, is felt in full


class ProjectedDiscriminator(nn.Module):
    """Logits for patches of several sizes, and for whole pictures.

    A patch is judged wherever it is; a picture as a whole, where an eye has its place, so that
    what belongs together is compared. That takes pictures of one kind in much the same place.

    Args:
        channels: of each map, from fine to coarse, each map half as large as the one before.
        width: channels after the random layers.
        sides: in cells, of the coarsest maps by which whole pictures are judged as well.

    Attributes:
        lessons: how often it was taught, in all sessions.
    """

    def __init__(self, channels: Sequence[int], width: int = 64, sides: Sequence[int] = ()):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.mixing = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels[1:])
        for layer in (*self.lateral, *self.mixing):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            layer.requires_grad_(False)
        self.heads = nn.ModuleList(_head(width) for _ in channels)
        self.heads.extend(_head(width, side // 2) for side in sides)
        self.whole = len(sides)
        self.spread: Tensor
        self.lessons: Tensor
        self.register_buffer("spread", torch.ones(len(channels)))
        self.register_buffer("lessons", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def calibrate(self, maps: Sequence[Tensor]) -> None:
        """Notes the spread of each map on real photos, by which maps are divided from then on."""
        self.spread.copy_(torch.stack([m.float().std() for m in maps]))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Logits (B, 1, H/2, W/2) for each map (B, C, H, W), and (B, 1, 1, 1) for whole ones."""
        scaled = [m / s.to(m.dtype) for m, s in zip(maps, self.spread, strict=True)]
        mixed = [self.lateral[-1](scaled[-1])]
        for i in reversed(range(len(maps) - 1)):
            coarse = F.interpolate(self.mixing[i](mixed[0]), scale_factor=2, mode="nearest")
            mixed.insert(0, (self.lateral[i](scaled[i]) + coarse) / 2**0.5)
        mixed += mixed[len(mixed) - self.whole :]
        return [head(x) for head, x in zip(self.heads, mixed, strict=True)]

    def weight(self) -> Tensor:
        """How much it should be felt, from 0 when it knows nothing to 1."""
        return (self.lessons / LESSONS).clamp(max=1.0)

    def fool(self, maps: Sequence[Tensor]) -> Tensor:
        """What a painter lowers, of features of its pictures; the heads get no gradients of it."""
        self.heads.requires_grad_(False)
        loss = fooled(self(maps))
        self.heads.requires_grad_(True)
        return loss

    def teach(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Its own loss, of features of photos and of painted pictures; adds its gradients."""
        loss = hinge(self(real), self([m.detach() for m in fake]))
        loss.backward()
        self.lessons.add_(1)
        return loss


def _head(width: int, last: int = 1) -> nn.Sequential:
    """Layers that end in a convolution of so many cells on a side."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)),
        nn.LeakyReLU(0.2),
        spectral_norm(nn.Conv2d(width, 2 * width, 3, padding=1)),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, 1, last),
    )


def fooled(logits: Sequence[Tensor]) -> Tensor:
    """What a painter lowers: how sure the discriminator is that its pictures are painted."""
    return -torch.stack([one.float().mean() for one in logits]).mean()


def hinge(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """What the discriminator lowers: the hinge loss of photos and painted pictures."""
    pairs = zip(real, fake, strict=True)
    parts = [F.relu(1 - a.float()).mean() + F.relu(1 + b.float()).mean() for a, b in pairs]
    return torch.stack(parts).mean()
