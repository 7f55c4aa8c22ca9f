"""What the block denoiser is compared with: other ways to use the same latents and neighbors.

* `published`: the method of arXiv 2408.17095 re-implemented: 2x2 blocks that do not see each other,
  the k neighbors' blocks concatenated on the channels, the block's position like a second time
  embedding, noise predicted on the linear schedule of arXiv 2006.11239. Unlike there, no picture
  retrieves itself in training.
* `published-no-retrieval`: the same with noise in place of the neighbors, as its authors do.
* `whole-image`: a U-Net on the whole latent without retrieval, flow matching as the block denoiser.
* `whole-image-retrieval`: a U-Net on the whole latent with cross-attention to patches of the
  neighbors' latents (as arXiv 2204.11824 does with CLIP embeddings).

The networks are `diffusers` U-Nets of about the block denoiser's size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    UNet2DConditionModel,
    UNet2DModel,
)
from torch import Tensor, nn

from rissole.blocks import crop_blocks, stitch
from rissole.config import RissoleError
from rissole.models.saving import SavedNetwork

BASELINES = ("published", "published-no-retrieval", "whole-image", "whole-image-retrieval")
PUBLISHED_GRID = 2
PATCH = 4  # side of a neighbor's patch, in cells


@dataclass(frozen=True)
class BaselineConfig:
    """Shape of a baseline.

    Attributes:
        kind: one of `BASELINES`.
        latent_channels, latent_size: C and S of the canvas (C, S, S).
        neighbors: how many the published method concatenates; the others take any number.
        channels: widths of the U-Net's levels; None as measured against the block denoiser.
        layers: residual blocks per level.
        dropout: probability, in training only.
    """

    kind: str
    latent_channels: int = 4
    latent_size: int = 32
    neighbors: int = 10
    channels: tuple[int, ...] | None = None
    layers: int | None = None
    dropout: float = 0.1

    def __post_init__(self):
        if self.kind not in BASELINES:
            raise RissoleError(f"no baseline {self.kind!r}: one of {', '.join(BASELINES)}")


class Baseline(SavedNetwork):
    """One of the networks above.

    Blocks are a batch of their own: a canvas is one block, or four for the published method.
    """

    config_class = BaselineConfig

    def __init__(self, config: BaselineConfig):
        super().__init__()
        self.config = config
        if config.kind.startswith("published"):
            self.unet = _block_unet(config)
            kept = published_schedule().alphas_cumprod
            self.register_buffer("kept", kept, persistent=False)  # share of the picture per step
        elif config.kind == "whole-image":
            self.unet = _whole_unet(config)
        else:
            self.unet, width = _listening_unet(config)
            patches = (config.latent_size // PATCH) ** 2
            self.patches = nn.Linear(config.latent_channels * PATCH**2, width)
            self.where = nn.Parameter(torch.randn(patches, width) * 0.02)
            self.null = nn.Parameter(torch.randn(1, width) * 0.02)

    @property
    def grid(self) -> int:
        """Blocks per side."""
        return PUBLISHED_GRID if self.config.kind.startswith("published") else 1

    def forward(
        self, x: Tensor, level: Tensor, neighbors: Tensor | None, shown: Tensor | None = None
    ) -> Tensor:
        """Predicts the noise (published) or the velocity (whole image) of all blocks.

        Args:
            x: (B, C, S, S) noisy latents.
            level: (B, g * g) noise level of each block, 0 to 1000 (a step of the linear schedule,
                or 1000 times the flow's level).
            neighbors: (B, K, C, S, S) clean latents, nearest first.
            shown: bool (B,), pictures that see their neighbors; None shows them all.
        """
        if self.config.kind == "whole-image":
            return self.unet(x, level[:, 0]).sample
        if self.config.kind == "whole-image-retrieval":
            tokens = self._tokens(neighbors)
            mask = self._mask(tokens, shown)
            return self.unet(
                x, level[:, 0], encoder_hidden_states=tokens, encoder_attention_mask=mask
            ).sample
        g = self.grid
        blocks = torch.cat([x, neighbors.flatten(1, 2)], dim=1)
        blocks = crop_blocks(blocks, g)
        position = torch.arange(g * g, device=x.device).repeat(len(x))
        noise = self.unet(blocks.flatten(0, 1), level.flatten(), class_labels=position).sample
        return stitch(noise.unflatten(0, (len(x), g * g)), g)

    def _tokens(self, neighbors: Tensor) -> Tensor:
        """Null token and patches (B, 1 + K * P, width) of neighbors (B, K, C, S, S)."""
        patches = neighbors.unfold(-2, PATCH, PATCH).unfold(-2, PATCH, PATCH)
        patches = patches.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(2, 3)
        tokens = self.patches(patches) + self.where
        null = self.null.to(tokens.dtype).expand(len(tokens), 1, -1)
        return torch.cat([null, tokens.flatten(1, 2)], dim=1)

    def _mask(self, tokens: Tensor, shown: Tensor | None) -> Tensor | None:
        if shown is None:
            return None
        mask = shown[:, None].repeat(1, tokens.shape[1])
        mask[:, 0] = True
        return mask


def published_schedule() -> DDPMScheduler:
    """1000 steps, linear betas from 1e-4 to 2e-2, the noise predicted."""
    return DDPMScheduler(clip_sample=False)


def solver(steps: int) -> SchedulerMixin:
    """The published sampler at 1000 steps; below, DPM-Solver++ on the same schedule."""
    if steps == 1000:
        return published_schedule()
    return DPMSolverMultistepScheduler.from_config(published_schedule().config)


@torch.inference_mode()
def paint_baseline(
    model: Baseline,
    scheduler: SchedulerMixin,
    noise: Tensor,
    neighbors: Tensor,
    *,
    num_inference_steps: int,
    guidance_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Paints B pictures.

    Args:
        scheduler: `solver` for the published method, else one for flow matching.
        noise: (B, C, S, S), standard normal.
        neighbors: (B, K, C, S, S), nearest first; not looked at by models without retrieval.
        guidance_scale: of `whole-image-retrieval`; the others know no guidance.
        generator: draws the noise that replaces neighbors, and that of the sampler.

    Returns:
        (B, C, S, S) latents.
    """
    kind, dtype = model.config.kind, next(model.parameters()).dtype
    if kind == "published-no-retrieval":
        neighbors = torch.randn(
            len(noise), model.config.neighbors, *noise.shape[1:], generator=generator,
            device=noise.device,
        )  # fmt: skip
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    x, shown = noise, None
    for timestep in scheduler.timesteps:
        twice = guidance_scale != 1
        level = timestep.float().expand(len(x) * (1 + twice), model.grid**2)
        batch = torch.cat([x, x]) if twice else x
        context = torch.cat([neighbors, neighbors]) if twice else neighbors
        if twice:
            shown = torch.arange(len(batch), device=x.device) < len(x)
        output = model(batch.to(dtype), level, context.to(dtype), shown).float()
        if twice:
            seen, blind = output.chunk(2)
            output = blind + guidance_scale * (seen - blind)
        x = scheduler.step(output, timestep, x, **_drawn_by(scheduler, generator)).prev_sample
    return x


def _drawn_by(scheduler: SchedulerMixin, generator: torch.Generator | None) -> dict:
    """Samplers without noise of their own take a generator, too, but some warn about it."""
    return {"generator": generator} if isinstance(scheduler, DDPMScheduler) else {}


def _block_unet(config: BaselineConfig) -> UNet2DModel:
    c = config.latent_channels
    return UNet2DModel(
        sample_size=config.latent_size // PUBLISHED_GRID,
        # one convolution of all channels equals one of the block plus one of its neighbors
        in_channels=c * (1 + config.neighbors),
        out_channels=c,
        block_out_channels=config.channels or (128, 192),
        layers_per_block=config.layers or 2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=16,
        num_class_embeds=PUBLISHED_GRID**2,
        dropout=config.dropout,
    )


def _whole_unet(config: BaselineConfig) -> UNet2DModel:
    return UNet2DModel(
        sample_size=config.latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.channels or (64, 128, 192),
        layers_per_block=config.layers or 2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=16,
        dropout=config.dropout,
    )


def _listening_unet(config: BaselineConfig) -> tuple[UNet2DConditionModel, int]:
    """The network and the width of the tokens it listens to."""
    width = 192
    return UNet2DConditionModel(
        sample_size=config.latent_size,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.channels or (96, 128, 160),
        layers_per_block=config.layers or 1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,  # this class means the number of heads
        cross_attention_dim=width,
        norm_num_groups=16,
        dropout=config.dropout,
    ), width
