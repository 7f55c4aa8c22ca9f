"""What the block denoiser is compared with: other ways to use the same latents and neighbors.

Each is a network and a `Method` of about the block denoiser's size; those of a whole picture in
`whole_image`, the published method in `published`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from tqdm import tqdm

from rissole.models.saving import SavedNetwork
from rissole.models.scheduler import default_scheduler
from rissole.training.bulk import Painting, batch_size, noises
from rissole.training.method import Loss, Method
from rissole.training.situations import Sampler


@dataclass(frozen=True)
class BaselineConfig:
    """Shape of a baseline.

    Attributes:
        kind: name of the method, noted in the network's file.
        latent_channels, latent_size: C and S of the canvas (C, S, S).
        neighbors: how many the published method concatenates; the others take any number.
        channels: widths of the U-Net's levels; None as measured against the block denoiser.
        layers: residual blocks per level.
        dropout: probability, in training only.
        augmentation: numbers that tell how a training picture was changed; 0 takes none.
    """

    kind: str = ""
    latent_channels: int = 4
    latent_size: int = 32
    neighbors: int = 10
    channels: tuple[int, ...] | None = None
    layers: int | None = None
    dropout: float = 0.1
    augmentation: int = 0


class Baseline(SavedNetwork):
    """A `diffusers` U-Net, and what it is shown.

    Attributes:
        grid: blocks per side; they are a batch of their own.
    """

    config_class = BaselineConfig
    grid: ClassVar[int] = 1

    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        level: Tensor,
        neighbors: Tensor,
        shown: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> Tensor:
        """Predicts the noise (published) or the velocity (whole image) of all blocks.

        Args:
            x: (B, C, S, S) noisy latents.
            level: (B, g * g) noise level of each block, 0 to 1000 (a step of the linear schedule,
                or 1000 times the flow's level).
            neighbors: (B, K, C, S, S) clean latents, nearest first.
            shown: bool (B,), pictures that see their neighbors; None shows them all.
            augmentation: (B, A), how a training picture was changed; None for pictures as they are.
        """


class BaselineMethod(Method):
    """How a baseline is trained and paints."""

    network: ClassVar[type[Baseline]]
    fixed = Method.fixed | {"kind", "augmentation"}

    def config(self, model: Mapping[str, Any]) -> BaselineConfig:
        """Settings of the network, from those a user gave."""
        return replace(super().config(model), kind=self.name)

    def losses(self, model: Any, sampler: Sampler) -> dict[str, Loss]:
        """The mean squared error of what is predicted."""

        def loss(index: Tensor) -> Tensor:
            cuda = sampler.latents.is_cuda
            with torch.autocast("cuda" if cuda else "cpu", torch.bfloat16, enabled=cuda):
                output, target = self.predict(model, sampler, index)
            return (output.float() - target).square().mean()

        return {"loss": loss}

    @abstractmethod
    def predict(self, model: Any, sampler: Sampler, index: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says of pictures (B,), made noisy, and what it should say."""

    def scheduler(self, steps: int) -> Any:
        """The sampler: that of the block denoiser unless a method has its own."""
        return default_scheduler()

    def context(self, model: Any, near: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """What the network is handed of neighbors (B, K, C, S, S)."""
        return near[:, : max(k, 1)]

    def neighbors_shown(self, model: Any, k: int) -> int:
        """As many as the network's input has room for, at least."""
        return max(k, model.config.neighbors)

    def network_calls(self, how: Painting) -> int:
        """Blocks one after another; guidance looks twice at every step."""
        return how.num_inference_steps * self.network.grid**2 * (1 + (how.guidance_scale != 1))

    def paint(self, model: Any, neighbors: Tensor, how: Painting, seed: int) -> Tensor:
        """In batches, every one with noise of its own."""
        device = next(model.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        parts, batch = [], batch_size(device)
        starts = range(0, len(neighbors), batch)
        for start in tqdm(starts, desc="painting", unit="batch", leave=False, disable=None):
            near = neighbors[start : start + batch].to(device).float()
            context = self.context(model, near, how.k, generator)
            scheduler = self.scheduler(how.num_inference_steps)
            painted = denoise(
                model, scheduler, noises(seed + start, near[:, 0]).to(device), context,
                num_inference_steps=how.num_inference_steps, guidance_scale=how.guidance_scale,
                generator=generator,
            )  # fmt: skip
            parts.append(painted.cpu())
        return torch.cat(parts)


@torch.inference_mode()
def denoise(
    model: Any,
    scheduler: Any,
    noise: Tensor,
    neighbors: Tensor,
    *,
    num_inference_steps: int,
    guidance_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Paints B pictures.

    Args:
        model: predicts.
        scheduler: of the noise that it was trained with.
        noise: (B, C, S, S), standard normal.
        neighbors: (B, K, C, S, S), nearest first; not looked at by models without retrieval.
        num_inference_steps: of the scheduler.
        guidance_scale: of models that are also trained without neighbors; the others know none.
        generator: draws the noise of the sampler.

    Returns:
        (B, C, S, S) latents.
    """
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    # samplers without noise of their own take a generator, too, but some warn about it
    drawn_by = {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}
    dtype, twice = next(model.parameters()).dtype, guidance_scale != 1
    x, shown = noise, None
    context = torch.cat([neighbors, neighbors]) if twice else neighbors
    if twice:
        shown = torch.arange(2 * len(x), device=x.device) < len(x)
    for timestep in scheduler.timesteps:
        batch = torch.cat([x, x]) if twice else x
        level = timestep.float().expand(len(batch), model.grid**2)
        output = model(batch.to(dtype), level, context.to(dtype), shown).float()
        if twice:
            seen, blind = output.chunk(2)
            output = blind + guidance_scale * (seen - blind)
        x = scheduler.step(output, timestep, x, **drawn_by).prev_sample
    return x
