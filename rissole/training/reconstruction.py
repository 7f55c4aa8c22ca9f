"""Pictures to latents and back: what encoder and decoder learn together.

They learn to keep as much of a picture as the latent holds: squared and absolute differences, color
weighted up (eyes wash out otherwise), and differences of features of EfficientNet-Lite0, which has
seen a million photos. How much those are felt is a ratio of gradients at the decoder's last layer
(arXiv 2012.09841), so that no weight has to be tuned for another data set. Two terms make the
latents easy to model: their batch mean and variance are drawn to 0 and 1, and a latent scaled down
by two must decode to the picture scaled down by two (scale equivariance, arXiv 2502.14831).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rissole.config import RissoleError
from rissole.data.photos import portion, split, to_float
from rissole.evaluation.augmentation import jitter_colors
from rissole.evaluation.lite import LiteNetwork
from rissole.models.autoencoder import Codec, tiny_autoencoder
from rissole.training.checkpoint import write_json
from rissole.training.hyperparameters import CodecTraining
from rissole.training.learner import Average, Trained
from rissole.training.stage import checkpoints_in, state_folder
from rissole.training.trainer import Batches, Budget, History, Trainer, generator_for, seeded

# rows: luma, blue and red difference (ITU-R BT.601), in units of RGB
YCBCR = ((0.299, 0.587, 0.114), (-0.169, -0.331, 0.5), (0.5, -0.419, -0.081))
BLOCKS = 11  # of EfficientNet-Lite0, up to 1/16 of the size: shapes, not yet classes
RESOLUTION = 256  # side in pixels at which it looks at pictures: what it was trained for
SHIFT = 8  # pixels by which photos are moved at most

Photos = Tensor | Sequence[Tensor]  # uint8 (N, 3, S, S), or several such sets


def train_autoencoder(
    photos: Photos,
    out: Path,
    budget: Budget,
    *,
    network: LiteNetwork | None = None,
    settings: CodecTraining | None = None,
    device: str = "cuda",
    seed: int = 0,
) -> dict[str, Any]:
    """Trains on photos, writes a `diffusers` autoencoder to `out`.

    Run again on the same folder, it goes on where it stopped; a decoder that was sharpened since is
    replaced. Several processes share the work.

    Args:
        photos: uint8 (N, 3, S, S), or several such sets, of which each gives as many to a batch.
        out: folder of the autoencoder.
        budget: of this session.
        network: whose features are compared; the first blocks of EfficientNet-Lite0 by default.
        settings: of the stage.
        device: where to train.
        seed: of everything random.

    Returns:
        PSNR on held-out photos, in dB, and the latents' statistics.

    Raises:
        RissoleError: when the weights of the default network are not installed.
    """
    settings = settings or CodecTraining()
    model: Any
    if checkpoints_in(state_folder(out)) and (out / "config.json").exists():  # of whatever shape
        model = Codec.load(out).model.requires_grad_(True)
    else:
        model = new_autoencoder(seed, to_float(_sets(photos)[0][:16]))
    model.to(device, memory_format=torch.channels_last)
    judge = judging_network(network, device) if settings.perceptual else None
    losses = Encoding(model, judge, settings).to(device)
    how = codec_training(model, settings.peak_rate)
    return fit_codec(photos, out, budget, {"model": how}, losses, settings, seed)


@torch.no_grad()
def new_autoencoder(seed: int, images: Tensor) -> nn.Module:
    """An autoencoder whose channels start with unit variance: noise would drown smaller ones."""
    make: Any = tiny_autoencoder
    model: Any = seeded(make, seed)
    last, latents = model.encoder.layers[-1], model.encoder(images)
    spread = latents.std((0, 2, 3))
    last.weight /= spread[:, None, None, None]
    last.bias.sub_(latents.mean((0, 2, 3))).div_(spread)
    return model


def judging_network(network: LiteNetwork | None, device: str) -> LiteNetwork:
    """The network that compares pictures in training, on the device."""
    network = network or LiteNetwork.pretrained("lite0", BLOCKS, RESOLUTION)
    return network.to(device).to(memory_format=torch.channels_last)


def codec_training(model: nn.Module, peak_rate: float) -> Trained:
    """How an autoencoder, or a part of it, is trained."""
    return Trained(model, peak_rate, weight_decay=1e-4, average=Average((0.995,), every=5))


def fit_codec(
    photos: Photos,
    out: Path,
    budget: Budget,
    trained: dict[str, Trained],
    losses: nn.Module,
    settings: CodecTraining,
    seed: int,
    state: Path | None = None,
) -> dict[str, Any]:
    """Trains an autoencoder, and what else there is, and writes it.

    Args:
        photos: uint8 (N, 3, S, S), or several such sets.
        out: folder of the autoencoder.
        budget: of this session.
        trained: the autoencoder as `model`, and others.
        losses: of photos and a generator; adds gradients.
        settings: of the stage.
        seed: of everything random.
        state: folder of the checkpoints; that of the autoencoder by default. The latents' scale is
            measured only then: what goes on later must not touch what they mean.

    Returns:
        As `train_autoencoder`; nothing in all but the first of several processes.
    """
    model: Any = trained["model"].module
    device = next(model.parameters()).device
    sets = [split(some) for some in _sets(photos)]
    train, held = (torch.cat(parts).to(device) for parts in zip(*sets, strict=True))
    generator = generator_for(seed, device)
    trainer = Trainer(trained, generator, state or state_folder(out))
    result: dict[str, Any] = {}

    def keep(history: History) -> None:
        if state is None:
            fit_scale(model, train)
            # that of a decoder is of other latents
            shutil.rmtree(state_folder(out.with_name("decoder")), ignore_errors=True)
        result.update(measure(model, train, held))
        Codec(model).save(out)
        write_json(out / "training.json", {**result, "history": history})

    def learn(index: Tensor) -> dict[str, Tensor]:
        return losses(augmented(train[index], generator, settings.recolored), generator)

    batches = MixedBatches([len(part) for part, _ in sets], settings.batch_size, generator)
    trainer.fit([learn], batches, budget, keep, title=(state or out).stem)
    return result


class MixedBatches(Batches):
    """Index tensors (batch,) into sets that lie one behind the other, as many of each.

    An epoch is one of the set that takes longest; one set alone is visited as `Batches` do.

    Raises:
        RissoleError: when a batch has no place for each set.
    """

    def __init__(self, counts: Sequence[int], batch: int, generator: torch.Generator):
        super().__init__(sum(counts), batch, generator)
        self.counts = counts
        self.shares = [(batch + i) // len(counts) for i in range(len(counts))]
        if not all(self.shares):
            raise RissoleError(f"batch_size {batch} is too small for {len(counts)} sets of photos")

    def __next__(self) -> Tensor:
        if len(self.counts) > 1 and len(self.pool) < self.batch:
            self.pool = self._epoch()
        return super().__next__()

    def _epoch(self) -> Tensor:
        """Numbers of whole batches; of each set all, once or more often, in random order."""
        like: Any = {"generator": self.generator, "device": self.generator.device}
        rounds = max(-(-n // share) for n, share in zip(self.counts, self.shares, strict=True))
        parts, start = [], 0
        for count, share in zip(self.counts, self.shares, strict=True):
            times = -(-rounds * share // count)
            order = torch.cat([torch.randperm(count, **like) for _ in range(times)])
            parts.append(start + order[: rounds * share].view(rounds, share))
            start += count
        return torch.cat(parts, 1).flatten()


class CodecLosses(nn.Module):
    """What both stages share: a noisy decoding, and terms balanced at the decoder's last layer."""

    def __init__(self, model: nn.Module, network: LiteNetwork | None, settings: CodecTraining):
        super().__init__()
        self.model: Any = model
        self.network: Any = network
        self.settings = settings
        self.fidelity = FidelityLoss(settings.chroma)

    def decode(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """Pictures of latents with noise of another strength for each, mostly of a small one."""
        like: Any = {"generator": generator, "device": latents.device}
        strength = self.settings.latent_noise * torch.rand(len(latents), 1, 1, 1, **like).square()
        return self.model.decoder(latents + strength * torch.randn(latents.shape, **like)).float()

    def maps(self, images: Tensor) -> list[Tensor]:
        """Feature maps of images (B, 3, H, W) in [-1, 1]."""
        with half(images):
            return self.network.maps(images)

    def felt(self, output: Tensor, gradient: Tensor) -> Tensor:
        """Size of a gradient at the pictures where it reaches the decoder's last layer."""
        last = self.model.decoder.layers[-1].weight
        return torch.autograd.grad(output, last, gradient, retain_graph=True)[0].norm()

    def balanced(
        self, output: Tensor, base: Tensor, other: Tensor, ratio: float | Tensor
    ) -> Tensor:
        """Sum of two gradients, the other one scaled to a share of what is felt of the base."""
        scale = self.felt(output, base) / self.felt(output, other).clamp(min=1e-12)
        return base + ratio * scale.clamp(max=1e4) * other


class Encoding(CodecLosses):
    """First stage: the loss of encoder and decoder together."""

    def forward(self, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of photos (B, 3, S, S) in [-1, 1]; adds their gradients."""
        with half(target):
            latents = self.model.encoder(target)
            output = self.decode(latents, generator)
            small = self.model.decoder(F.avg_pool2d(latents[::4], 2)).float()
        report, gradient = self._compared(output, target)
        raw = latents.float()
        mean, variance = raw.mean((0, 2, 3)), raw.var((0, 2, 3))
        rules = 0.02 * (mean.square() + (variance - 1).square()).mean()
        rules = rules + 0.2 * self.fidelity(small, F.avg_pool2d(target[::4], 2))
        torch.autograd.backward([output, rules], [gradient, None])
        report["variance"] = variance.mean()
        return {name: value.detach() for name, value in report.items()}

    def _compared(self, output: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Differences of pictures, and the gradient at those that were decoded."""
        image = output.detach().requires_grad_()
        report = {"fidelity": self.fidelity(image, target)}
        (gradient,) = torch.autograd.grad(report["fidelity"], image)
        if self.network is not None:
            with torch.no_grad():
                wanted = self.maps(target)
            report["features"] = feature_distance(self.maps(image), wanted)
            (alike,) = torch.autograd.grad(report["features"], image)
            gradient = self.balanced(output, gradient, alike, self.settings.perceptual)
        return report, gradient


class FidelityLoss(nn.Module):
    """Squared and absolute differences in luma and weighted chroma."""

    def __init__(self, chroma: float):
        super().__init__()
        weight = torch.tensor((1.0, chroma, chroma))
        self.register_buffer("matrix", torch.tensor(YCBCR) * weight[:, None])

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """A scalar for images (B, 3, H, W) in [-1, 1]."""
        error = torch.einsum("ij,bjhw->bihw", self.matrix, output - target)
        return 0.3 * error.abs().mean() + 10 * error.square().mean()


def feature_distance(got: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of maps whose cells are scaled to unit length (arXiv 1801.03924)."""
    pairs = zip(got, wanted, strict=True)
    apart = [F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1) for a, b in pairs]
    return torch.stack([x.square().sum(1).mean() for x in apart]).mean()


def half(like: Tensor) -> torch.autocast:
    """bfloat16 where tensor cores make it pay."""
    return torch.autocast(like.device.type, torch.bfloat16, enabled=like.is_cuda)


def augmented(photos: Tensor, generator: torch.Generator, recolored: float) -> Tensor:
    """Mirrors half of the photos, moves each by whole pixels, which blur nothing, recolors some.

    Args:
        photos: uint8 (B, 3, S, S).
        generator: on their device.
        recolored: share of photos to recolor.

    Returns:
        Floats in [-1, 1], channels last.
    """
    count = len(photos)
    like: Any = {"generator": generator, "device": photos.device}
    images = to_float(photos)
    flip = torch.rand(count, 1, 1, 1, **like) < 0.5
    moved = shifted(torch.where(flip, images.flip(-1), images), generator)
    chosen = torch.rand(count, 1, 1, 1, **like) < recolored
    moved = torch.where(chosen, jitter_colors(moved, generator), moved)
    return moved.contiguous(memory_format=torch.channels_last)


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, H), each moved by whole pixels, mirrored at the borders."""
    (count, _, _, size), device = images.shape, images.device
    images = F.pad(images, (SHIFT,) * 4, mode="reflect")
    rows, columns = (
        torch.randint(0, 2 * SHIFT + 1, (count, 1), generator=generator, device=device)
        + torch.arange(size, device=device)
        for _ in range(2)
    )
    item = torch.arange(count, device=device)[:, None, None]
    return images[item, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@torch.no_grad()
def fit_scale(model: Any, train: Tensor) -> None:
    """Notes what makes latents of photos (N, 3, S, S) standard normal."""
    raw = _some_latents(model, train)
    model.register_to_config(shift_factor=raw.mean().item(), scaling_factor=1 / raw.std().item())


@torch.no_grad()
def measure(model: Any, train: Tensor, held: Tensor) -> dict[str, Any]:
    """PSNR on held-out photos, in dB, and the latents' statistics on others."""
    batches = map(to_float, held.split(portion(train.shape[-1], train.device.type)))
    quality = [psnr(model.decoder(model.encoder(batch)), batch) for batch in batches]
    return {
        "psnr_held_out_db": torch.cat(quality).mean().item(),
        "latent_scale": model.config["scaling_factor"],
        "latent_shift": model.config["shift_factor"],
        "channel_std": _some_latents(model, train).std((0, 2, 3)).tolist(),
    }


def psnr(output: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,), in dB, of images (B, 3, H, W) in [-1, 1]."""
    error = (output.clamp(-1, 1) - target).div(2).square().flatten(1).mean(1)
    return -10 * error.log10()


def _some_latents(model: Any, photos: Tensor) -> Tensor:
    """Unscaled latents of some photos, from all over."""
    batch = portion(photos.shape[-1], photos.device.type)
    some = photos[:: max(1, len(photos) // 2048)]
    return torch.cat([model.encoder(to_float(b)) for b in some.split(batch)]).float()


def _sets(photos: Photos) -> list[Tensor]:
    return [photos] if isinstance(photos, Tensor) else list(photos)
