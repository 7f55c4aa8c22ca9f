"""The decoder alone learns to look sharp, while the latents stay what they are.

A projected discriminator joins the differences of pixels and features, and so does how strong the
finest detail is, which neither of them holds. Noise on the latents makes the decoder forgive what a
painter of few steps gets wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rissole.data.photos import to_float
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec
from rissole.training.detail import local_detail_distance
from rissole.training.discriminator import ProjectedDiscriminator
from rissole.training.hyperparameters import DecoderTraining
from rissole.training.learner import Trained
from rissole.training.reconstruction import (
    CodecLosses,
    Photos,
    codec_training,
    feature_distance,
    fit_codec,
    half,
    judging_network,
)
from rissole.training.stage import state_folder
from rissole.training.trainer import Budget, seeded


def train_decoder(
    photos: Photos,
    out: Path,
    budget: Budget,
    *,
    network: LiteNetwork | None = None,
    settings: DecoderTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, Any]:
    """Sharpens the decoder of the autoencoder in `out`; the encoder, and so all latents, stay.

    Args:
        photos: uint8 (N, 3, S, S), or several such sets, of which each gives as many to a batch.
        out: folder of the autoencoder.
        budget: of this session.
        network: whose features are compared and judged; the first blocks of EfficientNet-Lite0 by
            default.
        settings: of the stage.
        device: where to train.
        seed: of everything random.

    Returns:
        As `train_autoencoder`.

    Raises:
        RissoleError: when the weights of the default network are not installed.
    """
    settings = settings or DecoderTraining()
    network = judging_network(network, device)
    model: Any = Codec.load(out).model.to(device, memory_format=torch.channels_last)
    model.decoder.requires_grad_(True)
    first = photos if isinstance(photos, Tensor) else photos[0]
    with torch.no_grad():
        maps = network.maps(to_float(first[:64]).to(device))
    discriminator = new_discriminator(maps, seed)
    losses = Sharpening(model, network, discriminator, settings).to(device)
    trained = {
        "model": codec_training(model, settings.peak_rate),
        "discriminator": discriminator_training(discriminator),
    }
    state = state_folder(out.with_name("decoder"))
    return fit_codec(photos, out, budget, trained, losses, settings, seed, state)


def new_discriminator(maps: Sequence[Tensor], seed: int, whole: int = 0) -> ProjectedDiscriminator:
    """One that has learned nothing but how far features of photos spread, on their device.

    Args:
        maps: of some photos, from fine to coarse.
        seed: of its weights.
        whole: by how many of the coarsest maps whole pictures are judged, besides patches.
    """
    channels, sides = [m.shape[1] for m in maps], [m.shape[-1] for m in maps[len(maps) - whole :]]
    made: Any = seeded(lambda: ProjectedDiscriminator(channels, sides=sides), seed)
    made.to(maps[0].device, memory_format=torch.channels_last).calibrate(maps)
    return made


def discriminator_training(discriminator: ProjectedDiscriminator) -> Trained:
    """How a discriminator is trained: at a steady rate, and with little memory of gradients."""
    return Trained(
        discriminator, 2e-4, steady=True, betas=(0.5, 0.99), weight_decay=1e-4, clip=None
    )


class Sharpening(CodecLosses):
    """Second stage: the loss of the decoder alone, and that of its discriminator."""

    def __init__(
        self,
        model: nn.Module,
        network: LiteNetwork,
        discriminator: ProjectedDiscriminator,
        settings: DecoderTraining,
    ):
        super().__init__(model, network, settings)
        self.discriminator, self.adversary = discriminator, settings.discriminator
        self.detail = settings.detail

    def forward(self, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of photos (B, 3, S, S) in [-1, 1]; adds their gradients."""
        with half(target):
            with torch.no_grad():
                latents = self.model.encoder(target)
            output = self.decode(latents, generator)
        image = output.detach().requires_grad_()
        maps = self.maps(image)
        with torch.no_grad():
            wanted = self.maps(target)
        report = {
            "fidelity": self.fidelity(image, target),
            "features": feature_distance(maps, wanted),
        }
        with half(target):
            report["fool"] = self.discriminator.fool(maps)
        if self.detail:
            report["detail"] = local_detail_distance(image, target)
        output.backward(self.gradient(output, image, report))
        with half(target):
            report["discriminator"] = self.discriminator.teach(wanted, maps)
        return {name: value.detach() for name, value in report.items()}

    def gradient(self, output: Tensor, image: Tensor, report: dict[str, Tensor]) -> Tensor:
        """The gradient at the decoded image, of each loss as much as it is to be felt.

        Args:
            output: what the decoder made, and `image`, the same without a way back.
            report: losses of the image: of pixels, of features, of the discriminator, of detail.
        """
        near, alike, real, *strong = (
            torch.autograd.grad(value, image, retain_graph=True)[0] for value in report.values()
        )
        base = self.balanced(output, near, alike, self.settings.perceptual)
        gradient = self.balanced(output, base, real, self.strength())
        for other in strong:
            gradient = gradient - base + self.balanced(output, base, other, self.detail)
        return gradient

    def strength(self) -> Tensor:
        """How much of the discriminator is felt, which rises as it learns."""
        return self.adversary * self.discriminator.weight()
