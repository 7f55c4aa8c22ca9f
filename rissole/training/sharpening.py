"""The decoder alone learns to look sharp, while the latents stay what they are.

Differences of image gradients, a patch discriminator with feature matching, and differences of the
early features of a network trained on the photos themselves (another one than Frechet distances
use).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.evaluation.network import FeatureNetwork
from rissole.models.autoencoder import Codec
from rissole.training.hyperparameters import DecoderTraining
from rissole.training.learner import Trained
from rissole.training.reconstruction import FidelityLoss, codec_training, fit_codec, half
from rissole.training.stage import state_file
from rissole.training.trainer import Budget


def train_decoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    critic: FeatureNetwork | None = None,
    settings: DecoderTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, Any]:
    """Sharpens the decoder of the autoencoder in `out`; the encoder, and so all latents, stay.

    Args:
        photos: uint8 (N, 3, S, S).
        out: folder of the autoencoder.
        budget: of this session.
        critic: the network whose early features are compared; None leaves this term out.
        settings: of the stage.
        device: where to train.
        seed: of everything random.

    Returns:
        As `train_autoencoder`.
    """
    settings = settings or DecoderTraining()
    model, discriminator = Codec.load(out).model, PatchDiscriminator()
    model.decoder.requires_grad_(True)
    for module in (model, discriminator, critic):
        if module is not None:
            module.to(device).to(memory_format=torch.channels_last)
    if critic is not None:
        critic.eval().requires_grad_(False)
    losses = Sharpening(model, discriminator, critic, settings).to(device)
    trained = {
        "model": codec_training(model, settings.peak_rate),
        "discriminator": Trained(
            discriminator, 2e-4, steady=True, betas=(0.5, 0.99), weight_decay=1e-4, clip=None
        ),
    }
    state = state_file(out.with_name("decoder"))
    return fit_codec(photos, out, budget, trained, losses, settings.batch_size, seed, state)


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches (arXiv 1611.07004); returns logits and the features before."""

    def __init__(self, channels: int = 64, depth: int = 3):
        super().__init__()
        sizes = [3] + [channels * 2**i for i in range(depth)]
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.utils.spectral_norm(nn.Conv2d(a, b, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)
            )
            for a, b in zip(sizes, sizes[1:], strict=False)
        )
        self.head = nn.utils.spectral_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, 1, H/8, W/8) and one feature map per stage for images (B, 3, H, W)."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.head(x), features


class Sharpening(nn.Module):
    """Second stage: the loss of the decoder alone, and that of its discriminator."""

    def __init__(
        self,
        model: nn.Module,
        discriminator: PatchDiscriminator,
        critic: FeatureNetwork | None,
        settings: DecoderTraining,
    ):
        super().__init__()
        self.model: Any = model
        self.discriminator, self.critic, self.settings = discriminator, critic, settings
        self.fidelity = FidelityLoss(settings.chroma, settings.gradients)

    def forward(self, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of photos (B, 3, S, S) in [-1, 1]; adds their gradients."""
        with half(target):
            with torch.no_grad():
                latents = self.model.encoder(target)
            noise = torch.randn(latents.shape, generator=generator, device=target.device)
            output = self.model.decoder(latents + self.settings.latent_noise * noise).float()
        fidelity = self.fidelity(output, target)
        fool, matching = self._judged(output, target)
        loss = fidelity + self.settings.discriminator * (fool + 10 * matching)
        report = {"fidelity": fidelity, "fool": fool, "matching": matching}
        if self.critic is not None:
            report["features"] = feature_distance(self.critic, output, target)
            loss = loss + self.settings.features * report["features"]
        loss.backward()
        self._teach(output.detach(), target)
        return {name: value.detach() for name, value in report.items()}

    def _judged(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        self.discriminator.requires_grad_(False)
        with half(target):
            logits, features = self.discriminator(output)
            with torch.no_grad():
                wanted = self.discriminator(target)[1]
        self.discriminator.requires_grad_(True)
        pairs = zip(features, wanted, strict=True)
        apart = ((a.float() - b.float()).abs().mean() for a, b in pairs)
        return -logits.float().mean(), sum(apart, output.new_zeros(())) / len(features)

    def _teach(self, output: Tensor, target: Tensor) -> None:
        """Gradients of the discriminator's hinge loss."""
        with half(target):
            real, fake = self.discriminator(target)[0], self.discriminator(output)[0]
        (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()).backward()


def feature_distance(network: FeatureNetwork, output: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of unit features at 1/2 to 1/8 of the size (as arXiv 1801.03924)."""
    with half(target):
        got = network.early(output)
        with torch.no_grad():
            wanted = network.early(target)
    pairs = zip(got, wanted, strict=True)
    apart = [F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1) for a, b in pairs]
    return sum((x.square().sum(1).mean() for x in apart), output.new_zeros(()))
