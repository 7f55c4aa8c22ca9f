"""Pictures to latents and back: what encoder and decoder learn together.

They learn to keep as much of a picture as the latent holds: squared and absolute differences, color
weighted up (eyes wash out otherwise). Two terms make the latents easy to model: their batch mean
and variance are drawn to 0 and 1, and a latent scaled down by two must decode to the picture scaled
down by two (scale equivariance, arXiv 2502.14831).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.data.photos import portion, split, to_float
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import CodecTraining
from rissole.training.learner import Average, Trained
from rissole.training.stage import state_file
from rissole.training.trainer import Batches, Budget, History, Trainer, generator_for

# rows: luma, blue and red difference (ITU-R BT.601), in units of RGB
YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


def train_autoencoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    settings: CodecTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, Any]:
    """Trains on uint8 photos (N, 3, S, S), writes a `diffusers` autoencoder to `out`.

    Run again on the same folder, it goes on where it stopped; a decoder that was sharpened since is
    replaced.

    Returns:
        PSNR on held-out photos, in dB, and the latents' statistics.
    """
    settings = settings or CodecTraining()
    model: Any = tiny_autoencoder()
    model.to(device, memory_format=torch.channels_last)
    losses = Encoding(model, settings).to(device)
    state_file(out.with_name("decoder")).unlink(missing_ok=True)  # of other latents
    how = codec_training(model, settings.peak_rate)
    return fit_codec(photos, out, budget, {"model": how}, losses, settings.batch_size, seed)


def codec_training(model: nn.Module, peak_rate: float) -> Trained:
    """How an autoencoder, or a part of it, is trained."""
    return Trained(model, peak_rate, weight_decay=1e-4, average=Average(0.995, every=5))


def fit_codec(
    photos: Tensor,
    out: Path,
    budget: Budget,
    trained: dict[str, Trained],
    losses: nn.Module,
    batch_size: int,
    seed: int,
    state: Path | None = None,
) -> dict[str, Any]:
    """Trains an autoencoder, and what else there is, and writes it.

    Args:
        photos: uint8 (N, 3, S, S).
        out: folder of the autoencoder.
        budget: of this session.
        trained: the autoencoder as `model`, and others.
        losses: of photos and a generator; adds gradients.
        batch_size: photos per step.
        seed: of everything random.
        state: file of the training; that of the autoencoder by default. The latents' scale is
            measured only then: what goes on later must not touch what they mean.

    Returns:
        As `train_autoencoder`.
    """
    model: Any = trained["model"].module
    device = next(model.parameters()).device
    train, held = (to_float(part).to(device) for part in split(photos))
    generator = generator_for(seed, device)
    trainer = Trainer(trained, generator, state or state_file(out))
    result: dict[str, Any] = {}

    def keep(history: History) -> None:
        if state is None:
            fit_scale(model, train)
        result.update(measure(model, train, held))
        Codec(model).save(out)
        write_json(out / "training.json", {**result, "history": history})

    trainer.fit(
        [lambda index: losses(shifted(train[index], generator), generator)],
        Batches(len(train), batch_size, generator),
        budget,
        keep,
        title=(state or out).stem,
    )
    return result


class Encoding(nn.Module):
    """First stage: the loss of encoder and decoder together."""

    def __init__(self, model: nn.Module, settings: CodecTraining):
        super().__init__()
        self.model: Any = model
        self.noise = settings.latent_noise
        self.fidelity = FidelityLoss(settings.chroma)

    def forward(self, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of photos (B, 3, S, S) in [-1, 1]; adds their gradients."""
        with half(target):
            latents = self.model.encoder(target)
            noise = torch.randn(latents.shape, generator=generator, device=target.device)
            output = self.model.decoder(latents + self.noise * noise).float()
            small = self.model.decoder(F.avg_pool2d(latents[::4], 2)).float()
        fidelity = self.fidelity(output, target)
        loss = fidelity + 0.2 * self.fidelity(small, F.avg_pool2d(target[::4], 2))
        raw = latents.float()
        mean, variance = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
        loss = loss + 0.02 * (mean.square() + (variance - 1).square()).mean()
        loss.backward()
        return {"fidelity": fidelity.detach(), "variance": variance.mean().detach()}


class FidelityLoss(nn.Module):
    """Squared and absolute differences in luma and weighted chroma, on request of gradients too."""

    def __init__(self, chroma: float, gradients: float = 0.0):
        super().__init__()
        weight = torch.tensor((1.0, chroma, chroma))
        self.register_buffer("matrix", torch.tensor(YCBCR) * weight[:, None])
        self.gradients = gradients

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar for images (B, 3, H, W) in [-1, 1]."""
        error = torch.einsum("ij,bjhw->bihw", self.matrix, output - target)
        loss = 0.3 * error.abs().mean() + 10 * error.square().mean()
        for _ in range(3 if self.gradients else 0):
            steep = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
            loss = loss + self.gradients * steep
            error = F.avg_pool2d(error, 2)
        return loss


def half(like: Tensor) -> torch.autocast:
    """bfloat16 where tensor cores make it pay."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=like.is_cuda)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors half of the images and shifts all by up to 8 pixels; whole pixels blur nothing."""
    device, size = images.device, images.shape[-1]
    flip = torch.rand(len(images), 1, 1, 1, generator=generator, device=device) < 0.5
    images = torch.where(flip, images.flip(-1), images)
    padded = F.pad(images, (8, 8, 8, 8), mode="reflect")
    rows, columns = (
        torch.randint(0, 17, (1,), generator=generator, device=device)
        + torch.arange(size, device=device)
        for _ in range(2)
    )
    moved = padded.index_select(-2, rows).index_select(-1, columns)
    return moved.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def fit_scale(model: Any, train: Tensor) -> None:
    """Notes what makes latents of photos (N, 3, S, S) in [-1, 1] standard normal."""
    raw = _some_latents(model, train)
    model.register_to_config(shift_factor=raw.mean().item(), scaling_factor=1 / raw.std().item())


@torch.no_grad()
def measure(model: Any, train: Tensor, held: Tensor) -> dict[str, Any]:
    """PSNR on held-out photos, in dB, and the latents' statistics on others."""
    batch = portion(train.shape[-1], train.device.type)
    output = torch.cat([model.decoder(model.encoder(b)) for b in held.split(batch)]).clamp(-1, 1)
    mse = (output - held).div(2).square().flatten(1).mean(1)
    return {
        "psnr_held_out_db": (-10 * mse.log10()).mean().item(),
        "latent_scale": model.config["scaling_factor"],
        "latent_shift": model.config["shift_factor"],
        "channel_std": _some_latents(model, train).std((0, 2, 3)).tolist(),
    }


def _some_latents(model: Any, photos: Tensor) -> Tensor:
    """Unscaled latents of some photos."""
    batch = portion(photos.shape[-1], photos.device.type)
    return torch.cat([model.encoder(b) for b in photos[:2048].split(batch)]).float()
