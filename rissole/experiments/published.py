"""The method of arXiv 2408.17095, re-implemented.

2x2 blocks that do not see each other, the k neighbors' blocks concatenated on the channels, the
block's position like a second time embedding, noise predicted on the linear schedule of
arXiv 2006.11239. Unlike there, no picture retrieves itself in training.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor

from rissole.blocks import crop_blocks, stitch
from rissole.experiments.baselines import Baseline, BaselineConfig, BaselineMethod
from rissole.training.method import METHODS
from rissole.training.situations import Sampler


class PublishedNetwork(Baseline):
    """A U-Net for blocks and those of their neighbors."""

    grid = 2

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        c = config.latent_channels
        self.unet: Any = UNet2DModel(
            sample_size=config.latent_size // self.grid,
            # one convolution of all channels equals one of the block plus one of its neighbors
            in_channels=c * (1 + config.neighbors),
            out_channels=c,
            block_out_channels=config.channels or (128, 192),
            layers_per_block=config.layers or 2,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=32,
            norm_num_groups=16,
            num_class_embeds=self.grid**2,
            dropout=config.dropout,
        )
        kept = published_schedule().alphas_cumprod
        self.register_buffer("kept", kept, persistent=False)  # share of the picture per step

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        neighbors: Tensor,
        shown: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> Tensor:
        """The noise of all blocks; neighbors are shown always, and pictures never changed."""
        g = self.grid
        blocks = crop_blocks(torch.cat([x, neighbors.flatten(1, 2)], dim=1), g)
        position = torch.arange(g * g, device=x.device).repeat(len(x))
        noise = self.unet(blocks.flatten(0, 1), level.flatten(), class_labels=position).sample
        return stitch(noise.unflatten(0, (len(x), g * g)), g)


def published_schedule() -> Any:
    """1000 steps, linear betas from 1e-4 to 2e-2, the noise predicted."""
    return DDPMScheduler(clip_sample=False)


@METHODS.register
class Published(BaselineMethod):
    """As published."""

    name = "published"
    network = PublishedNetwork

    def scheduler(self, steps: int) -> Any:
        """The published sampler at 1000 steps; below, DPM-Solver++ on the same schedule."""
        if steps == 1000:
            return published_schedule()
        return DPMSolverMultistepScheduler.from_config(published_schedule().config)

    def context(self, model: Any, near: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """All neighbors, however many a row of the table is said to show."""
        return near

    def shown(self, model: Any, sampler: Sampler, index: Tensor) -> Tensor:
        """What is concatenated in training: the nearest."""
        return sampler.pool[sampler.table[index, : model.config.neighbors]].float()

    def predict(self, model: Any, sampler: Sampler, index: Tensor) -> tuple[Tensor, Tensor]:
        """Noise; every block of a picture has its own step of the linear schedule."""
        clean, neighbors = sampler.latents[index].float(), self.shown(model, sampler, index)
        side, (height, width) = model.grid, clean.shape[-2:]
        step = (sampler.rand(len(clean), side**2) * 1000).long().clamp(max=999)
        noise = sampler.normal(*clean.shape)
        kept = model.kept[step].view(-1, 1, side, side)
        kept = kept.repeat_interleave(width // side, -1).repeat_interleave(height // side, -2)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
        return model(noisy, step.float(), neighbors), noise


@METHODS.register
class PublishedWithoutRetrieval(Published):
    """The same with noise in place of the neighbors, as its authors do."""

    name = "published-no-retrieval"

    def context(self, model: Any, near: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """Noise."""
        shape = (len(near), model.config.neighbors, *near.shape[2:])
        return torch.randn(shape, generator=generator, device=near.device)

    def shown(self, model: Any, sampler: Sampler, index: Tensor) -> Tensor:
        """Noise."""
        return sampler.normal(len(index), model.config.neighbors, *sampler.latents.shape[1:])
