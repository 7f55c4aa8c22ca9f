"""What a denoiser is to those who paint with it, and where its class is found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from rissole.models.saving import CLASS, SavedNetwork
from rissole.registry import Registry

USUAL = "Denoiser"  # the class of files that name none, as those of before there was a choice


class Aims(NamedTuple):
    """What a step is asked for; None is what a network without that input does.

    Attributes:
        ends: (B, g, g) noise level at which the step of each block ends; by default the block's
            own level, which asks for the velocity there.
        guidance: (B,) scale from 1, unguided, upwards.
        strength: (B, g, g) from 0, as usual, to 1, where a block is to look like its neighbors'.
        augmentation: (B, A) how a training picture was augmented; 0 for pictures as they are.
    """

    ends: Tensor | None = None
    guidance: Tensor | None = None
    strength: Tensor | None = None
    augmentation: Tensor | None = None


class State(NamedTuple):
    """What is on the canvas, and what is asked for.

    Attributes:
        canvas: (B, C, S, S) latents; a block is noisy at its own level, clean, or absent.
        levels: (B, g, g) noise level of each block, 0 clean to 1 pure noise.
        present: (B, g, g) bool, False where nothing is painted or started yet.
        context: (B,) bool, False for blocks that see neither halo nor canvas ("independent").
        view: (B,) bool, False for blocks that see their halo but not the canvas: a negative for
            guidance that knows less of the whole (arXiv 2411.10257). None is True for all.
        aims: a network ignores those that it has no input for.
    """

    canvas: Tensor
    levels: Tensor
    present: Tensor
    context: Tensor
    view: Tensor | None = None
    aims: Aims = Aims()


class BlockDenoiser(SavedNetwork, ABC):
    """Predicts what a scheduler asks for in the windows of some blocks of a canvas.

    Its config has `latent_channels`, `latent_size` and `halo`, the cells of surroundings on every
    side of a block. One from outside this package registers itself with `@DENOISERS.register`.

    Attributes:
        name: of the class, in files and in `DENOISERS`.
        prediction_type: what it was trained to predict, a name of `models.scheduler.PREDICTIONS`.
    """

    what = "denoiser"
    name: ClassVar[str]
    prediction_type: ClassVar[str] = "flow_prediction"
    config: Any

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape (C, S, S) of the canvas."""
        return self.config.latent_channels, self.config.latent_size, self.config.latent_size

    @property
    def flow_map(self) -> bool:
        """Whether it answers for a whole step, with guidance, in one evaluation."""
        return getattr(self.config, "flow_map", False)

    def stored_config(self) -> dict[str, Any]:
        """See `SavedNetwork`; names the class where that is not the usual one."""
        named = {} if self.name == USUAL else {CLASS: self.name}
        return {**named, **super().stored_config()}

    @abstractmethod
    def encode_neighbors(self, latents: Tensor) -> Any:
        """What `forward` wants to know of neighbors (B, K, C, S, S), once per picture."""

    @abstractmethod
    def forward(
        self, state: State, features: Any, visible: Tensor, index: Tensor, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Predicts every cell in the windows of some blocks.

        Args:
            state: the canvas; its (B, g, g) levels tell the grid.
            features: of K neighbors, from `encode_neighbors`.
            visible: bool (B, g, g, K), the neighbors of each block; none visible is unconditional.
            index: (B, n) raster numbers of the blocks to evaluate.
            weights: also return the attention on the neighbors.

        Returns:
            Predictions (B, n, C, w, w), and on request attention (B, n, K, w/2, w/2): per cell,
            what each neighbor weighed; less than 1 in sum where the cell listened to none.
        """


DENOISERS: Registry[type[BlockDenoiser]] = Registry("denoiser")
