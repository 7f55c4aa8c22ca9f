"""U-Nets on the whole latent, flow matching as the block denoiser, with and without retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn

from rissole.experiments.baselines import Baseline, BaselineConfig, BaselineMethod
from rissole.training.hyperparameters import DenoiserTraining
from rissole.training.method import METHODS
from rissole.training.situations import Sampler

PATCH = 4  # side of a neighbor's patch, in cells
WIDTH = 192  # of the tokens that patches become


class WholeBaseline(Baseline):
    """A U-Net for the whole latent that may be told how a training picture was changed.

    Args:
        config: its shape.
        unet: whose time embedding takes that as a class.
    """

    def __init__(self, config: BaselineConfig, unet: Any):
        super().__init__(config)
        self.unet = unet
        self.told = None
        if config.augmentation:
            width = unet.time_embedding.linear_2.out_features
            self.told = nn.Linear(config.augmentation, width, bias=False)
            nn.init.zeros_(self.told.weight)

    def changes(self, x: Tensor, augmentation: Tensor | None) -> dict[str, Tensor]:
        """What the U-Net takes of how pictures (B, C, S, S) were changed."""
        if self.told is None:
            return {}
        if augmentation is None:
            augmentation = x.new_zeros(len(x), self.config.augmentation)
        return {"class_labels": self.told(augmentation.to(x.dtype))}


class WholeNetwork(WholeBaseline):
    """A U-Net that looks at no neighbors."""

    def __init__(self, config: BaselineConfig):
        unet: Any = UNet2DModel(
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
            class_embed_type="identity" if config.augmentation else None,
        )
        super().__init__(config, unet)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        neighbors: Tensor,
        shown: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> Tensor:
        """The velocity."""
        return self.unet(x, level[:, 0], **self.changes(x, augmentation)).sample


class ListeningNetwork(WholeBaseline):
    """A U-Net with cross-attention to patches of the neighbors' latents.

    As arXiv 2204.11824 does with CLIP embeddings.
    """

    def __init__(self, config: BaselineConfig):
        unet: Any = UNet2DConditionModel(
            sample_size=config.latent_size,
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            block_out_channels=config.channels or (96, 128, 160),
            layers_per_block=config.layers or 1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,  # this class means the number of heads
            cross_attention_dim=WIDTH,
            norm_num_groups=16,
            dropout=config.dropout,
            class_embed_type="identity" if config.augmentation else None,
        )
        super().__init__(config, unet)
        patches = (config.latent_size // PATCH) ** 2
        self.patches = nn.Linear(config.latent_channels * PATCH**2, WIDTH)
        self.where = nn.Parameter(torch.randn(patches, WIDTH) * 0.02)
        self.null = nn.Parameter(torch.randn(1, WIDTH) * 0.02)

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        neighbors: Tensor,
        shown: Tensor | None = None,
        augmentation: Tensor | None = None,
    ) -> Tensor:
        """The velocity."""
        patches = neighbors.unfold(-2, PATCH, PATCH).unfold(-2, PATCH, PATCH)
        patches = patches.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(2, 3)
        tokens = self.patches(patches) + self.where
        null = self.null.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = torch.cat([null, tokens.flatten(1, 2)], dim=1)  # (B, 1 + K * patches, WIDTH)
        mask = None
        if shown is not None:
            mask = shown[:, None].repeat(1, tokens.shape[1])
            mask[:, 0] = True
        known = {"encoder_hidden_states": tokens, "encoder_attention_mask": mask}
        return self.unet(x, level[:, 0], **known, **self.changes(x, augmentation)).sample


@METHODS.register
class WholeImage(BaselineMethod):
    """Without retrieval."""

    name = "whole-image"
    network: ClassVar[type[Baseline]] = WholeNetwork

    def inputs(self, settings: DenoiserTraining, data: Mapping[str, Tensor]) -> dict[str, Any]:
        """How pictures were changed, as the block denoiser is told."""
        return self.told_changes(settings, data)

    def predict(self, model: Any, sampler: Sampler, index: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities at logit-normal levels (arXiv 2403.03206, eq. 19).

        Neighbors are a few of the nearest; pictures without any make guidance possible.
        """
        hood = sampler.hood(index, 1)
        clean, neighbors, told = sampler.pictures(index, hood.ids)
        level = torch.sigmoid(sampler.normal(len(clean), 1))
        noise, t = sampler.normal(*clean.shape), level[..., None, None]
        noisy, shown = (1 - t) * clean + t * noise, hood.visible.flatten(1).any(1)
        return model(noisy, 1000 * level, neighbors, shown, told), noise - clean


@METHODS.register
class WholeImageWithRetrieval(WholeImage):
    """With cross-attention to the neighbors."""

    name = "whole-image-retrieval"
    network = ListeningNetwork
