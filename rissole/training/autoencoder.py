"""Stages 1 and 2: the autoencoder, from scratch, without any downloaded perceptual network.

First encoder and decoder learn to keep as much of a picture as the latent holds: squared and
absolute differences, colour weighted up (eyes wash out otherwise). Two terms make the latents easy
to model: their batch mean and variance are drawn to 0 and 1, and a latent scaled down by two must
decode to the picture scaled down by two (scale equivariance, arXiv 2502.14831).

Then the decoder alone learns to look sharp, while the latents stay what they are: differences of
image gradients, a patch discriminator with feature matching, and differences of the early features
of a network trained on the photos themselves (another one than Frechet distances use).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from rissole.autoencoder import Codec, tiny_autoencoder
from rissole.features import FeatureNetwork
from rissole.training.graphs import Replay
from rissole.training.loop import (
    Budget,
    Gradients,
    Progress,
    check_finite,
    fast_matmul,
    infinite_batches,
    learning_rate,
    load_weights,
    save_weights,
    session_seed,
    set_learning_rate,
    write_json,
)
from rissole.training.photos import portion, split, to_float

# rows: luma, blue and red difference (ITU-R BT.601), in units of RGB
YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))


@dataclass(frozen=True)
class AutoencoderTraining:
    """Settings of both stages.

    Attributes:
        batch_size: photos per step.
        peak_rate: highest learning rate of AdamW.
        chroma: weight of colour differences against those of brightness.
        latent_noise: standard deviation of noise on the latents the decoder sees; what paints
            latents is never exact.
        gradients, features, adversary: weights of the decoder's terms in the second stage; feature
            matching has ten times the adversary's weight.
    """

    batch_size: int = 32
    peak_rate: float = 6e-4
    chroma: float = 1.5
    latent_noise: float = 0.02
    gradients: float = 0.1
    features: float = 0.1
    adversary: float = 0.01


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


class _Encoding(nn.Module):
    """First stage: the loss of encoder and decoder together."""

    def __init__(self, model: nn.Module, settings: AutoencoderTraining):
        super().__init__()
        self.model, self.noise = model, settings.latent_noise
        self.fidelity = FidelityLoss(settings.chroma)

    def forward(self, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with _half(target):
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


class _Sharpening(nn.Module):
    """Second stage: the loss of the decoder alone, and that of its judge."""

    def __init__(
        self,
        model: nn.Module,
        judge: PatchDiscriminator,
        critic: FeatureNetwork | None,
        settings: AutoencoderTraining,
    ):
        super().__init__()
        self.model, self.judge, self.critic, self.settings = model, judge, critic, settings
        self.fidelity = FidelityLoss(settings.chroma, settings.gradients)

    def forward(self, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        with _half(target):
            with torch.no_grad():
                latents = self.model.encoder(target)
            noise = torch.randn(latents.shape, generator=generator, device=target.device)
            output = self.model.decoder(latents + self.settings.latent_noise * noise).float()
        fidelity = self.fidelity(output, target)
        fool, matching = self._judged(output, target)
        loss = fidelity + self.settings.adversary * (fool + 10 * matching)
        report = {"fidelity": fidelity, "fool": fool, "matching": matching}
        if self.critic is not None:
            report["features"] = feature_distance(self.critic, output, target)
            loss = loss + self.settings.features * report["features"]
        loss.backward()
        self._teach(output.detach(), target)
        return {name: value.detach() for name, value in report.items()}

    def _judged(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        self.judge.requires_grad_(False)
        with _half(target):
            logits, features = self.judge(output)
            with torch.no_grad():
                wanted = self.judge(target)[1]
        self.judge.requires_grad_(True)
        pairs = zip(features, wanted, strict=True)
        matching = sum((a.float() - b.float()).abs().mean() for a, b in pairs)
        return -logits.float().mean(), matching / len(features)

    def _teach(self, output: Tensor, target: Tensor) -> None:
        """Gradients of the judge's hinge loss."""
        with _half(target):
            real, fake = self.judge(target)[0], self.judge(output)[0]
        (F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()).backward()


def feature_distance(network: FeatureNetwork, output: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of unit features at 1/2 to 1/8 of the size (as arXiv 1801.03924)."""
    with _half(target):
        got = network.early(output)
        with torch.no_grad():
            wanted = network.early(target)
    pairs = zip(got, wanted, strict=True)
    return sum(
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
        for a, b in pairs
    )


def train_autoencoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    settings: AutoencoderTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Stage 1: trains on uint8 photos (N, 3, S, S), writes a `diffusers` autoencoder to `out`.

    Returns:
        PSNR on held-out photos, in dB, and the latents' statistics.
    """
    settings = settings or AutoencoderTraining()
    model = tiny_autoencoder()
    load_weights(out / "raw.safetensors", model)
    model.to(device, memory_format=torch.channels_last)
    losses = _Encoding(model, settings).to(device)
    return _train(photos, out, budget, model, losses, {}, settings, device, seed)


def train_decoder(
    photos: Tensor,
    out: Path,
    budget: Budget,
    *,
    critic: FeatureNetwork | None = None,
    settings: AutoencoderTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, float]:
    """Stage 2: sharpens the decoder in `out`; the encoder, and so all latents, stay.

    Args:
        critic: the network whose early features are compared; None leaves this term out.

    Returns:
        As `train_autoencoder`.
    """
    settings = settings or AutoencoderTraining(peak_rate=2e-4)
    model = Codec.load(out).model
    model.decoder.requires_grad_(True)
    judge = PatchDiscriminator()
    load_weights(out / "judge.safetensors", judge)
    for module in (model, judge, critic):
        if module is not None:
            module.to(device, memory_format=torch.channels_last)
    if critic is not None:
        critic.eval().requires_grad_(False)
    losses = _Sharpening(model, judge, critic, settings).to(device)
    return _train(photos, out, budget, model, losses, {"judge": judge}, settings, device, seed)


def _train(
    photos: Tensor,
    out: Path,
    budget: Budget,
    model: nn.Module,
    losses: nn.Module,
    others: dict[str, nn.Module],
    settings: AutoencoderTraining,
    device: str,
    seed: int,
) -> dict[str, float]:
    """The loop of both stages; `losses` adds gradients to the model and to the other networks."""
    fast_matmul()
    train, held = (to_float(p).to(device) for p in split(photos))
    generator = torch.Generator(device).manual_seed(session_seed(seed, out / "raw.safetensors"))
    fit_scale = not others  # the second stage must not touch what the latents mean
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = _adam(own, settings.peak_rate, (0.9, 0.99), device)
    rivals = [_adam(m.parameters(), 2e-4, (0.5, 0.99), device) for m in others.values()]
    gradients = [Gradients([module]) for module in (model, *others.values())]
    ema = EMAModel(own, decay=0.995, use_ema_warmup=True, power=0.75, foreach=True)

    def step_losses(index: Tensor) -> dict[str, Tensor]:
        for buffer in gradients:
            buffer.clear()
        return losses(_augment(train[index], generator), generator)

    replay = Replay(step_losses, generator)
    progress_bar = Progress(budget, out.name, every=100)
    batches = infinite_batches(len(train), settings.batch_size, generator)
    try:
        for step, progress in progress_bar:
            set_learning_rate(optimizer, learning_rate(progress, step, settings.peak_rate))
            values = replay(next(batches))
            gradients[0].clip()
            for one in (optimizer, *rivals):
                one.step()
            if step % 5 == 0:
                ema.step(own)
            progress_bar.report(step, **values)
    finally:  # Ctrl-C keeps what was learned
        check_finite(model, *others.values(), ema.shadow_params)
        save_weights(out / "raw.safetensors", model)
        for name, module in others.items():
            save_weights(out / f"{name}.safetensors", module)
        ema.copy_to(own)
        result = _finish(model, train, held, fit_scale)
        check_finite([torch.tensor([result["latent_scale"], result["latent_shift"]])])
        Codec(model).save(out)
        write_json(out / "training.json", {**result, "history": progress_bar.history})
    return result


def _adam(
    parameters: Iterable[nn.Parameter], rate: float, betas: tuple[float, float], device: str
) -> torch.optim.AdamW:
    fused = device.startswith("cuda")
    return torch.optim.AdamW(parameters, rate, betas=betas, weight_decay=1e-4, fused=fused)


def _half(like: Tensor) -> torch.autocast:
    """bfloat16 where tensor cores make it pay."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=like.is_cuda)


def _augment(images: Tensor, generator: torch.Generator) -> Tensor:
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
def _finish(model: nn.Module, train: Tensor, held: Tensor, fit_scale: bool) -> dict[str, float]:
    """Fits the latent scale on training photos and measures held-out PSNR."""
    batch = portion(train.shape[-1], train.device.type)
    raw = torch.cat([model.encoder(b) for b in train[:2048].split(batch)]).float()
    if fit_scale:
        shift, scale = raw.mean().item(), 1 / raw.std().item()
        model.register_to_config(shift_factor=shift, scaling_factor=scale)
    output = torch.cat([model.decoder(model.encoder(b)) for b in held.split(batch)]).clamp(-1, 1)
    mse = (output - held).div(2).square().flatten(1).mean(1)
    return {
        "psnr_held_out_db": (-10 * mse.log10()).mean().item(),
        "latent_scale": model.config["scaling_factor"],
        "latent_shift": model.config["shift_factor"],
        "channel_std": raw.std((0, 2, 3)).tolist(),
    }
