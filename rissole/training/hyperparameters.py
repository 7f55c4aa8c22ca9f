"""What each stage of this package can be told; a JSON file may set any of it.

Stages and what they run both read it from here. It loads quickly: the command line lists stages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from rissole.config import RissoleError

Positive = Annotated[int, Field(ge=1)]  # a whole number from 1
Share = Annotated[float, Field(ge=0)]  # a number from 0
Part = Annotated[float, Field(ge=0, le=1)]  # of a whole


@dataclass(frozen=True)
class FeatureTraining:
    """Settings of a feature network.

    Attributes:
        batch_size: photos per step, each seen in two views; half of them once more, damaged.
        arch: resnet18, resnet34 or resnet50.
        resolution: to which the network scales all images, that of the photos by default. Twice
            that is better for photos of 32 pixels, of which the last stage would see one cell.
    """

    batch_size: Positive = 512
    arch: str = "resnet18"
    resolution: Positive | None = None


@dataclass(frozen=True)
class CodecTraining:
    """What training an autoencoder, or its decoder alone, can be told.

    Attributes:
        batch_size: photos per step and process.
        peak_rate: highest learning rate of AdamW.
        chroma: weight of color differences against those of brightness.
        latent_noise: largest standard deviation of noise on the latents the decoder sees, drawn
            anew for every picture; what paints latents is never exact.
        recolored: share of photos with other colors, so that pictures of any kind survive.
        perceptual: strength of feature differences against that of pixel differences; 0 does
            without, and needs no network. A decoder that is not sharpened yet shows a faint pattern
            of 4-pixel cells.
    """

    batch_size: Positive = 32
    peak_rate: Share = 6e-4
    chroma: Share = 1.5
    latent_noise: Share = 0.1
    recolored: Part = 0.25
    perceptual: Share = 0.5


@dataclass(frozen=True)
class DecoderTraining(CodecTraining):
    """Settings of the stage, besides those of every autoencoder.

    Attributes:
        discriminator: strength of the discriminator against that of all differences.
    """

    peak_rate: Share = 2e-4
    latent_noise: Share = 0.3
    perceptual: Share = 1.0
    discriminator: Share = 0.5


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of the stage.

    Attributes:
        batch_size: photos per step, each seen in two views.
        peak_rate: highest learning rate of AdamW.
        width: of the projector that VICReg's loss is computed behind; it is not shipped.
    """

    batch_size: Positive = 256
    peak_rate: Share = 1e-3
    width: Positive = 1024


@dataclass(frozen=True)
class DenoiserTraining:
    """Settings of training.

    Attributes:
        batch_size: pictures per step.
        peak_rate: highest learning rate of AdamW.
        grids: share of steps on grids of 4x4, 2x2 and 1x1 blocks.
        situations: share of pictures painted in parallel, sequentially, as repaints, mixed and
            independently.
        windows: blocks evaluated per picture on the 4x4 grid; the others' loss is left out.
        neighbors: most neighbors shown in training.
        drop: share of pictures without neighbors, which makes guidance possible.
    """

    batch_size: Positive = 128
    peak_rate: Share = 1e-3
    grids: tuple[Share, Share, Share] = (0.8, 0.05, 0.15)
    situations: tuple[Share, Share, Share, Share, Share] = (0.76, 0.1, 0.06, 0.02, 0.06)
    windows: Positive = 4
    neighbors: Positive = 3
    drop: Share = 0.1

    def __post_init__(self) -> None:
        for name in ("grids", "situations"):
            if not any(getattr(self, name)):
                raise RissoleError(f"{name} must hold numbers above 0")


@dataclass(frozen=True)
class GallerySettings:
    """Settings of the stage.

    Attributes:
        count: pictures to keep, of `candidates` painted.
        order, grid, num_inference_steps, guidance_scale: as everywhere.
        near_share: share of held-out photos that lie nearer to a training photo than a picture may.
        label: what the pictures are, for people.
    """

    count: Positive = 1024
    candidates: Positive = 4096
    order: str = "parallel"
    grid: Positive = 4
    num_inference_steps: Positive = 40
    guidance_scale: Share = 1.0
    near_share: Share = 0.01
    label: str = "synthesized pictures"
