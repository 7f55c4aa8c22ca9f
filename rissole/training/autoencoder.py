"""Stage 1: the autoencoder, from scratch, without any downloaded perceptual network.

Plain L1 blurs what people look at first. What stands in for a perceptual loss here: colour
differences weighted up (eyes wash out otherwise), differences of image gradients on three scales,
and a patch discriminator with feature matching. Two terms make the latents easy to model: their
batch mean and variance are drawn to 0 and 1, and a latent scaled down by two must decode to the
picture scaled down by two (scale equivariance, arXiv 2502.14831).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from rissole.autoencoder import Codec, tiny_autoencoder
from rissole.training.loop import (
    Budget,
    Progress,
    fast_matmul,
    infinite_batches,
    learning_rate,
    load_weights,
    save_weights,
    set_learning_rate,
    write_json,
)
from rissole.training.photos import split, to_float

# rows: luma, blue and red difference (ITU-R BT.601), in units of RGB
YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))
CHROMA_WEIGHT = 2.0


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


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 and L2 in luma and weighted chroma, plus gradient differences on three scales."""
    matrix = torch.tensor(YCBCR, device=output.device)
    weight = torch.tensor((1.0, CHROMA_WEIGHT, CHROMA_WEIGHT), device=output.device)
    error = torch.einsum("ij,bjhw->bihw", matrix, output - target) * weight[:, None, None]
    loss = error.abs().mean() + 2 * error.square().mean()
    for _ in range(3):
        loss = loss + 0.5 * error.diff(dim=-1).abs().mean() + 0.5 * error.diff(dim=-2).abs().mean()
        error = F.avg_pool2d(error, 2)
    return loss


def train_autoencoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    batch_size: int = 64,
    peak_rate: float = 6e-4,
    adversary_from: float = 0.35,
    adversary_weight: float = 0.03,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Trains on uint8 photos (N, 3, S, S) and writes a `diffusers` autoencoder to `out`.

    Args:
        adversary_from: share of the budget after which the discriminator joins.
        adversary_weight: weight of its loss; feature matching has ten times that.

    Returns:
        PSNR on held-out photos, in dB, and the latents' statistics.
    """
    fast_matmul()
    train, held = (to_float(p).to(device) for p in split(photos))
    generator = torch.Generator(device).manual_seed(seed)
    model = tiny_autoencoder().to(device, memory_format=torch.channels_last)
    load_weights(out / "raw.safetensors", model)
    judge = PatchDiscriminator().to(device, memory_format=torch.channels_last)
    load_weights(out / "judge.safetensors", judge)
    optimizer = torch.optim.AdamW(
        model.parameters(), peak_rate, betas=(0.9, 0.99), weight_decay=1e-3
    )
    judge_optimizer = torch.optim.AdamW(judge.parameters(), 2e-4, betas=(0.5, 0.99))
    ema = EMAModel(model.parameters(), decay=0.999, use_ema_warmup=True, power=0.75, foreach=True)
    progress_bar = Progress(budget, "autoencoder")
    batches = infinite_batches(len(train), batch_size, generator)
    try:
        for step, progress in progress_bar:
            set_learning_rate(optimizer, learning_rate(progress, step, peak_rate))
            target = _augment(train[next(batches)], generator)
            adversarial = adversary_weight if progress > adversary_from else 0.0
            losses = _step(model, optimizer, judge, judge_optimizer, target, adversarial, generator)
            ema.step(model.parameters())
            progress_bar.report(step, **losses)
    finally:  # Ctrl-C keeps what was learned
        save_weights(out / "raw.safetensors", model)
        save_weights(out / "judge.safetensors", judge)
        ema.copy_to(model.parameters())
        result = _finish(model, train, held)
        Codec(model).save(out)
        write_json(out / "training.json", {**result, "history": progress_bar.history})
    return result


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirrors half of the images and shifts all by up to 8 pixels; whole pixels blur nothing."""
    flip = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device) < 0.5
    images = torch.where(flip, images.flip(-1), images)
    dy, dx = torch.randint(0, 17, (2,), generator=generator, device=images.device).tolist()
    size = images.shape[-1]
    padded = F.pad(images, (8, 8, 8, 8), mode="reflect")
    return padded[..., dy : dy + size, dx : dx + size].contiguous(memory_format=torch.channels_last)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    judge: nn.Module,
    judge_optimizer: torch.optim.Optimizer,
    target: Tensor,
    adversarial: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    cuda = target.device.type == "cuda"
    with torch.autocast(target.device.type, torch.bfloat16, enabled=cuda):
        latents = model.encoder(target)
        noise = torch.randn(latents.shape, generator=generator, device=target.device)
        output = model.decoder(latents + 0.05 * noise).float()
        small = model.decoder(F.avg_pool2d(latents[::4], 2)).float()
    rec = reconstruction_loss(output, target)
    loss = rec + 0.25 * reconstruction_loss(small, F.avg_pool2d(target[::4], 2))
    raw = latents.float()
    mean, variance = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
    loss = loss + 0.05 * (mean.square() + (variance - 1).square()).mean()
    report = {"rec": rec, "variance": variance.mean()}
    if adversarial:
        fool, matching = _judge_step(judge, judge_optimizer, output, target)
        loss = loss + adversarial * (fool + 10 * matching)
        report |= {"fool": fool, "match": matching}
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return report


def _judge_step(
    judge: nn.Module, optimizer: torch.optim.Optimizer, output: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """One hinge-loss step of the discriminator; returns the autoencoder's two losses."""
    cuda = target.device.type == "cuda"
    with torch.autocast(target.device.type, torch.bfloat16, enabled=cuda):
        real, fake = judge(target)[0], judge(output.detach())[0]
    optimizer.zero_grad(set_to_none=True)
    (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()).backward()
    optimizer.step()
    judge.requires_grad_(False)
    with torch.autocast(target.device.type, torch.bfloat16, enabled=cuda):
        logits, features = judge(output)
        with torch.no_grad():
            wanted = judge(target)[1]
    judge.requires_grad_(True)
    pairs = zip(features, wanted, strict=True)
    matching = sum((a.float() - b.float()).abs().mean() for a, b in pairs)
    return -logits.float().mean(), matching / len(features)


@torch.no_grad()
def _finish(model: nn.Module, train: Tensor, held: Tensor) -> dict[str, float]:
    """Fits the latent scale on training photos and measures held-out PSNR."""
    raw = torch.cat([model.encoder(b) for b in train[:2048].split(128)]).float()
    shift, scale = raw.mean().item(), 1 / raw.std().item()
    model.register_to_config(shift_factor=shift, scaling_factor=scale)
    output = torch.cat([model.decoder(model.encoder(b)) for b in held.split(64)]).clamp(-1, 1)
    mse = (output - held).div(2).square().flatten(1).mean(1)
    return {
        "psnr_held_out_db": (-10 * mse.log10()).mean().item(),
        "latent_scale": scale,
        "latent_shift": shift,
        "channel_std": raw.std((0, 2, 3)).tolist(),
    }
